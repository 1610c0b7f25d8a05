//! Keeps what somebody outside can cause again and again from filling the log: of each line in the source the
//! first ones are logged, and then how many more there were.
//!
//! Lines at `debug` and `trace` were asked for, and are all logged. The audit sums up by itself, since it knows
//! whom its lines are about.

use std::{
    collections::HashMap,
    fmt,
    mem::take,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
    info,
    level_filters::LevelFilter,
    subscriber::Interest,
    warn,
};
use tracing_subscriber::layer::{Context, Filter};

use crate::room::{Rate, RateLimiter};

/// The target of lines about who came, who went and who was refused.
pub(super) const AUDIT: &str = "audit";

/// How much of each line is logged: so many at once, and then one in ten seconds.
const RATE: Rate = Rate { interval: Duration::from_secs(10), burst: 20 };

/// How often it is told how many more there were.
const INTERVAL: Duration = Duration::from_secs(10);

/// The lines of the source that were logged, and how many of each were not. There are no more than there are
/// such lines in the source.
#[derive(Clone, Default, Debug)]
pub(super) struct Throttle(Arc<Mutex<HashMap<Identifier, Line>>>);

#[derive(Debug)]
struct Line {
    bucket: RateLimiter,
    level: Level,
    /// What the first one said that was not logged.
    text: String,
    /// How many were not logged since it was last told.
    more: u64,
}

impl Throttle {
    /// Whether a line may be logged now.
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == AUDIT {
            return true;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(metadata.callsite()).or_insert_with(|| Line {
            bucket: RateLimiter::full(RATE, now),
            level: *metadata.level(),
            text: String::new(),
            more: 0,
        });
        if line.bucket.take(now).is_ok() {
            return true;
        }
        if line.more == 0 {
            event.record(&mut Text(&mut line.text));
        }
        line.more += 1;
        false
    }

    /// Tells how many more there were, every ten seconds and at the end.
    pub(super) async fn tell_until(self, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.tell();
        }
        self.tell();
    }

    pub(super) fn tell(&self) {
        let told: Vec<_> = {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let more = lines.values_mut().filter(|line| line.more > 0);
            more.map(|line| (line.level, take(&mut line.text), take(&mut line.more))).collect()
        };
        // Not under the lock, which logging takes.
        for (level, line, count) in told {
            if level == Level::INFO {
                info!(count, line, "more of such lines");
            } else {
                warn!(count, line, "more of such lines");
            }
        }
    }
}

impl<S: Subscriber> Filter<S> for Throttle {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.admits(event, Instant::now())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

/// Keeps an event's message.
struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}
