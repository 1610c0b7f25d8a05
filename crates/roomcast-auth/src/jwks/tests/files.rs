//! Key sets in files.

use std::{fs, path::Path};

use roomcast_testkit::{SOON, eventually};

use super::{Running, quick, set};
use crate::{
    JwksSource,
    testing::{EDDSA, ES256},
};

fn start(path: &Path) -> Running {
    Running::start(JwksSource::from_file(path, quick()))
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    fs::write(&path, set(&[EDDSA.jwk("a")])).unwrap();
    let running = start(&path);
    running.good().await;
    assert!(running.takes(&EDDSA, "a"));
    fs::write(&path, set(&[ES256.jwk("b")])).unwrap();
    running.knows("b").await;
    assert!(running.takes(&ES256, "b") && !running.takes(&EDDSA, "a"));
}

#[tokio::test]
async fn a_change_that_keeps_length_and_time_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    fs::write(&path, set(&[EDDSA.jwk("a")])).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let running = start(&path);
    running.good().await;
    // Replaced at once, as a mounted secret is.
    let next = dir.path().join("next");
    fs::write(&next, set(&[EDDSA.jwk("b")])).unwrap();
    fs::File::open(&next).unwrap().set_modified(time).unwrap();
    fs::rename(&next, &path).unwrap();
    running.knows("b").await;
}

#[tokio::test]
async fn the_last_good_set_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let good = set(&[EDDSA.jwk("a")]);
    fs::write(&path, &good).unwrap();
    let running = start(&path);
    running.good().await;
    for (content, error) in [
        ("", "not JSON"),
        ("{\"keys\":[]}", "none of its 0 keys"),
        (&good[..good.len() - 2], "not JSON"),
        (&" ".repeat((1 << 20) + 1), "more than 1048576"),
    ] {
        fs::write(&path, content).unwrap();
        running.error(error).await;
        assert!(running.takes(&EDDSA, "a"), "{error}");
        fs::write(&path, &good).unwrap();
        running.good().await;
    }
    fs::remove_file(&path).unwrap();
    running.error("cannot read the file: No such file").await;
    fs::create_dir(&path).unwrap();
    running.error("no regular file").await;
    assert!(running.takes(&EDDSA, "a"));
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &good).unwrap();
    running.good().await;
}

#[tokio::test]
async fn a_set_that_stays_as_it_is_does_not_age() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    fs::write(&path, set(&[EDDSA.jwk("a")])).unwrap();
    let running = start(&path);
    running.good().await;
    let first = running.source.status().last_success;
    let newer = async || (running.source.status().last_success > first).then_some(());
    eventually(SOON, "another look at the file", newer).await;
    assert_eq!(running.source.to_string(), path.display().to_string());
}

#[tokio::test]
async fn a_file_may_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let running = start(&path);
    running.error("No such file").await;
    assert!(!running.source.status().is_ready());
    fs::write(&path, set(&[EDDSA.jwk("a")])).unwrap();
    running.good().await;
}

#[tokio::test]
async fn a_file_that_stays_away_is_told_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let running = start(&path);
    running.error("No such file").await;
    let mut told = running.source.subscribe();
    // The source looks many times meanwhile.
    let silence = tokio::time::timeout(quick().file_interval * 10, told.changed()).await;
    assert!(silence.is_err(), "{:?}", running.source.status());
    let next = dir.path().join("next");
    fs::write(&next, set(&[EDDSA.jwk("a")])).unwrap();
    fs::rename(&next, &path).unwrap();
    told.changed().await.unwrap();
    assert!(told.borrow().is_ready());
}
