//! Bare Redis, as the rival of two replicas: how long a message takes from `PUBLISH` to a subscriber.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use redis::AsyncCommands as _;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::setup;
use crate::Error;

const CHANNEL: &str = "bench";
/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes so many messages a second, and says how many microseconds each took.
pub(super) async fn delays(rate: u32, measured: Duration) -> Result<Histogram<u32>, Error> {
    let server = setup::redis().await?;
    let mut delays = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are sound");
    exchange(&server.url(), rate, measured, &mut delays)
        .await
        .map_err(|error| Error::Start(format!("redis-server: {error}")))?;
    Ok(delays)
}

async fn exchange(
    url: &str,
    rate: u32,
    measured: Duration,
    delays: &mut Histogram<u32>,
) -> redis::RedisResult<()> {
    let client = redis::Client::open(url)?;
    let mut publisher = client.get_multiplexed_async_connection().await?;
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    let mut messages = subscription.on_message();
    let mut due = interval(Duration::from_secs(1) / rate);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    while begun.elapsed() < measured {
        due.tick().await;
        let sent = Instant::now();
        let published = publisher.publish::<_, _, ()>(CHANNEL, [b'.'; 64].as_slice());
        // The subscriber may be told before the publisher.
        let (published, heard) = tokio::join!(published, async {
            let heard = timeout(PATIENCE, messages.next()).await;
            (heard, sent.elapsed())
        });
        published?;
        if let (Ok(Some(_)), took) = heard {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            delays.saturating_record(micros.max(1));
        }
    }
    Ok(())
}
