//! What it costs to keep members who only are there, with more of them than there can be streams: they are made at the
//! backplane itself. By hand:
//!
//! ```text
//! cargo test --release --lib app::upkeep -- --ignored --nocapture
//! ```

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use roomcast_testkit as testkit;
use tokio::time::{Instant, sleep};

use super::{hub_config, shared::Shared};
use crate::{
    backplane::{Backplane, Hold, Join, conformance::props},
    config::{self, Sources},
    domain::{EventKind, ReplicaId, RoomName},
    hub::{Hub, testing::enter},
    metrics::Metrics,
    trace::Sampler,
};

/// How many join at a time.
const WAVE: usize = 2000;

/// How long it is measured: many renewals.
const MEASURED: Duration = Duration::from_secs(60);

const MEMBERS: usize = 1_000_000;

/// The CPU seconds that this process used.
fn own_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
    let millis = (usage.user_time() + usage.system_time()).num_milliseconds();
    Duration::from_millis(millis.unsigned_abs()).as_secs_f64()
}

/// The CPU seconds that a Redis used, by its own account.
async fn cpu_of(redis: &testkit::Redis) -> f64 {
    let about: String = redis.command(&["INFO", "cpu"]).await.expect("INFO");
    let seconds = |name: &str| {
        let line = about.lines().find_map(|line| line.strip_prefix(name)).expect("it tells");
        line.trim().parse::<f64>().expect("a number")
    };
    seconds("used_cpu_user:") + seconds("used_cpu_sys:")
}

/// Which part of a core Redis takes, and which this process.
async fn shares(redis: &testkit::Redis) -> [f64; 2] {
    let (before, begun) = ([cpu_of(redis).await, own_cpu()], Instant::now());
    sleep(MEASURED).await;
    let (after, seconds) = ([cpu_of(redis).await, own_cpu()], begun.elapsed().as_secs_f64());
    [0, 1].map(|of| (after[of] - before[of]) / seconds)
}

/// Has so many more join a room, for a replica.
async fn join(
    backplane: &Arc<dyn Backplane>,
    room: &RoomName,
    replica: ReplicaId,
    members: std::ops::Range<usize>,
) {
    let joins = stream::iter(members).map(|member| async move {
        let hold = Hold { replica, ..props::some_hold(room, &format!("member {member}")) };
        let joined = backplane.join(Join::new(&hold, props::event(&hold, EventKind::Joined))).await;
        joined.expect("the name is free");
    });
    joins.buffer_unordered(WAVE).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and measures CPU time"]
async fn a_million_members_are_kept_by_one_lease() {
    let redis = testkit::Redis::start_with(&["--appendonly", "no"]).await;
    let sources = Sources::default().flag("--redis-url", "redis.url", Some(&redis.url())).flag(
        "--members",
        "limits.members_per_room",
        Some(&(2 * MEMBERS).to_string()),
    );
    let config = config::load(&sources).expect("a configuration").config;
    let id = ReplicaId::from_bytes(rand::random());
    let Shared { backplane, signals, .. } =
        Shared::start(&config, id, Metrics::new()).expect("an address");
    let (metrics, sampler) = (Metrics::new(), Sampler::off());
    let hub = Hub::start(backplane.clone(), signals, id, hub_config(&config), metrics, sampler);
    let room = props::some_room();
    // By whom the room is one of the hub's.
    let _first = enter(&hub, &room, "first", Duration::ZERO).await;
    let mut members = 0;
    for count in [0, MEMBERS / 10, MEMBERS] {
        let begun = Instant::now();
        join(&backplane, &room, id, members..count).await;
        let joined = begun.elapsed();
        members = count;
        sleep(config.names.lease).await;
        let [redis_share, own_share] = shares(&redis).await.map(|share| share * 100.0);
        println!(
            "{members} members (joined in {joined:.0?}): Redis {redis_share:.2} % of a core, \
             the replica {own_share:.2} %"
        );
        let renewed = backplane.renew(backplane.partition(&room)).await.expect("Redis answers");
        assert!(renewed.held, "nobody was lost");
    }
}
