//! What a replica says of itself until it is gone.

use std::{
    io::{
        self,
        ErrorKind::{ConnectionRefused, ConnectionReset},
    },
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::harness::{Probe, get};

/// The time in which a signal has surely arrived.
const ARRIVAL: Duration = Duration::from_millis(500);

/// Between two questions: each takes a port of this machine for a minute.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks a replica for `/readyz` and `/metrics` all the time, until it no longer answers.
pub(super) struct Watch(JoinSet<Vec<Answer>>);

/// One answer to both questions; the last one is to a scrape only.
struct Answer {
    asked: Instant,
    ready: Option<u16>,
    scraped: u16,
    metrics: String,
}

impl Answer {
    async fn of(admin: SocketAddr) -> io::Result<Self> {
        let asked = Instant::now();
        let (ready, _) = get(admin, "/readyz").await?;
        let (scraped, metrics) = get(admin, "/metrics").await?;
        Ok(Self { asked, ready: Some(ready), scraped, metrics })
    }

    /// The value of a metric, with its labels.
    fn value(&self, metric: &str) -> usize {
        let named = |line: &str| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok();
        let value = self.metrics.lines().find_map(named);
        value.unwrap_or_else(|| panic!("no {metric} in {}", self.metrics))
    }
}

impl Watch {
    /// Begins, and has asked once when it returns.
    pub(super) async fn over(admin: SocketAddr) -> Self {
        let first = Answer::of(admin).await.expect("it answers");
        let mut task = JoinSet::new();
        task.spawn(watch(admin, first));
        Self(task)
    }

    /// It was ready until it was told to stop and never after that, answered every scrape, and
    /// counted what became of its streams, of which so many were ended.
    pub(super) async fn assert_told_the_truth(self, told: Instant, ended: usize) {
        let said = self.0.join_all().await.remove(0);
        assert!(said.iter().all(|answer| answer.scraped == 200), "a scrape was refused");
        let (before, last) = (&said[0], &said[said.len() - 1]);
        assert_eq!((before.ready, before.value("roomcast_draining")), (Some(200), 0));
        let leaving: Vec<_> = said.iter().filter(|answer| answer.asked > told + ARRIVAL).collect();
        assert!(leaving.len() > 20, "only {} answers", leaving.len());
        for answer in leaving {
            assert!(answer.ready.is_none_or(|status| status == 503), "{:?}", answer.ready);
            assert_eq!(answer.value("roomcast_draining"), 1);
            assert_eq!(answer.value("roomcast_ready"), 0);
        }
        for gauge in ["roomcast_streams", "roomcast_members", "roomcast_connections"] {
            assert!(before.value(gauge) > 0, "{gauge} at first");
            assert_eq!(last.value(gauge), 0, "{gauge} in the end");
        }
        for counter in [
            r#"roomcast_refusals_total{reason="shutting_down"}"#,
            r#"roomcast_leaves_total{cause="shutdown"}"#,
        ] {
            assert_eq!((before.value(counter), last.value(counter)), (0, ended), "{counter}");
        }
    }
}

/// Asks until nobody listens, and then once more on a connection that was accepted before: an
/// exchange that is under way is still answered, and tells how all of it ended.
async fn watch(admin: SocketAddr, first: Answer) -> Vec<Answer> {
    let mut said = vec![first];
    let mut accepted = None;
    loop {
        let (next, answer) = (Probe::open(admin).await, Answer::of(admin).await);
        match (next, answer) {
            (Ok(next), Ok(answer)) => {
                said.push(answer);
                // It came before the one that was answered.
                accepted = Some(next);
            }
            (Err(gone), _) | (_, Err(gone)) => {
                let gone = gone.kind();
                assert!(matches!(gone, ConnectionRefused | ConnectionReset), "no answer: {gone}");
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let asked = Instant::now();
    let last = accepted.expect("it answered once").ask("/metrics").await;
    let (scraped, metrics) = last.expect("an exchange under way is answered");
    said.push(Answer { asked, ready: None, scraped, metrics });
    said
}
