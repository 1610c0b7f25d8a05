//! Files that are of no use end the process at once, and it says which and why.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::sys::stat::Mode;

use super::{CERT, CLIENT_CA, KEY};
use crate::harness::{Authority, Finished, SOON, roomcast, run};

async fn serve(variables: &[(&str, &str)]) -> Finished {
    let mut command = roomcast(&["serve", "--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    command.envs(variables.iter().copied());
    run(command, SOON).await
}

async fn check(variables: &[(&str, &str)]) -> Finished {
    let mut command = roomcast(&["config", "check"]);
    command.envs(variables.iter().copied());
    run(command, SOON).await
}

/// Serving and checking end with exit code 1 and this one line.
async fn assert_refused(variables: &[(&str, &str)], said: &str) {
    for finished in [serve(variables).await, check(variables).await] {
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(!finished.stderr.contains("started"), "{finished:?}");
        let errors: Vec<_> =
            finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{finished:?}");
        assert!(errors[0].contains(said), "{said:?}: {finished:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_listener_are_checked_before_anything_starts() {
    let authority = Authority::new("servers");
    let good = authority.issue_files("good");
    let other = authority.issue_files("other");
    let expired = authority.write("expired", &authority.issue_expired("127.0.0.1"));
    let early = authority.write("early", &authority.issue_early("127.0.0.1"));
    let empty = authority.path("empty");
    fs::write(&empty, "").expect("write");
    let missing = authority.path("missing");
    // Nobody writes into this pipe, and nobody waits for that.
    let pipe = authority.path("pipe");
    nix::unistd::mkfifo(Path::new(&pipe), Mode::S_IRWXU).expect("make a pipe");
    let huge = authority.path("huge");
    File::create(&huge).and_then(|file| file.set_len(1 << 40)).expect("make a sparse file");
    let cases = [
        (
            &pipe,
            &good.key,
            None,
            format!("server.tls.cert_file = {pipe}: cannot be read: it is no regular file"),
        ),
        (&huge, &good.key, None, format!("{huge}: cannot be read: it has more than 4194304 bytes")),
        (
            &missing,
            &good.key,
            None,
            format!("server.tls.cert_file = {missing}: cannot be read: No such"),
        ),
        (
            &good.cert,
            &missing,
            None,
            format!("server.tls.key_file = {missing}: cannot be read: No such"),
        ),
        (&empty, &good.key, None, format!("server.tls.cert_file = {empty}: holds no certificate")),
        (&good.key, &good.key, None, "holds no certificate".to_owned()),
        (&good.cert, &good.cert, None, "server.tls.key_file = ".to_owned()),
        (&good.cert, &empty, None, format!("server.tls.key_file = {empty}: holds no private key")),
        (
            &good.cert,
            &other.key,
            None,
            format!(
                "server.tls.key_file = {}: is not the key of the certificate in \
                 server.tls.cert_file = {}",
                other.key, good.cert
            ),
        ),
        (
            &expired.cert,
            &expired.key,
            None,
            format!("{}: the certificate expired at 2", expired.cert),
        ),
        (
            &early.cert,
            &early.key,
            None,
            format!("{}: the certificate is not valid before 2", early.cert),
        ),
        (
            &good.cert,
            &good.key,
            Some(&empty),
            format!("server.tls.client_ca_file = {empty}: holds no certificate"),
        ),
        (
            &good.cert,
            &good.key,
            Some(&missing),
            format!("server.tls.client_ca_file = {missing}: cannot be read"),
        ),
    ];
    for (cert, key, client_ca, said) in cases {
        let mut variables = vec![(CERT, cert.as_str()), (KEY, key.as_str())];
        variables.extend(client_ca.map(|path| (CLIENT_CA, path.as_str())));
        assert_refused(&variables, &said).await;
    }
    let finished = check(&[(CERT, &good.cert), (KEY, &good.key)]).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), "ok"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_and_files_without_use_are_refused() {
    let authority = Authority::new("servers");
    let good = authority.issue_files("good");
    assert_refused(&[(CERT, &good.cert)], "is set, but server.tls.key_file is not").await;
    assert_refused(&[(KEY, &good.key)], "is set, but server.tls.cert_file is not").await;
    assert_refused(&[(CLIENT_CA, &good.cert)], "is set, but server.tls.cert_file is not").await;
    let ca = ("ROOMCAST_REDIS__TLS__CA_FILE", good.cert.as_str());
    let plain = ("ROOMCAST_REDIS__URL", "redis://127.0.0.1:1");
    assert_refused(&[ca, plain], "must be left out, as redis.url is not rediss://").await;
    let insecure = ("ROOMCAST_REDIS__URL", "rediss://127.0.0.1:1#insecure");
    assert_refused(&[insecure], "#insecure is not supported").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_for_redis_are_checked_before_anything_starts() {
    let authority = Authority::new("redis");
    let (good, other) = (authority.issue_files("good"), authority.issue_files("other"));
    let url = ("ROOMCAST_REDIS__URL", "rediss://127.0.0.1:1");
    let (ca, cert, key) = (
        "ROOMCAST_REDIS__TLS__CA_FILE",
        "ROOMCAST_REDIS__TLS__CERT_FILE",
        "ROOMCAST_REDIS__TLS__KEY_FILE",
    );
    let missing = authority.path("missing");
    let said = format!("redis.tls.ca_file = {missing}: cannot be read: No such");
    assert_refused(&[url, (ca, &missing)], &said).await;
    let said = format!("redis.tls.ca_file = {}: holds no certificate", good.key);
    assert_refused(&[url, (ca, &good.key)], &said).await;
    let said = format!("redis.tls.key_file = {}: is not the key", other.key);
    let files = [url, (ca, &authority.ca_file()), (cert, &good.cert), (key, &other.key)];
    assert_refused(&files, &said).await;
    // Without a CA those of the system count, and here there are none.
    let (none, no_directory) = (("SSL_CERT_FILE", good.key.as_str()), ("SSL_CERT_DIR", ""));
    let said = "this system has no root certificates; name a file that has some with redis.tls";
    assert_refused(&[url, none, no_directory], said).await;
    let said = "the root certificates of this system (SSL_CERT_FILE, SSL_CERT_DIR) cannot be read";
    assert_refused(&[url, ("SSL_CERT_FILE", &missing)], said).await;
}
