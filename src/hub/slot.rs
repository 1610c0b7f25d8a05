//! An item of a room's window, and how protocols write it.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::delivery::Delivery;
use crate::{
    domain::{Epoch, Event, Position},
    room::{Item, Lost},
};

/// How many encodings of events there are: those of the protocols.
pub const ENCODINGS: usize = 4;

/// How a protocol writes events. Each event is encoded once for each encoding that has readers here.
pub trait Encoder: Send + Sync + std::fmt::Debug {
    /// Which of the [`ENCODINGS`] this is.
    fn index(&self) -> usize;
    /// An event as its readers get it, framing included. Empty to leave it out.
    fn encode(&self, position: Position, event: &Event) -> Bytes;
    /// What is gone, in the same way.
    fn encode_lost(&self, lost: &Lost) -> Bytes;
}

/// An item of the room's sequence with its encodings, made when first asked for.
#[derive(Debug)]
pub(super) struct Slot {
    item: Item<Arc<Event>>,
    /// The epoch of the log when it was taken in, of which all before it is part. The event may have been
    /// written in an earlier one.
    log: Epoch,
    encoded: [OnceLock<Bytes>; ENCODINGS],
    /// While it is traced.
    delivery: RefCell<Option<Delivery>>,
}

impl Slot {
    /// The item of a log that is in this epoch, followed on its way if it is traced.
    pub(super) fn new(item: Item<Arc<Event>>, log: Epoch, delivery: Option<Delivery>) -> Self {
        Self { item, log, encoded: Default::default(), delivery: delivery.into() }
    }

    /// Where in the log as it was then this event of it is.
    pub(super) fn place(&self, position: Position) -> Position {
        Position::new(self.log, position.seq)
    }

    /// Gives up on readers that do not come to it.
    pub(super) fn end_overdue_delivery(&self) {
        self.delivery.borrow_mut().take_if(|delivery| delivery.is_overdue());
    }

    /// The item.
    pub(super) fn item(&self) -> &Item<Arc<Event>> {
        &self.item
    }

    /// The item as readers get it.
    pub(super) fn encoded(&self, encoder: &dyn Encoder) -> &Bytes {
        self.encoded[encoder.index()].get_or_init(|| encode(&self.item, encoder))
    }

    /// Whether it is followed on its way, so that every reader counts.
    pub(super) fn is_followed(&self) -> bool {
        self.delivery.borrow().is_some()
    }

    /// A reader has come past it.
    pub(super) fn pass(&self, taken: bool) {
        let mut delivery = self.delivery.borrow_mut();
        if delivery.as_mut().is_some_and(|it| it.pass(taken)) {
            *delivery = None;
        }
    }
}

/// An item as readers get it.
pub(super) fn encode(item: &Item<Arc<Event>>, encoder: &dyn Encoder) -> Bytes {
    match item {
        Item::Event(position, event) => encoder.encode(*position, event),
        Item::Lost(lost) => encoder.encode_lost(lost),
    }
}
