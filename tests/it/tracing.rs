//! What a collector gets to see.

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tonic::Code;

use crate::harness::{ChatClient, Cluster, LEASE};
use crate::harness::{Collector, Dialect, SOON, Span, eventually, get};

const ENDPOINT: &str = "ROOMCAST_TELEMETRY__OTLP_ENDPOINT";
const RATIO: &str = "ROOMCAST_TELEMETRY__SAMPLE_RATIO";

/// The attributes are these.
fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(span.attribute(key).as_deref(), Some(*value), "{key} of {span:#?}");
    }
}

async fn one_on_each(cluster: &Cluster) -> [ChatClient; 3] {
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(1).enter_seen_by("bob", &mut [&mut alice]).await;
    let carol = cluster.endpoint(2).enter_seen_by("carol", &mut [&mut alice, &mut bob]).await;
    [alice, bob, carol]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_is_one_trace_through_all_replicas() {
    let collector = Collector::start().await;
    // Sampled as it is by default: a quiet service is seen as a whole.
    let plan = Cluster::redis(3).with(ENDPOINT, &collector.endpoint());
    let cluster =
        plan.with("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1,k8s.namespace.name=chat");
    let cluster = cluster.start().await;
    let [alice, mut bob, mut carol] = one_on_each(&cluster).await;
    let dave = cluster.endpoint(2).enter_seen_by("dave", &mut [&mut bob, &mut carol]).await;
    // No other message here has so many bytes.
    let content = "a message that is followed".repeat(3);
    alice.say(&content).await;
    bob.expect_said("alice", &content).await;

    let size = content.len().to_string();
    let size_fits = |it: &Span| it.attribute("messaging.message.body.size") == Some(size.clone());
    let say = collector.until("room.say", 1, size_fits).await.remove(0);
    assert_eq!((say.kind, say.parent.as_str()), (SpanKind::Producer, ""));
    let messaging = [("messaging.system", "roomcast"), ("messaging.destination.name", "lobby")];
    assert_attributes(&say, &messaging);
    assert_attributes(
        &say,
        &[("messaging.operation.name", "say"), ("messaging.operation.type", "send")],
    );
    assert_eq!(say.resource("service.name").as_deref(), Some("roomcast"));
    assert_eq!(say.resource("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(say.resource("k8s.pod.name").as_deref(), Some("pod-1"));
    assert_eq!(say.resource("k8s.namespace.name").as_deref(), Some("chat"));

    let of_trace = |span: &Span| span.trace == say.trace;
    let append = collector.until("backplane.append", 1, of_trace).await.remove(0);
    assert_eq!((append.kind, &append.parent), (SpanKind::Client, &say.id));
    assert_attributes(&append, &[("db.system.name", "redis"), ("db.operation.name", "append")]);
    assert!(say.began <= append.began && append.ended <= say.ended, "{say:?} {append:?}");

    let deliveries = collector.until("room.deliver", 3, of_trace).await;
    let id = say.attribute("messaging.message.id").expect("a position");
    let mut streams = vec![];
    for deliver in &deliveries {
        assert_eq!((deliver.kind, &deliver.parent), (SpanKind::Consumer, &say.id));
        assert_attributes(deliver, &messaging);
        assert_attributes(deliver, &[("messaging.operation.type", "process")]);
        assert_attributes(
            deliver,
            &[("messaging.message.id", &id), ("roomcast.streams.waiting", "0")],
        );
        assert!(deliver.began >= say.began && deliver.ended > deliver.began, "{deliver:?}");
        streams.push(deliver.attribute("roomcast.streams").expect("how many"));
    }
    streams.sort();
    assert_eq!(streams, ["0", "1", "2"], "alice's replica, bob's, and that of carol and dave");
    let instance = |span: &Span| span.resource("service.instance.id").expect("a replica");
    let replicas: HashSet<_> = deliveries.iter().map(instance).collect();
    assert_eq!(replicas.len(), 3, "{deliveries:#?}");
    assert!(replicas.contains(&instance(&say)));

    // From the metric that is slow to the trace that shows why.
    let (_, metrics) = get(cluster.replicas[1].admin(), "/metrics").await.expect("metrics");
    let exemplar = format!("# {{trace_id=\"{}\"}}", say.trace);
    let bucket = "roomcast_delivery_delay_seconds_bucket";
    let named = |line: &&str| line.starts_with(bucket) && line.contains(&exemplar);
    assert!(metrics.lines().any(|line| named(&line)), "no {exemplar} in {metrics}");
    drop(dave);
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_joins_in_the_trace_of_its_call_and_its_messages_point_there() {
    let collector = Collector::start().await;
    let cluster = Cluster::memory().with(ENDPOINT, &collector.endpoint()).start().await;
    let mut listener = cluster.endpoint(0).enter("listener").await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let traced = cluster.endpoint(0).in_trace(&parent).speaking(Dialect::Struct);
    let traced = traced.enter_seen_by("traced", &mut [&mut listener]).await;
    let unsampled = "1af7651916cd43dd8448eb211c80319c";
    let quiet = cluster.endpoint(0).in_trace(&format!("00-{unsampled}-b7ad6b7169203331-00"));
    let _quiet = quiet.enter_seen_by("quiet", &mut [&mut listener]).await;
    let content = "a message whose length nobody else's has";
    traced.say(content).await;
    listener.expect_said("traced", content).await;

    let of_trace = |span: &Span| span.trace == trace;
    let join = collector.until("room.join", 1, of_trace).await.remove(0);
    assert_eq!((join.kind, join.parent.as_str()), (SpanKind::Server, "b7ad6b7169203331"));
    let rpc = [("rpc.system.name", "grpc"), ("rpc.method", "chat.ChatService/ChatStream")];
    assert_attributes(&join, &rpc);
    assert_attributes(&join, &[("rpc.response.status_code", "OK")]);
    assert_attributes(&join, &[("network.peer.address", "127.0.0.1")]);
    // Its event is of the same trace.
    collector.until("room.deliver", 1, |span| span.parent == join.id).await;
    let size = Some(content.len().to_string());
    let size_fits = |it: &Span| it.attribute("messaging.message.body.size") == size;
    let say = collector.until("room.say", 1, size_fits).await.remove(0);
    assert_ne!(say.trace, trace, "a stream of a day must not be one trace");
    assert_eq!((say.parent.as_str(), say.links.as_slice()), ("", &[trace.to_owned()][..]));
    // Whoever called did not want that one recorded.
    assert!(collector.spans().iter().all(|span| span.trace != unsampled));
    // Log lines say which trace they belong to.
    let line = eventually(SOON, "a line of the audit", async || {
        let audit = cluster.replicas[0].log().with("\"target\":\"audit\"");
        audit.into_iter().find(|line| line.contains("\"user\":\"traced\""))
    })
    .await;
    assert!(line.contains(&format!("\"trace_id\":\"{trace}\"")), "{line}");
    cluster.assert_no_errors();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_is_an_answer_and_no_error() {
    let collector = Collector::start().await;
    let cluster = Cluster::memory().with(ENDPOINT, &collector.endpoint()).start().await;
    let _alice = cluster.endpoint(0).enter("alice").await;
    cluster.endpoint(0).join("alice").await.expect_end(Code::AlreadyExists).await;
    let code = |it: &Span| it.attribute("rpc.response.status_code");
    let taken = |it: &Span| code(it).as_deref() == Some("ALREADY_EXISTS");
    let join = collector.until("room.join", 1, taken).await.remove(0);
    assert_eq!(join.attribute("error.type"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_befalls_members_is_a_span_too() {
    let collector = Collector::start().await;
    let plan = Cluster::redis(2).on_one().with(ENDPOINT, &collector.endpoint()).with(RATIO, "1");
    let mut cluster = plan.start().await;
    let mut alice = cluster.endpoint(0).enter("alice").await;
    let mut bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
    bob.half_close();
    alice.expect_system("bob left").await;
    let asked = |span: &Span| span.attribute("roomcast.cause").as_deref() == Some("asked");
    let leave = collector.until("room.leave", 1, asked).await.remove(0);
    let of_leave = |span: &Span| span.parent == leave.id;
    collector.until("room.deliver", 1, of_leave).await;

    cluster.shared().kill_subscribers().await;
    let looked = |span: &Span| span.attribute("roomcast.outcome").is_some();
    collector.until("room.heal", 1, looked).await;

    // A lease that Redis forgot is taken again.
    cluster.redis_server().command::<()>(&["FLUSHALL"]).await.expect("flush");
    let retaken = |span: &Span| span.attribute("roomcast.outcome").as_deref() == Some("kept");
    collector.until("room.retake", 1, retaken).await;

    let mut witness = cluster.endpoint(1).join("witness").await;
    alice.until_heard("witness joined").await;
    cluster.replicas[0].kill();
    assert!(witness.hears("alice left", LEASE * 4).await, "{witness:?}");
    let reaped = |span: &Span| span.attribute("roomcast.reaped").as_deref() == Some("1");
    let reap = collector.until("room.reap", 1, reaped).await.remove(0);
    collector.until("room.deliver", 1, |span| span.parent == reap.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_exported_at_the_end() {
    for signals in [1, 2] {
        let collector = Collector::start().await;
        let plan = Cluster::memory().with(ENDPOINT, &collector.endpoint());
        let mut cluster = plan.with("ROOMCAST_DRAIN__DELAY", "10s").start().await;
        let mut alice = cluster.endpoint(0).enter("alice").await;
        let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
        // Else the collector is met for the first time in the last moment.
        collector.until("room.join", 1, |_| true).await;
        bob.say("the last word").await;
        alice.expect_said("bob", "the last word").await;
        cluster.replicas[0].signal(Signal::SIGTERM);
        cluster.until_unready(SOON).await;
        if signals == 2 {
            cluster.replicas[0].signal(Signal::SIGINT);
            assert_eq!(cluster.replicas[0].exit_code(SOON).await, 130);
        } else {
            assert_eq!(cluster.replicas[0].exit_code(SOON * 2).await, 0);
        }
        let said: Vec<_> =
            collector.spans().into_iter().filter(|it| it.name == "room.say").collect();
        let size = |span: &Span| span.attribute("messaging.message.body.size");
        assert!(said.iter().any(|span| size(span).as_deref() == Some("13")), "{said:#?}");
    }
}

/// Warnings about the collector in a replica's log.
fn warnings(cluster: &Cluster) -> Vec<String> {
    let warned = cluster.replicas[0].log().with("\"level\":\"WARN\"");
    warned.into_iter().filter(|line| line.contains("collector")).collect()
}

async fn counter(cluster: &Cluster, name: &str) -> u64 {
    let (_, metrics) = get(cluster.replicas[0].admin(), "/metrics").await.expect("metrics");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

const DROPPED: &str = "roomcast_spans_dropped_total";

/// A port at which connecting gets no answer at all, as behind a firewall, while this is held.
struct BlackHole {
    addr: SocketAddr,
    _socket: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    async fn dig() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let socket = socket.listen(1).expect("listen");
        let addr = socket.local_addr().expect("its address");
        // The system answers until the queue of those who wait to be accepted is full.
        let mut queued = vec![];
        while let Ok(connected) =
            timeout(Duration::from_millis(300), TcpStream::connect(addr)).await
        {
            queued.push(connected.expect("a place in the queue"));
        }
        Self { addr, _socket: socket, _queued: queued }
    }
}

/// The delays of bursts of messages, sorted, of two clusters side by side.
async fn delays(clusters: [&Cluster; 2], bursts: usize, burst: usize) -> [Vec<Duration>; 2] {
    let mut pairs = vec![];
    for cluster in clusters {
        let mut alice = cluster.endpoint(0).enter("alice").await;
        let bob = cluster.endpoint(0).enter_seen_by("bob", &mut [&mut alice]).await;
        pairs.push((alice, bob, vec![]));
    }
    for number in 0..bursts {
        for (alice, bob, delays) in &mut pairs {
            let mut said = vec![];
            for place in 0..burst {
                said.push(Instant::now());
                bob.say(&format!("message {number} {place}")).await;
            }
            for (place, said) in said.into_iter().enumerate() {
                let heard = alice.expect_said("bob", &format!("message {number} {place}")).await;
                delays.push(heard.at.saturating_duration_since(said));
            }
        }
    }
    let sorted = pairs.into_iter().map(|(.., mut delays)| {
        delays.sort();
        delays
    });
    sorted.collect::<Vec<_>>().try_into().expect("two clusters")
}

/// Nobody listens, or nobody answers, or the network swallows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_one_warning_and_no_message_any_time() {
    const BURSTS: usize = 200;
    const BURST: usize = 20;
    // Bound and not listening, so that nobody else gets the port.
    let absent = TcpSocket::new_v4().expect("a socket");
    absent.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let hole = BlackHole::dig().await;
    let untraced = Cluster::memory().start().await;
    for (kind, addr) in [
        ("absent", absent.local_addr().expect("its address")),
        ("mute", mute.local_addr().expect("its address")),
        ("swallowing", hole.addr),
    ] {
        let plan = Cluster::memory().with(ENDPOINT, &format!("http://{addr}")).with(RATIO, "1");
        let mut cluster = plan.start().await;
        let before = cluster.replicas[0].resident_bytes();
        let [traced, plain] = delays([&cluster, &untraced], BURSTS, BURST).await;
        let p99 = |delays: &[Duration]| delays[delays.len() * 99 / 100];
        let (traced, plain) = (p99(&traced), p99(&plain));
        let noise = plain * 3 + Duration::from_millis(50);
        assert!(traced <= noise, "{kind}: p99 is {traced:?}, without traces {plain:?}");
        let grown = cluster.replicas[0].resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "{kind}: grown by {grown} bytes");
        // Each message is three spans. Some thousand wait, and a batch is under way.
        let expected = (3 * BURSTS * BURST - 4096 - 512) as u64;
        let dropped = async || Some(counter(&cluster, DROPPED).await).filter(|it| *it >= expected);
        eventually(SOON, &format!("{kind}: {expected} dropped spans are counted"), dropped).await;
        assert!(counter(&cluster, "roomcast_queue_items{queue=\"spans\"}").await <= 4096);
        let warned = async || (warnings(&cluster).len() == 1).then_some(());
        eventually(SOON, &format!("{kind}: it is told once"), warned).await;
        cluster.replicas[0].signal(Signal::SIGTERM);
        assert_eq!(cluster.replicas[0].exit_code(SOON).await, 0, "{kind}");
        let log = cluster.replicas[0].log();
        eventually(SOON, "the end of its log", async || log.ended().then_some(())).await;
        assert_eq!(warnings(&cluster).len(), 1, "{kind}: {:#?}", warnings(&cluster));
        cluster.assert_no_errors();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once_whoever_is_waited_for() {
    let hole = BlackHole::dig().await;
    let endpoint = format!("http://{}", hole.addr);
    let mut cluster = Cluster::memory().with(ENDPOINT, &endpoint).start().await;
    let alice = cluster.endpoint(0).enter("alice").await;
    drop(alice);
    let told = || cluster.replicas[0].log().with("\"message\":\"stopped\"").len();
    cluster.replicas[0].signal(Signal::SIGTERM);
    // By then only the last spans are waited for.
    eventually(SOON, "it says that it has stopped", async || (told() == 1).then_some(())).await;
    cluster.replicas[0].signal(Signal::SIGINT);
    assert_eq!(cluster.replicas[0].exit_code(SOON).await, 130);
}
