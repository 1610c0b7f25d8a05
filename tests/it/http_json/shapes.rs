//! Requests that are no calls, or that are written in an unusual way.

use super::{JSON, KICK, LIST_MEMBERS, over_http2};
use crate::harness::{
    Cluster,
    http1::{Http1, post},
};

/// Path, headers and JSON of a request; HTTP status, code, and something of the text of the error.
type Row<'a> = (&'a str, &'a [&'a str], &'a str, u16, &'a str, &'a str);

const DEN: &str = r#"{"room":"den"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_call_is_told_why() {
    let cluster = Cluster::memory().start().await;
    let addr = cluster.replicas[0].grpc();
    let large = format!(r#"{{"room":"{}"}}"#, "x".repeat(17 * 1024));
    let list = LIST_MEMBERS;
    let rows: [Row<'_>; 12] = [
        (list, &[], r#"{"rome":"den"}"#, 400, "invalid_argument", "rome"),
        (list, &[], r#"{"room":"#, 400, "invalid_argument", "EOF"),
        (list, &[], "", 400, "invalid_argument", "empty"),
        (list, &[], r#"{"room":"no room"}"#, 400, "invalid_argument", "room"),
        (KICK, &[], r#"{"room":"den","username":"a","sub":"b"}"#, 400, "invalid_argument", ""),
        (list, &[], &large, 429, "resource_exhausted", "16384"),
        (list, &["content-encoding: br"], DEN, 501, "unimplemented", "br"),
        (list, &["connect-protocol-version: 2"], DEN, 400, "invalid_argument", "version"),
        (list, &["connect-timeout-ms: soon"], DEN, 400, "invalid_argument", "timeout"),
        ("/roomcast.v1.RoomService/Nothing", &[], "{}", 404, "unimplemented", "method"),
        ("/roomcast.v1.RoomService/Connect", &[], "{}", 501, "unimplemented", "stream"),
        ("/chat.ChatService/ChatStream", &[], "{}", 501, "unimplemented", "stream"),
    ];
    for (path, headers, json, status, code, text) in rows {
        let answer = Http1::open(addr).await.post(path, headers, json).await;
        let (got, named, told) = answer.error();
        assert_eq!((got, &*named), (status, code), "{path} {headers:?} {json:.40}: {answer:?}");
        assert!(told.contains(text), "{path} {headers:?} {json:.40}: {told}");
        let headers = headers.iter().filter_map(|it| it.split_once(": "));
        let headers: Vec<_> = [JSON].into_iter().chain(headers).collect();
        let (over_http2, body) = over_http2(&cluster, path, &headers, json.as_bytes()).await;
        assert_eq!((over_http2, &*body), (status, answer.body.as_bytes()), "the same over HTTP/2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_content_types_and_encodings_that_are_taken_are_named() {
    let cluster = Cluster::memory().start().await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let request = format!("{method} {LIST_MEMBERS} HTTP/1.1\r\nhost: x\r\norigin: x\r\n\r\n");
        let answer = client.ask(request).await;
        assert_eq!((answer.status, &*answer.headers["allow"]), (405, "POST"), "{method}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
    }
    let typed = |kind: &str| post(LIST_MEMBERS, &[], DEN).replace("application/json", kind);
    for other in ["text/plain", "application/grpc-web", "application/json; charset=latin1"] {
        let answer = client.ask(typed(other)).await;
        let accepted = &*answer.headers["accept-post"];
        assert_eq!(answer.status, 415, "{other}");
        assert_eq!(accepted, "application/json, application/proto, application/grpc");
    }
    let answer = client.post(LIST_MEMBERS, &["content-encoding: zstd"], DEN).await;
    assert_eq!(answer.headers["accept-encoding"], "gzip, identity");
    let answer = client.ask(typed("application/grpc")).await;
    assert_eq!(answer.status, 505, "{answer:?}");
    assert!(answer.body.contains("HTTP/2"), "{answer:?}");
    assert_eq!(client.post(LIST_MEMBERS, &[], DEN).await.status, 200, "the connection is good");
}

/// However a body is sent, and whatever is asked at once, each request has its answer in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_and_pipelines_are_read() {
    let cluster = Cluster::memory().start().await;
    let mut client = Http1::open(cluster.replicas[0].grpc()).await;
    let head = format!(
        "POST {LIST_MEMBERS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunked = format!("{head}5\r\n{{\"roo\r\n9;x=y\r\nm\":\"den\"}}\r\n0\r\nx-late: 1\r\n\r\n");
    for byte in chunked.as_bytes().chunks(7) {
        client.send(byte).await;
    }
    assert_eq!(client.answer().await.status, 200);
    let bad = post(LIST_MEMBERS, &[], "{");
    client.send([&*chunked, &bad, &chunked, &bad].concat()).await;
    let mut answers = vec![];
    for _ in 0..4 {
        answers.push(client.answer().await.status);
    }
    assert_eq!(answers, [200, 400, 200, 400]);
    // Without an end it is not read for ever.
    let endless = format!("{head}{}", format!("1000\r\n{}\r\n", " ".repeat(0x1000)).repeat(5));
    let (status, code, _) = client.ask(endless).await.error();
    assert_eq!((status, &*code), (429, "resource_exhausted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_ambiguous_requests_end_their_connection() {
    let cluster = Cluster::memory().start().await;
    let addr = cluster.replicas[0].grpc();
    let old = post(LIST_MEMBERS, &[], DEN).replace("HTTP/1.1", "HTTP/1.0");
    // One that has two lengths goes by its chunks, and what comes behind it is no request of anybody.
    let both = post(LIST_MEMBERS, &["transfer-encoding: chunked"], "")
        .replace("content-length: 0", "content-length: 4")
        + "e\r\n{\"room\":\"den\"}\r\n0\r\n\r\n";
    for request in [old, both] {
        let mut client = Http1::open(addr).await;
        client.send(format!("{request}{}", post(KICK, &[], "{}"))).await;
        assert_eq!(client.answer().await.status, 200, "{request}");
        client.until_closed().await;
    }
    let plain = post(LIST_MEMBERS, &[], DEN);
    for bad in [
        "\r\nnonsense\r\n\r\n".to_owned(),
        plain.replace("content-length: 14", "content-length: 14\r\ncontent-length: 15"),
        plain.replace("content-length: 14", "content-length: -1"),
        plain.replace("content-length: 14", "transfer-encoding: gzip"),
        plain.replace("host: x", "host : x"),
        plain.replace("HTTP/1.1", "HTTP/3.0"),
    ] {
        let mut client = Http1::open(addr).await;
        assert_eq!(client.ask(&bad).await.status, 400, "{bad}");
        client.until_closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_have_a_bound() {
    let cluster = Cluster::memory().start().await;
    let addr = cluster.replicas[0].grpc();
    let header = format!("x-long: {}", "x".repeat(8 * 1024));
    let answer = Http1::open(addr).await.post(LIST_MEMBERS, &[&header], DEN).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let many = vec!["x: y"; 200];
    for headers in [&[&*header; 3][..], &many] {
        let mut client = Http1::open(addr).await;
        let answer = client.post(LIST_MEMBERS, headers, DEN).await;
        assert_eq!(answer.status, 431, "{answer:?}");
        client.until_closed().await;
    }
}
