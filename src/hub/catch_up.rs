//! Reads the log for a reader that its room's window does not reach.

use std::{convert::Infallible, sync::Arc};

use tokio::time::sleep;

use super::{
    Hub, Member, Membership,
    room::{REREAD, Room},
    slow_readers,
};

impl Membership {
    /// Reads pages of the log for as long as the reader needs them; to be run beside the session.
    pub async fn catch_up(&self) -> Infallible {
        let (member, hub) = (self.member(), self.hub());
        let mut pause = false;
        loop {
            member.log_wanted().await;
            if pause {
                // The room on this replica has yet to notice what this reader knows.
                sleep(REREAD).await;
            }
            pause = !read_page(hub, self.room(), member).await;
        }
    }
}

/// Reads the page of a room's log that a reader has asked for, if it has. False when there was nothing new, or it could
/// not be read.
pub(super) async fn read_page(hub: &Hub, room: &Arc<Room>, member: &Member) -> bool {
    let shard = hub.shard(room.name());
    let slot = hub.catch_ups.acquire(&*hub.backplane, shard).await;
    let Some(after) = member.begin_reading() else { return true };
    let limit = slow_readers::page(hub.unread.is_over());
    let page = hub.backplane.read(room.name(), after, limit).await.ok();
    drop(slot);
    let events = page.iter().flat_map(|page| &page.events);
    let bytes = events.map(|(_, event)| slow_readers::weight_of_one(event)).sum();
    let held = hub.unread.hold(bytes);
    let head = page.as_ref().and_then(|page| page.head.clone());
    hub.metrics.log_pages.inc();
    let new = member.end_reading(page, held);
    if let (false, Some(head)) = (new, head) {
        hub.report_head(room, head);
    }
    new
}
