//! Which URLs there are, and what is shown of them.

use roomcast_testkit::Authority;
use rustls::RootCertStore;

use super::{Running, quick, server::Server, set};
use crate::{JwksSource, JwksUrlError, testing::EDDSA};

fn source(url: &str) -> Result<JwksSource, JwksUrlError> {
    JwksSource::from_url(url, Some(RootCertStore::empty()), quick())
}

#[test]
fn urls_that_cannot_be_used_are_refused() {
    for (url, said) in [
        ("", "not a URL"),
        ("issuer.example/keys", "not a URL"),
        ("/keys", "not a URL"),
        ("https://", "not a URL"),
        ("https://issuer.example:99999/", "not a URL"),
        ("https://issuer .example/", "not a URL"),
        ("ftp://issuer.example/", "https:// or http://"),
        ("file://localhost/etc/passwd", "https:// or http://"),
        ("https://-not-a-name-/", "neither a name nor an address"),
        ("https://user:sesame@/keys", "URL"),
    ] {
        let error = source(url).unwrap_err().to_string();
        assert!(error.contains(said), "{url:?}: {error}");
        assert!(!error.contains("sesame"), "{error}");
    }
    for url in ["https://issuer.example", "http://[::1]:8080/keys", "https://127.0.0.1/keys?a=b"] {
        assert!(source(url).is_ok(), "{url}");
    }
}

#[tokio::test]
async fn users_and_queries_are_sent_and_never_shown() {
    let server = Server::start("{}".to_owned()).await;
    let url = format!("http://alad%64in:open%20sesame@{}/keys?token=swordfish", server.addr);
    let running = Running::start(source(&url).unwrap());
    let error = running.error("no list `keys`").await;
    let (_, head) = server.requests().swap_remove(0);
    assert!(head.starts_with("GET /keys?token=swordfish HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", server.addr)), "{head}");
    // `aladdin:open sesame`
    assert!(head.contains("authorization: Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{head}");
    let shown = format!("{0} {0:?} {error} {1:?}", running.source, running.source.status());
    assert!(shown.starts_with(&format!("http://{}/keys ", server.addr)), "{shown}");
    for secret in ["alad", "sesame", "swordfish", "token="] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    roots
}

#[tokio::test]
async fn a_set_is_fetched_over_tls() {
    let authority = Authority::new("CA");
    let pair = authority.issue("127.0.0.1");
    let server = Server::start_tls(set(&[EDDSA.jwk("a")]), &pair.cert, &pair.key).await;
    let url = format!("https://{}/keys", server.addr);
    let source = JwksSource::from_url(&url, Some(roots(&authority)), quick()).unwrap();
    let running = Running::start(source);
    running.good().await;
    assert!(running.takes(&EDDSA, "a"));
}

#[tokio::test]
async fn certificates_are_judged() {
    let (authority, other) = (Authority::new("CA"), Authority::new("other"));
    let good = set(&[EDDSA.jwk("a")]);
    for (pair, trusted, error) in [
        (authority.issue("127.0.0.1"), &other, "not from a CA that is trusted"),
        (authority.issue("issuer.example"), &authority, "its certificate is not for 127.0.0.1"),
        (authority.issue_expired("127.0.0.1"), &authority, "its certificate has expired"),
    ] {
        let server = Server::start_tls(good.clone(), &pair.cert, &pair.key).await;
        let url = format!("https://{}/keys", server.addr);
        let source = JwksSource::from_url(&url, Some(roots(trusted)), quick()).unwrap();
        let running = Running::start(source);
        running.error(error).await;
        assert!(!running.source.status().is_ready());
        assert_eq!(server.requests(), []);
    }
}
