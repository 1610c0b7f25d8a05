//! Pages of a room's log, forwards and backwards, and what is gone.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    backplane::{PageLimit, Unavailable},
    domain::{Epoch, Event, Head, Page, Position},
    room::{Item, LogCursor, Lost},
};

/// How often a page is begun anew because the log went over to another epoch meanwhile.
const ROUNDS: usize = 4;

/// A log that is read, see [`crate::backplane::Backplane::read`].
pub(super) trait Log<E = Arc<Event>> {
    fn read(
        &self,
        after: u64,
        limit: PageLimit,
    ) -> impl Future<Output = Result<Page<E>, Unavailable>> + Send;
}

/// A page of what happened.
#[derive(PartialEq, Debug)]
pub(super) struct Found<E> {
    /// The events, in order.
    pub(super) events: Vec<(Position, E)>,
    /// Where the log ends. `None` when there is no log.
    pub(super) head: Option<Position>,
    /// What is gone between the position that was asked for and the events.
    pub(super) lost: Option<Lost>,
}

impl<E> Found<E> {
    /// There is no log, and what the reader knows, if anything, was in one.
    fn no_log(known: Option<Position>) -> Self {
        let lost = known.map(|after| Lost::Log { after });
        Self { events: Vec::new(), head: None, lost }
    }
}

/// How events are weighed against [`PageLimit::bytes`].
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for Arc<Event> {
    fn weight(&self) -> usize {
        self.size()
    }
}

/// Reads pages of at most this size.
#[derive(Debug)]
pub(super) struct History<'a, L> {
    pub(super) log: &'a L,
    pub(super) limit: PageLimit,
}

impl<L> History<'_, L> {
    /// The first events after a position.
    pub(super) async fn after<E>(&self, position: Position) -> Result<Found<E>, Unavailable>
    where
        L: Log<E>,
    {
        let mut place = LogCursor::claimed(position);
        let knows = place != LogCursor::unborn();
        let mut items = Vec::new();
        for _ in 0..ROUNDS {
            let page = self.log.read(place.seq(), self.limit).await?;
            let Some(head) = page.head.as_ref().map(Head::last) else {
                return Ok(Found::no_log(knows.then_some(position)));
            };
            let more = place.page(page, &mut items);
            if more.is_none() || items.iter().any(|item| matches!(item, Item::Event(..))) {
                let (events, lost) = split(items);
                return Ok(Found { events, head: Some(head), lost });
            }
        }
        Err(Unavailable)
    }

    /// The last events before a position, or of all.
    pub(super) async fn before<E: Weigh>(
        &self,
        position: Option<Position>,
    ) -> Result<Found<E>, Unavailable>
    where
        L: Log<E>,
    {
        for _ in 0..ROUNDS {
            let nothing = PageLimit { events: 0, ..self.limit };
            let Some(head) = self.log.read(0, nothing).await?.head else {
                return Ok(Found::no_log(position.filter(|it| it.seq > 1)));
            };
            let epoch = head.position.epoch;
            let (last, rolled_back) = last_before(position, &head);
            let Some(events) = self.up_to(last, epoch).await? else { continue };
            // What the log no longer has is missed by those only who know of it.
            let trimmed = (events.is_empty() && last > 0 && position.is_some())
                .then(|| Lost::Range { from: head.written_at(1), to: head.written_at(last) });
            let events = events.into_iter().map(|(seq, it)| (head.written_at(seq), it));
            let lost = trimmed.into_iter().chain(rolled_back).reduce(and);
            return Ok(Found { events: events.collect(), head: Some(head.last()), lost });
        }
        Err(Unavailable)
    }

    /// The last events up to `last`, the oldest ones left out where not all fit. `None` when the log
    /// is another one than `epoch` by now.
    async fn up_to<E: Weigh>(
        &self,
        last: u64,
        epoch: Epoch,
    ) -> Result<Option<VecDeque<(u64, E)>>, Unavailable>
    where
        L: Log<E>,
    {
        let PageLimit { events: most, mut bytes } = self.limit;
        let (mut found, mut last, mut step) = (VecDeque::new(), last, most);
        while last > 0 && found.len() < most {
            let count = step.min(most - found.len()).min(usize::try_from(last).unwrap_or(most));
            let first = last - count as u64 + 1;
            let page = self.log.read(first - 1, PageLimit { events: count, bytes }).await?;
            if page.head.is_none_or(|head| head.position.epoch != epoch) {
                return Ok(None);
            }
            // A log that no longer has the first ones gives others instead.
            let got: Vec<_> = page.events.into_iter().filter(|(seq, _)| *seq <= last).collect();
            let (Some((oldest, _)), Some((newest, _))) = (got.first(), got.last()) else { break };
            let (oldest, newest) = (*oldest, *newest);
            if newest < last && found.is_empty() {
                // Bytes cut it short at the wrong end. About as many are likely to fit.
                step = got.len().min(count / 2).max(1);
                continue;
            }
            let weight: usize = got.iter().map(|(_, event)| event.weight()).sum();
            if newest < last || (weight > bytes && !found.is_empty()) {
                break;
            }
            bytes = bytes.saturating_sub(weight);
            for event in got.into_iter().rev() {
                found.push_front(event);
            }
            if oldest > first {
                break;
            }
            last = first - 1;
        }
        Ok(Some(found))
    }
}

/// The events up to the next one that is gone, and what is gone before the first of them.
fn split<E>(items: Vec<Item<E>>) -> (Vec<(Position, E)>, Option<Lost>) {
    let (mut events, mut lost) = (Vec::new(), None);
    for item in items {
        match item {
            Item::Event(position, event) => events.push((position, event)),
            Item::Lost(_) if !events.is_empty() => break,
            Item::Lost(more) => lost = lost.into_iter().chain([more]).reduce(and),
        }
    }
    (events, lost)
}

/// All that is gone from the first one of these to the last one of those. A log that is gone takes
/// with it whatever else is.
fn and(these: Lost, those: Lost) -> Lost {
    match (these, those) {
        (Lost::Range { from, .. }, Lost::Range { to, .. }) => Lost::Range { from, to },
        (Lost::Log { after }, _) | (_, Lost::Log { after }) => Lost::Log { after },
    }
}

/// The sequence number of the last event before a position in the log that `head` belongs to, and
/// what a failover took from between them. It is the judgement of [`LogCursor`], seen from the other side.
fn last_before(position: Option<Position>, head: &Head) -> (u64, Option<Lost>) {
    let end = head.position;
    let Some(at) = position else { return (end.seq, None) };
    let last = at.seq.saturating_sub(1);
    if at.epoch == end.epoch {
        return (last.min(end.seq), None);
    }
    match head.past.iter().find(|good| good.epoch == at.epoch) {
        Some(good) if last <= good.seq => (last, None),
        Some(good) => {
            let (from, to) = (good.seq + 1, last);
            let at = |seq| Position::new(at.epoch, seq);
            (good.seq, Some(Lost::Range { from: at(from), to: at(to) }))
        }
        None => (0, (last > 0).then_some(Lost::Log { after: at })),
    }
}

#[cfg(test)]
mod tests;
