//! Where a client writes down what becomes of it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use roomcast_proto::room as proto;

use super::record::{At, Entry, Event, EventKind, Position, Record};

/// The beginning of a test, by the clock that replicas and clients share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(SystemTime);

impl Clock {
    pub(super) fn start() -> Self {
        Self(SystemTime::now())
    }

    pub(super) fn now(self) -> At {
        self.since(SystemTime::now())
    }

    /// A moment; those before the beginning are the beginning.
    pub(super) fn since(self, moment: SystemTime) -> At {
        moment.duration_since(self.0).unwrap_or(Duration::ZERO)
    }

    /// An event as it stands in records.
    pub(super) fn event(self, event: proto::Event) -> Option<Event> {
        let time = event.time.and_then(|time| SystemTime::try_from(time).ok())?;
        let what = match event.what? {
            proto::event::What::Said(said) => EventKind::Said(said.content),
            proto::event::What::Joined(_) => EventKind::Joined,
            proto::event::What::Left(left) => EventKind::Left(left.cause()),
            proto::event::What::Moderated(_) => return None,
        };
        let position = position(event.position?);
        Some(Event { position, at: self.since(time), username: event.username, what })
    }
}

/// A position as it stands in records.
pub(super) fn position(it: proto::Position) -> Position {
    Position { epoch: it.epoch, seq: it.seq }
}

/// What everybody says last.
pub(super) const FAREWELL: &str = "that was it, says ";

/// One client's record while it is written. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Diary {
    pub(super) room: &'static str,
    pub(super) name: Arc<str>,
    pub(super) clock: Clock,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    entries: Vec<(At, Entry)>,
    /// Who was heard since the last time that somebody looked.
    heard: HashSet<String>,
    /// Whose last word was heard.
    farewells: HashSet<String>,
    there: bool,
}

impl Diary {
    pub(super) fn new(room: &'static str, name: &str, clock: Clock) -> Self {
        Self { room, name: name.into(), clock, written: Arc::default() }
    }

    pub(super) fn note(&self, entry: Entry) {
        let mut written = self.written.lock().expect("diary lock");
        match &entry {
            Entry::In { .. } | Entry::Resumed { .. } | Entry::Again { .. } => written.there = true,
            // A stream that was never in has no end.
            Entry::Away | Entry::Leaves if !written.there => return,
            Entry::Away => written.there = false,
            Entry::Event(event) => {
                written.heard.insert(event.username.clone());
                if event.content().is_some_and(|content| content.starts_with(FAREWELL)) {
                    written.farewells.insert(event.username.clone());
                }
            }
            _ => {}
        }
        written.entries.push((self.clock.now(), entry));
    }

    /// Whether it has a stream.
    pub(super) fn is_there(&self) -> bool {
        self.written.lock().expect("diary lock").there
    }

    /// Forgets whom it has heard.
    pub(super) fn prick_up(&self) {
        self.written.lock().expect("diary lock").heard.clear();
    }

    /// Which of these it has not heard since it was told to listen, or never heard the last word of.
    pub(super) fn misses<'a>(&self, names: &[&'a str], farewell: bool) -> Vec<&'a str> {
        let written = self.written.lock().expect("diary lock");
        let heard = if farewell { &written.farewells } else { &written.heard };
        names.iter().copied().filter(|name| !heard.contains(*name)).collect()
    }

    /// What was written.
    pub(super) fn record(&self) -> Record {
        let entries = self.written.lock().expect("diary lock").entries.clone();
        Record { room: self.room.to_owned(), name: self.name.to_string(), entries }
    }
}
