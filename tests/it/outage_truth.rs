//! Messages and readiness throughout an outage: nothing is lost where nothing may be, and
//! `/readyz` never claims what is not so.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{ChatClient, Cluster, Payload, ReadinessWatch, SOON, eventually, get};

/// How long a replica may take to notice that messages no longer arrive.
const NOTICES: Duration = Duration::from_secs(3);

/// How soon after an outage everything works.
const HEALED: Duration = Duration::from_secs(10);

/// A room in which somebody speaks all the time and somebody on each replica listens.
struct Experiment {
    cluster: Cluster,
    listeners: Vec<ChatClient>,
    watches: Vec<ReadinessWatch>,
    stop: CancellationToken,
    speaker: JoinSet<(ChatClient, Vec<Instant>)>,
}

/// What an experiment came to.
struct Outcome {
    /// When each message was sent.
    sent: Vec<Instant>,
    /// Messages that a listener never heard, with the number of its replica.
    missed: BTreeSet<(usize, usize)>,
    watches: Vec<ReadinessWatch>,
}

/// Says a number every few milliseconds until told to stop or its stream ends.
async fn speak(client: ChatClient, stop: CancellationToken) -> (ChatClient, Vec<Instant>) {
    let mut sent = Vec::new();
    let mut pulse = tokio::time::interval(Duration::from_millis(20));
    while stop.run_until_cancelled(pulse.tick()).await.is_some() {
        let now = Instant::now();
        if !client.offer(Payload::message("", &sent.len().to_string(), "")).await {
            break;
        }
        sent.push(now);
    }
    (client, sent)
}

impl Experiment {
    async fn begin(cluster: Cluster) -> Self {
        let mut first = cluster.endpoint(0).enter("listener 0").await;
        let mut listeners = Vec::new();
        for replica in 1..cluster.replicas.len() {
            let name = format!("listener {replica}");
            listeners.push(cluster.endpoint(replica).enter_seen_by(&name, &mut [&mut first]).await);
        }
        let speaker = cluster.endpoint(0).enter_seen_by("speaker", &mut [&mut first]).await;
        listeners.insert(0, first);
        let watches = cluster.replicas.iter().map(|it| ReadinessWatch::over(it.admin())).collect();
        let stop = CancellationToken::new();
        let mut speaking = JoinSet::new();
        speaking.spawn(speak(speaker, stop.clone()));
        let this = Self { cluster, listeners, watches, stop, speaker: speaking };
        this.all_hear_something_new(SOON).await;
        this
    }

    /// Waits until every listener has heard something that was said after this call.
    async fn all_hear_something_new(&self, within: Duration) {
        let heard = |client: &ChatClient| {
            client.record().state().counts.get("speaker").copied().unwrap_or_default()
        };
        let before: Vec<_> = self.listeners.iter().map(heard).collect();
        eventually(within, "every listener hears the speaker", async || {
            let mut now = self.listeners.iter().zip(&before);
            now.all(|(client, before)| heard(client) >= before + 5).then_some(())
        })
        .await;
    }

    /// Stops speaking, waits for what is under way, and checks order and that nobody heard of
    /// comings and goings.
    async fn end(mut self) -> (Cluster, Outcome) {
        self.stop.cancel();
        let (speaker, sent) = self.speaker.join_next().await.expect("spoke").expect("no panic");
        speaker.assert_open();
        let final_one = (sent.len() - 1).to_string();
        let mut missed = BTreeSet::new();
        for (replica, client) in self.listeners.iter().enumerate() {
            let last_came = client.record().wait(SOON, |state| {
                state.heard.iter().any(|heard| heard.content == final_one).then_some(())
            });
            assert!(
                last_came.await.is_some(),
                "the last message {final_one} is missing: {client:?}"
            );
            client.assert_open();
            let state = client.record().state();
            let said = state.heard.iter().filter(|heard| heard.username == "speaker");
            let numbers: Vec<usize> =
                said.map(|heard| heard.content.parse().expect("a number")).collect();
            let rising = numbers.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(rising, "out of order or doubled for {}", client.name());
            let arrived: BTreeSet<_> = numbers.into_iter().collect();
            let lost = (0..sent.len()).filter(|number| !arrived.contains(number));
            missed.extend(lost.map(|number| (number, replica)));
            let ours = |name: &str| name.starts_with("listener") || name.starts_with("speaker");
            let left = state.heard.iter().find(|heard| {
                heard.username == "System"
                    && heard.content.ends_with(" left")
                    && ours(&heard.content)
            });
            assert!(left.is_none(), "told of somebody who was there throughout: {left:?}");
        }
        (self.cluster, Outcome { sent, missed, watches: self.watches })
    }
}

impl Outcome {
    /// A message that was missed is one that the speaker's or the listener's replica did not
    /// claim to deliver.
    fn assert_readiness_told_the_truth(&self) {
        for (number, replica) in &self.missed {
            let claimed =
                |replica: usize| self.watches[replica].claimed_ready(self.sent[*number], NOTICES);
            let lied = claimed(0) && claimed(*replica);
            assert!(!lied, "ready around message {number}, which replica {replica} missed");
        }
    }

