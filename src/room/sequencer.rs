//! Turns a lossy live channel and a log into one gapless sequence.

use super::{Item, LogCursor};
use crate::domain::{Epoch, Head, Page, Position};

/// One room's reader: it is fed live batches, heads and pages of the log, and says what
/// comes next for the room's members and what to read.
///
/// At most one read is under way: [`Moves::read`] asks for it, [`Sequencer::page`] or
/// [`Sequencer::read_failed`] ends it.
#[derive(Debug)]
pub struct Sequencer<E> {
    at: LogCursor,
    state: State,
    parked: Vec<Parked<E>>,
    /// How much is parked, and how much may be. What does not fit is read from the log instead.
    parked_weight: usize,
    parked_events: usize,
    park_max: (usize, usize),
    weigh: fn(&E) -> usize,
    /// Events were dropped while parked full: read on to the head, once the heal is done.
    overflowed: bool,
    /// How many parked batches came before the read under way was asked for.
    before_read: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// [`Sequencer::start`] has not been called yet.
    Opening,
    Live,
    /// Readers have much to take: nothing is passed on for a moment.
    Paused,
    /// A read from the log is under way.
    Healing,
}

#[derive(Debug)]
struct Parked<E> {
    epoch: Epoch,
    first: u64,
    events: Vec<E>,
}

/// What a feed decides.
#[derive(PartialEq, Debug)]
pub struct Moves<E> {
    /// What comes next for the members, in order.
    pub items: Vec<Item<E>>,
    /// Read the log after this sequence number, and hand in the page.
    pub read: Option<u64>,
}

impl<E> Default for Moves<E> {
    fn default() -> Self {
        Self { items: Vec::new(), read: None }
    }
}

impl<E: Clone> Sequencer<E> {
    /// A feed that parks everything until it is told where it starts: as many events as `park_max` says
    /// first, up to a total weight of what it says then, as `weigh` has it.
    pub fn opening(park_max: (usize, usize), weigh: fn(&E) -> usize) -> Self {
        Self {
            at: LogCursor::unborn(),
            state: State::Opening,
            parked: Vec::new(),
            parked_weight: 0,
            parked_events: 0,
            park_max,
            weigh,
            overflowed: false,
            before_read: 0,
        }
    }

    /// The room's head at a moment when live delivery was already on: what comes after it is
    /// passed on.
    pub fn start(&mut self, head: Option<Head>) -> Moves<E> {
        self.at = head.map_or_else(LogCursor::unborn, |head| LogCursor::at_head(&head));
        self.before_read = 0;
        let mut moves = Moves::default();
        self.settle(&mut moves);
        moves
    }

    /// Events as they happened.
    pub fn live(&mut self, epoch: Epoch, first: u64, events: Vec<E>) -> Moves<E> {
        let mut moves = Moves::default();
        let batch = Parked { epoch, first, events };
        if self.state == State::Live {
            self.accept(batch, &mut moves);
        } else {
            self.park(batch);
        }
        moves
    }

    /// A renewal told where the room's head is.
    pub fn head(&mut self, head: &Head) -> Moves<E> {
        let behind = self.at.is_behind(head.position);
        if self.state == State::Live && behind { self.begin_heal() } else { Moves::default() }
    }

    /// Live delivery was interrupted: anything may have been missed.
    pub fn resumed(&mut self) -> Moves<E> {
        match self.state {
            State::Live => self.begin_heal(),
            // The read under way may have been answered before the interruption, or none is.
            State::Healing | State::Opening | State::Paused => {
                self.overflowed = true;
                Moves::default()
            }
        }
    }

    /// Passes nothing on until [`Sequencer::go_on`]; what comes meanwhile is parked. False while it is not live.
    pub fn pause(&mut self) -> bool {
        let live = self.state == State::Live;
        if live {
            self.state = State::Paused;
        }
        live
    }

    /// Ends a pause.
    pub fn go_on(&mut self) -> Moves<E> {
        let mut moves = Moves::default();
        if self.state == State::Paused {
            self.settle(&mut moves);
        }
        moves
    }

    /// The read could not be done: ask for it again.
    pub fn read_failed(&self) -> Option<u64> {
        (self.state == State::Healing).then(|| self.at.seq())
    }

    /// The page that was asked for.
    pub fn page(&mut self, page: Page<E>) -> Moves<E> {
        let mut moves = Moves::default();
        if self.state != State::Healing {
            return moves;
        }
        match self.at.page(page, &mut moves.items) {
            Some(_) => moves.read = Some(self.ask()),
            // Without a log, whatever comes will start a new one.
            None => self.settle(&mut moves),
        }
        moves
    }

    /// How far it has come.
    pub fn place(&self) -> LogCursor {
        self.at
    }

    /// Judges a batch while live.
    fn accept(&mut self, batch: Parked<E>, moves: &mut Moves<E>) {
        let at = match self.at.position() {
            None if batch.first == 1 => {
                let born = Position::new(batch.epoch, 0);
                self.at = LogCursor::after(born);
                born
            }
            Some(at) if at.epoch == batch.epoch => at,
            None | Some(_) => {
                self.park(batch);
                moves.read = self.begin_heal().read;
                return;
            }
        };
        if batch.first > at.seq + 1 {
            self.park(batch);
            moves.read = self.begin_heal().read;
            return;
        }
        self.at.settle();
        for (seq, event) in (batch.first..).zip(batch.events) {
            self.at.pass(Position::new(batch.epoch, seq), event, &mut moves.items);
        }
    }

    fn park(&mut self, batch: Parked<E>) {
        let weight: usize = batch.events.iter().map(self.weigh).sum();
        let (most, heaviest) = self.park_max;
        if self.parked_events + batch.events.len() > most || self.parked_weight + weight > heaviest
        {
            self.overflowed = true;
            return;
        }
        self.parked_events += batch.events.len();
        self.parked_weight += weight;
        self.parked.push(batch);
    }

    /// The heal is done: goes live with what was parked meanwhile.
    fn settle(&mut self, moves: &mut Moves<E>) {
        self.state = State::Live;
        let parked = std::mem::take(&mut self.parked);
        (self.parked_events, self.parked_weight) = (0, 0);
        let older = std::mem::take(&mut self.before_read);
        for (index, batch) in parked.into_iter().enumerate() {
            // What was published before the log was read is in the log, or in one that is gone.
            let stale =
                index < older && self.at.position().is_some_and(|at| at.epoch != batch.epoch);
            if stale {
                continue;
            }
            if self.state == State::Live {
                self.accept(batch, moves);
            } else {
                self.park(batch);
            }
        }
        if std::mem::take(&mut self.overflowed) && self.state == State::Live {
            moves.read = self.begin_heal().read;
        }
        // The read, if one was asked for, is still to be done: all that is parked came before it.
        self.before_read = self.parked.len();
    }

    fn begin_heal(&mut self) -> Moves<E> {
        self.state = State::Healing;
        Moves { items: Vec::new(), read: Some(self.ask()) }
    }

    fn ask(&mut self) -> u64 {
        self.before_read = self.parked.len();
        self.overflowed = false;
        self.at.seq()
    }
}

#[cfg(test)]
mod tests;
