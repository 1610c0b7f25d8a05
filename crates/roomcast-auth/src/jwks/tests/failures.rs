//! Whatever a server does, the last good set is kept.

use serde_json::json;

use super::{
    Running, quick,
    server::{Answer, Server},
    set,
};
use crate::{
    JwksSource, TokenError,
    testing::{EDDSA, ES256, claims, now},
};

/// What the server answers with, and what is said of it.
fn bad_answers() -> Vec<(&'static str, Answer)> {
    let raw = |text: &str| Answer::Raw(text.to_owned());
    let body = |text: &str| Answer::Body(text.to_owned());
    let secret = json!({ "kty": "oct", "k": "AAAA", "kid": "s" });
    // A good set behind spaces, without a length that would tell.
    let long = " ".repeat(2 << 20) + &set(&[EDDSA.jwk("a")]);
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = format!("{head}{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    vec![
        ("not JSON", body("<html>It works!</html>")),
        ("not JSON", body("")),
        ("no list `keys`", body("{}")),
        ("none of its 0 keys", body(r#"{"keys":[]}"#)),
        ("it is a symmetric key", Answer::Body(set(&[secret]))),
        ("status 404", raw("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")),
        ("status 503", raw("HTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\n{}")),
        ("status 204", raw("HTTP/1.1 204 No Content\r\n\r\n")),
        (
            "redirect (status 302)",
            raw("HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"),
        ),
        ("broke off", raw("")),
        ("broke off", raw("SSH-2.0-OpenSSH_9.9\r\n")),
        ("broke off", raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":[")),
        ("more than 1048576", raw("HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n")),
        ("more than 1048576", Answer::Body(" ".repeat(1 << 20) + "{}")),
        ("more than 1048576", Answer::Raw(chunked)),
        ("more than 1048576", Answer::Endless),
        ("no answer within 500ms", Answer::Silence),
        ("no answer within 500ms", Answer::SlowBody),
    ]
}

#[tokio::test]
async fn the_last_good_set_is_kept() {
    let good = set(&[EDDSA.jwk("a")]);
    let server = Server::start(good.clone()).await;
    let source = JwksSource::from_url(&server.url(), None, quick()).unwrap();
    let running = Running::start(source);
    running.good().await;
    for (error, answer) in bad_answers() {
        server.answer_with(answer);
        running.error(error).await;
        assert!(running.takes(&EDDSA, "a"), "{error}");
        assert!(running.source.status().is_ready(), "{error}");
        server.answer_with(Answer::Body(good.clone()));
        running.good().await;
    }
    assert!(server.requests().iter().all(|(_, head)| head.starts_with("GET /keys HTTP/1.1\r\n")));
}

#[tokio::test]
async fn the_set_is_kept_when_the_server_is_gone() {
    let server = Server::start(set(&[EDDSA.jwk("a")])).await;
    let running = Running::start(JwksSource::from_url(&server.url(), None, quick()).unwrap());
    running.good().await;
    let before = running.source.status();
    drop(server);
    running.error("cannot connect").await;
    assert!(running.takes(&EDDSA, "a"));
    let after = running.source.status();
    assert!(after.last_success >= before.last_success);
    assert!(after.age().is_some());
}

#[tokio::test]
async fn a_server_that_fails_at_first_is_asked_again() {
    let server = Server::start("{}".to_owned()).await;
    let running = Running::start(JwksSource::from_url(&server.url(), None, quick()).unwrap());
    running.error("no list `keys`").await;
    assert!(!running.source.status().is_ready());
    assert_eq!(running.source.status().age(), None);
    let token = EDDSA.token("a", claims());
    let error = running.verifier.verify(&token, now()).unwrap_err();
    assert_eq!(error, TokenError::KeysUnavailable);
    server.answer_with(Answer::Body(set(&[EDDSA.jwk("a")])));
    running.good().await;
    assert!(running.takes(&EDDSA, "a"));
}

#[tokio::test]
async fn keys_are_rotated() {
    let server = Server::start(set(&[EDDSA.jwk("a")])).await;
    let running = Running::start(JwksSource::from_url(&server.url(), None, quick()).unwrap());
    running.knows("a").await;
    server.answer_with(Answer::Body(set(&[EDDSA.jwk("a"), ES256.jwk("b")])));
    running.knows("b").await;
    assert!(running.takes(&EDDSA, "a") && running.takes(&ES256, "b"));
    server.answer_with(Answer::Body(set(&[ES256.jwk("c")])));
    running.knows("c").await;
    assert!(!running.takes(&EDDSA, "a") && running.takes(&ES256, "c"));
}