    fn assert_nothing_missed(&self) {
        assert!(self.missed.is_empty(), "missed of {}: {:?}", self.sent.len(), self.missed);
    }

    fn assert_denied(&self, from: Instant, to: Instant) {
        for (replica, watch) in self.watches.iter().enumerate() {
            assert!(watch.denied_between(from, to), "replica {replica} claimed to be ready");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted_empty_heals_and_readiness_is_true() {
    let mut experiment = Experiment::begin(Cluster::redis(3).alone().start().await).await;
    experiment.cluster.shared().kill();
    let away = Instant::now();
    experiment.cluster.until_unready(NOTICES).await;
    experiment.cluster.shared().restart_empty().await;
    let back = Instant::now();
    experiment.cluster.until_ready(HEALED).await;
    experiment.all_hear_something_new(HEALED.saturating_sub(back.elapsed())).await;
    let (_cluster, outcome) = experiment.end().await;
    outcome.assert_denied(away, back);
    outcome.assert_readiness_told_the_truth();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cut_off_for_three_seconds_costs_no_message() {
    let experiment = Experiment::begin(Cluster::redis(3).proxied().alone().start().await).await;
    experiment.cluster.proxies.iter().for_each(crate::harness::FaultProxy::cut);
    let away = Instant::now();
    // The cut itself.
    tokio::time::sleep(Duration::from_secs(3)).await;
    experiment.cluster.proxies.iter().for_each(crate::harness::FaultProxy::restore);
    let back = Instant::now();
    experiment.all_hear_something_new(HEALED).await;
    experiment.cluster.until_ready(HEALED.saturating_sub(back.elapsed())).await;
    let (_cluster, outcome) = experiment.end().await;
    outcome.assert_denied(away, back);
    outcome.assert_nothing_missed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_way_to_redis_costs_no_message() {
    let experiment = Experiment::begin(Cluster::redis(3).proxied().alone().start().await).await;
    experiment.cluster.proxies.iter().for_each(crate::harness::FaultProxy::freeze);
    let away = Instant::now();
    experiment.cluster.until_unready(Duration::from_secs(4)).await;
    let noticed = Instant::now();
    experiment.cluster.proxies.iter().for_each(crate::harness::FaultProxy::restore);
    experiment.all_hear_something_new(HEALED).await;
    experiment.cluster.until_ready(HEALED).await;
    let (_cluster, outcome) = experiment.end().await;
    outcome.assert_denied(away, noticed);
    outcome.assert_nothing_missed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_subscribers_cost_no_message() {
    let mut experiment = Experiment::begin(Cluster::redis(3).alone().start().await).await;
    for _ in 0..5 {
        // What was under way before the last kill may be heard before anybody has subscribed again.
        eventually(HEALED, "a subscriber to kill", async || {
            let killed = experiment.cluster.shared().kill_subscribers().await;
            (killed > 0).then_some(())
        })
        .await;
        experiment.all_hear_something_new(HEALED).await;
    }
    experiment.cluster.until_ready(HEALED).await;
    let (cluster, outcome) = experiment.end().await;
    outcome.assert_nothing_missed();
    outcome.assert_readiness_told_the_truth();
    drop(cluster);
}

/// However many ask at once, there is one canary, and all are told the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_ask_at_once_are_told_the_truth_by_one_canary() {
    let mut cluster = Cluster::redis(1).on_one().start().await;
    let published = async |cluster: &mut Cluster| {
        let info: String =
            cluster.redis_server().command(&["INFO", "commandstats"]).await.expect("INFO");
        let calls = info.lines().find_map(|it| it.strip_prefix("cmdstat_spublish:calls="));
        let calls = calls.and_then(|it| it.split_once(',')).expect("canaries");
        calls.0.parse::<u32>().expect("a number")
    };
    let before = published(&mut cluster).await;
    let admin = cluster.replicas[0].admin();
    let asked =
        (0..200).map(|asker| get(admin, if asker % 2 == 0 { "/readyz" } else { "/metrics" }));
    for answer in futures_util::future::join_all(asked).await {
        let (status, text) = answer.expect("an answer");
        assert!(status == 200 && !text.contains("roomcast_ready 0"), "{status}: {text}");
    }
    let sent = published(&mut cluster).await - before;
    assert!(sent < 100, "{sent} canaries for 200 who ask at once");
}

/// Commands work, but nobody may subscribe: a replica that hears nothing must not say that it is
/// ready, and heals when it may again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_replica_is_not_ready() {
    let mut cluster = Cluster::redis(2).on_one().start().await;
    let redis = cluster.redis_server();
    let denied = ["ACL", "SETUSER", "default", "-@pubsub", "+spublish"];
    redis.command::<String>(&denied).await.expect("ACL");
    // Rights are looked at per command: those who have subscribed must do so again.
    redis.kill_subscribers().await;
    cluster.until_unready(SOON).await;
    let allowed = ["ACL", "SETUSER", "default", "+@all"];
    cluster.redis_server().command::<String>(&allowed).await.expect("ACL");
    cluster.until_ready(SOON).await;
}
