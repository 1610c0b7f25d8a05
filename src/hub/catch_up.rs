//! Reads the log for a reader that its room's window does not reach.

use std::convert::Infallible;

use tokio::time::sleep;

use super::{Membership, room::REREAD, slow_readers};

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
            let shard = hub.shard(self.room().name());
            let slot = hub.catch_ups.acquire(&*hub.backplane, shard).await;
            let Some(after) = member.begin_reading() else {
                pause = false;
                continue;
            };
            let limit = slow_readers::page(hub.unread.is_over());
            let page = hub.backplane.read(self.room().name(), after, limit).await.ok();
            drop(slot);
            let events = page.iter().flat_map(|page| &page.events);
            let bytes = events.map(|(_, event)| slow_readers::weight_of_one(event)).sum();
            let held = hub.unread.hold(bytes);
            let head = page.as_ref().and_then(|page| page.head.clone());
            hub.metrics.log_pages.inc();
            pause = !member.end_reading(page, held);
            if let (true, Some(head)) = (pause, head) {
                hub.report_head(self.room(), head);
            }
        }
    }
}
