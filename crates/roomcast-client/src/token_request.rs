//! Calls of what gets a token, which may be slow, fail, panic or never end.

use roomcast_common::text::sanitise;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    access_token::AccessToken,
    token_source::{Gotten, TokenSource},
};

/// Calls a source, one call at a time, each in a task of its own and in bounded time.
pub(super) struct TokenRequests {
    source: TokenSource,
    /// At most one task. One that was aborted is there until it has really ended.
    call: JoinSet<Gotten>,
    /// When the call under way is given up.
    deadline: Option<Instant>,
}

impl TokenRequests {
    pub(super) fn new(source: TokenSource) -> Self {
        Self { source, call: JoinSet::new(), deadline: None }
    }

    /// Whether a call is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.deadline.is_some()
    }

    /// Calls, unless a call is under way.
    pub(super) fn begin(&mut self) {
        if self.deadline.is_some() {
            return;
        }
        self.deadline = Some(Instant::now() + self.source.patience());
        while self.call.try_join_next().is_some() {}
        self.spawn();
    }

    fn spawn(&mut self) {
        // One that blocks its thread in spite of being aborted shall not block a second one.
        if self.call.is_empty() {
            self.call.spawn(self.source.clone().get());
        }
    }

    /// What the call under way comes to, or why there is no token; never, where there is none. Loses nothing
    /// when dropped.
    pub(super) async fn outcome(&mut self) -> Result<AccessToken, String> {
        let Some(deadline) = self.deadline else { return std::future::pending().await };
        loop {
            let outcome = tokio::select! {
                Some(joined) = self.call.join_next() => match joined {
                    Ok(gotten) => gotten.map_err(|error| sanitise(&error.to_string())),
                    Err(error) if error.is_panic() => Err("what gets it panicked".to_owned()),
                    Err(_) => {
                        self.spawn();
                        continue;
                    }
                },
                () = sleep_until(deadline) => {
                    self.call.abort_all();
                    let within = self.source.patience();
                    Err(format!("there was none within {within:?}"))
                }
            };
            self.deadline = None;
            return outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        time::Duration,
    };

    use super::*;

    /// A source whose calls, by their number from 0, do this.
    fn requests<T>(call: impl Fn(usize) -> T + Send + Sync + 'static) -> TokenRequests
    where
        T: Future<Output = Result<AccessToken, String>> + Send + 'static,
    {
        let calls = Arc::new(AtomicUsize::new(0));
        let source = TokenSource::new(move || call(calls.fetch_add(1, Relaxed)));
        TokenRequests::new(source.within(Duration::from_secs(3)))
    }

    async fn asked(requests: &mut TokenRequests) -> Result<AccessToken, String> {
        requests.begin();
        requests.outcome().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_may_fail_panic_and_hang() {
        let mut requests = requests(|number| async move {
            match number {
                0 => Err("the\nserver is away".to_owned()),
                1 => panic!("a bug"),
                2 => std::future::pending().await,
                _ => Ok(AccessToken::parse(&number.to_string()).expect("a token")),
            }
        });
        assert_eq!(asked(&mut requests).await, Err(sanitise("the\nserver is away")));
        assert_eq!(asked(&mut requests).await, Err("what gets it panicked".to_owned()));
        assert_eq!(asked(&mut requests).await, Err("there was none within 3s".to_owned()));
        let token = AccessToken::parse("3").expect("a token");
        assert_eq!(asked(&mut requests).await, Ok(token));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_when_nobody_waits() {
        let mut requests = requests(|number| async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(AccessToken::parse(&number.to_string()).expect("a token"))
        });
        requests.begin();
        let early = tokio::time::timeout(Duration::from_secs(1), requests.outcome()).await;
        assert!(early.is_err(), "{early:?}");
        let token = AccessToken::parse("0").expect("a token");
        assert_eq!(asked(&mut requests).await, Ok(token));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn one_that_blocks_its_thread_is_not_called_twice() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        static OPEN: AtomicUsize = AtomicUsize::new(0);
        let source = TokenSource::new(async || {
            CALLS.fetch_add(1, Relaxed);
            while OPEN.load(Relaxed) == 0 {
                std::thread::yield_now();
            }
            AccessToken::parse("late")
        });
        let mut requests = TokenRequests::new(source.within(Duration::from_millis(50)));
        for _ in 0..2 {
            asked(&mut requests).await.expect_err("it blocks");
        }
        let calls = CALLS.load(Relaxed);
        // Before anything can fail: the runtime waits for its threads.
        OPEN.store(1, Relaxed);
        assert_eq!(calls, 1);
        let mut requests = TokenRequests {
            source: requests.source.clone().within(Duration::from_secs(10)),
            ..requests
        };
        assert!(asked(&mut requests).await.is_ok());
    }
}
