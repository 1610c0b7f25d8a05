use std::{net::SocketAddr, sync::atomic::AtomicU8};

use futures_util::{FutureExt as _, future};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const READY: u8 = 0;
const DEAF: u8 = 1;
const STUCK: u8 = 2;

struct Fake(AtomicU8);

impl Readiness for Fake {
    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        match self.0.load(Ordering::SeqCst) {
            READY => future::ready(Ok(())).boxed(),
            DEAF => future::ready(Err(NotReady::Deaf(Duration::from_secs(7)))).boxed(),
            _ => future::pending().boxed(),
        }
    }
}

struct Running {
    addr: SocketAddr,
    stop: CancellationToken,
    server: JoinSet<()>,
}

/// Longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

/// With so much time for an exchange, and none in which headers have to come.
async fn start(state: u8, exchange: Duration, connections: usize) -> Running {
    start_with(state, exchange, HOUR, connections).await
}

async fn start_with(
    state: u8,
    exchange: Duration,
    headers: Duration,
    connections: usize,
) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let routes = routes::router(Metrics::new(), Arc::new(Fake(AtomicU8::new(state))));
    let mut server = JoinSet::new();
    let server_of = Server { routes, exchange, headers };
    server.spawn(server_of.run(listener, connections, stop.clone()));
    Running { addr, stop, server }
}

async fn send(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn get(addr: SocketAddr, path: &str) -> String {
    send(addr, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
}

#[tokio::test]
async fn a_ready_replica() {
    let running = start(READY, EXCHANGE_TIMEOUT, CONNECTIONS).await;
    let live = get(running.addr, "/livez").await;
    assert!(live.starts_with("HTTP/1.1 200 ") && live.ends_with("\r\n\r\nalive\n"), "{live}");
    let ready = get(running.addr, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("\r\n\r\nready\n"), "{ready}");
    let metrics = get(running.addr, "/metrics").await;
    assert!(
        metrics.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(metrics.contains("\nroomcast_ready 1\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(get(running.addr, "/").await.starts_with("HTTP/1.1 404 "));
    let post = send(running.addr, "POST /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    assert!(send(running.addr, "\x16\x03\x01 no HTTP\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_replica_that_is_not_ready_lives_and_says_why() {
    let running = start(DEAF, EXCHANGE_TIMEOUT, CONNECTIONS).await;
    let ready = get(running.addr, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.ends_with("\r\n\r\ndeaf: the last canary came back 7 s ago\n"), "{ready}");
    assert!(get(running.addr, "/livez").await.starts_with("HTTP/1.1 200 "));
    assert!(get(running.addr, "/metrics").await.contains("\nroomcast_ready 0\n"));
}

#[tokio::test]
async fn a_readiness_check_that_never_ends_is_a_no() {
    let running = start(STUCK, EXCHANGE_TIMEOUT, CONNECTIONS).await;
    let ready = get(running.addr, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.ends_with("the readiness check did not end within 2 s\n"), "{ready}");
}

#[tokio::test]
async fn who_stalls_is_dropped_and_others_get_their_turn() {
    let running = start(READY, Duration::from_millis(200), 2).await;
    let mut stalled = Vec::new();
    for start in ["", "GET /metr", "POST /livez HTTP/1.1\r\ncontent-length: 9\r\n\r\nx"] {
        let mut stream = TcpStream::connect(running.addr).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    assert!(get(running.addr, "/livez").await.starts_with("HTTP/1.1 200 "));
    for mut stream in stalled {
        let mut rest = Vec::new();
        // Ended or reset, either way.
        let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn headers_come_at_once() {
    let running = start_with(READY, HOUR, Duration::from_millis(200), CONNECTIONS).await;
    for start in ["", "GET /metr"] {
        let mut stream = TcpStream::connect(running.addr).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // Ended or reset, either way.
        let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn the_silent_hold_up_nobody() {
    let running = start(READY, HOUR, 4).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(running.addr).await.unwrap());
        if silent.len().is_multiple_of(10) {
            assert!(get(running.addr, "/livez").await.starts_with("HTTP/1.1 200 "));
        }
    }
    // The first ones had to go.
    let mut rest = Vec::new();
    let first = silent.first_mut().unwrap().read_to_end(&mut rest);
    let _ = timeout(Duration::from_secs(30), first).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn who_has_the_most_makes_way() {
    let mut tasks = JoinSet::new();
    let mut open = |peer: u8, asked: bool| Open {
        peer: [192, 0, 2, peer].into(),
        asked: Arc::new(AtomicBool::new(asked)),
        exchange: tasks.spawn(future::pending::<()>()),
    };
    let mut all =
        vec![open(1, false), open(2, true), open(3, false), open(3, false), open(2, true)];
    assert_eq!(in_the_way(&all), 2, "the first of two silent ones");
    all.truncate(2);
    assert_eq!(in_the_way(&all), 0, "rather one that is silent");
    all.push(open(2, true));
    all.remove(0);
    all.insert(0, open(1, true));
    assert_eq!(in_the_way(&all), 1, "all have asked: the first one of who asks most");
}

#[tokio::test]
async fn it_ends_when_told_whoever_stalls() {
    let mut running = start(READY, EXCHANGE_TIMEOUT, CONNECTIONS).await;
    let mut stalled = TcpStream::connect(running.addr).await.unwrap();
    stalled.write_all(b"GET /livez").await.unwrap();
    get(running.addr, "/livez").await;
    running.stop.cancel();
    timeout(FAREWELL * 5, running.server.join_next()).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(running.addr).await.is_err());
}
