//! What a client does, whichever library it is written with.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    diary::{Diary, FAREWELL},
    record::Entry,
};
use crate::harness::Endpoint;

/// Tells everybody what to do.
#[derive(Clone, Debug)]
pub(super) struct Cues {
    /// To say the last word.
    pub(super) farewell: CancellationToken,
    /// To stop, without leaving.
    pub(super) stop: CancellationToken,
    /// To leave.
    pub(super) leave: CancellationToken,
}

impl Cues {
    pub(super) fn new() -> Self {
        let [farewell, stop, leave] = [(); 3].map(|()| CancellationToken::new());
        Self { farewell, stop, leave }
    }
}

/// One client's way in, what it writes, and what it says.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) endpoint: Endpoint,
    pub(super) diary: Diary,
    pub(super) cues: Cues,
    pub(super) speech: Speech,
}

/// What a client says: something new at every tick, no two clients the same, and a last word.
#[derive(Debug)]
pub(super) struct Speech {
    pace: Interval,
    farewell: CancellationToken,
    said: u64,
    over: bool,
}

impl Speech {
    pub(super) fn new(every: Duration, cues: &Cues) -> Self {
        let mut pace = interval(every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pace, farewell: cues.farewell.clone(), said: 0, over: false }
    }

    /// What to say next, when it is time to. After the last word there is none. Can be cancelled.
    pub(super) async fn next(&mut self, diary: &Diary) -> String {
        if self.over {
            std::future::pending::<()>().await;
        }
        let content = tokio::select! {
            biased;
            () = self.farewell.cancelled() => {
                self.over = true;
                format!("{FAREWELL}{}", diary.name)
            }
            _ = self.pace.tick() => {
                self.said += 1;
                format!("{} {}", diary.name, self.said)
            }
        };
        diary.note(Entry::Asks(content.clone()));
        content
    }
}
