//! What `/readyz` said, and when.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::get;

/// Asks one replica for its readiness all the time.
#[derive(Debug)]
pub(crate) struct ReadinessWatch {
    said: Arc<Mutex<Vec<Answer>>>,
    _task: JoinSet<()>,
}

/// One answer; not to answer counts as not ready.
#[derive(Clone, Copy, Debug)]
struct Answer {
    asked: Instant,
    answered: Instant,
    ready: bool,
}

impl ReadinessWatch {
    /// Begins to ask the admin port at this address.
    pub(crate) fn over(admin: SocketAddr) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&said);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let asked = Instant::now();
                let ready = get(admin, "/readyz").await.is_ok_and(|(status, _)| status == 200);
                let answer = Answer { asked, answered: Instant::now(), ready };
                to.lock().expect("readiness lock").push(answer);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { said, _task: task }
    }

    /// Whether it claimed to be ready when a message was sent: its last answer before and all
    /// its answers for `afterwards` were that it was, `afterwards` being what it may take it to
    /// notice.
    pub(crate) fn claimed_ready(&self, sent: Instant, afterwards: Duration) -> bool {
        let said = self.said.lock().expect("readiness lock");
        let before = said.iter().rev().find(|answer| answer.answered <= sent);
        let mut after =
            said.iter().filter(|answer| answer.asked >= sent && answer.asked < sent + afterwards);
        before.is_some_and(|answer| answer.ready) && after.all(|answer| answer.ready)
    }

    /// Whether it said, between these two moments, that it was not ready.
    pub(crate) fn denied_between(&self, from: Instant, to: Instant) -> bool {
        let said = self.said.lock().expect("readiness lock");
        said.iter().any(|answer| !answer.ready && answer.answered >= from && answer.asked <= to)
    }
}
