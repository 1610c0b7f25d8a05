use std::{fs, path::Path};

use roomcast_testkit::Authority;
use tempfile::TempDir;

use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

fn issue(authority: &Authority, from: i64, until: i64) -> (String, String) {
    let pair = authority.issue_around(now(), "localhost", from, until);
    (pair.cert, pair.key)
}

struct Place {
    dir: TempDir,
    files: TlsFiles,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name| PemFile { name, path: dir.path().join(name) };
        let files =
            TlsFiles { pair: Some((file("cert"), file("key"))), ca: Some(file("client_ca")) };
        Self { dir, files }
    }

    fn write(&self, (cert, key): &(String, String), ca: &str) {
        for (name, text) in [("cert", cert.as_str()), ("key", key), ("client_ca", ca)] {
            fs::write(self.path(name), text).unwrap();
        }
    }

    fn path(&self, name: &str) -> impl AsRef<Path> + use<> {
        self.dir.path().join(name)
    }

    fn look(&self, watch: &mut Watch) -> Option<Result<Built, TlsError>> {
        watch.look(self.files.read(), now())
    }
}

#[test]
fn a_change_is_taken_as_a_whole_and_what_is_bad_is_said_once() {
    let (place, authority) = (Place::new(), Authority::new("CA"));
    let first = issue(&authority, -1, 10);
    place.write(&first, &authority.pem());
    let mut watch = Watch::new(place.files.clone(), place.files.read().unwrap());
    assert!(place.look(&mut watch).is_none(), "nothing has changed");

    // One file is written before the other.
    let second = issue(&authority, -1, 20);
    fs::write(place.path("cert"), &second.0).unwrap();
    assert!(place.look(&mut watch).is_none(), "the key may follow");
    fs::write(place.path("key"), &second.1).unwrap();
    let (_, expiry) = place.look(&mut watch).expect("a change").expect("a good one");
    assert_eq!(expiry, NOW + Duration::from_secs(20 * 24 * 3600));
    assert!(place.look(&mut watch).is_none(), "nothing has changed since");

    // A bad one that stays.
    fs::write(place.path("key"), &first.1).unwrap();
    assert!(place.look(&mut watch).is_none(), "the certificate may follow");
    let error = place.look(&mut watch).expect("it did not").unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    assert!(place.look(&mut watch).is_none(), "it is said already");

    // Another one, and the files are gone after that.
    fs::write(place.path("client_ca"), "nothing").unwrap();
    assert!(place.look(&mut watch).is_none());
    assert!(place.look(&mut watch).is_some());
    fs::remove_file(place.path("key")).unwrap();
    assert!(place.look(&mut watch).is_none());
    let error = place.look(&mut watch).expect("a reason").unwrap_err();
    assert!(error.to_string().starts_with("key = "), "{error}");

    // What is in force comes back, then what is new.
    place.write(&second, &authority.pem());
    assert!(place.look(&mut watch).is_none());
    place.write(&second, &Authority::new("CA").pem());
    assert!(place.look(&mut watch).expect("other clients").is_ok());
}

#[test]
fn what_was_not_valid_yet_is_taken_once_it_is() {
    let (place, authority) = (Place::new(), Authority::new("CA"));
    place.write(&issue(&authority, -1, 10), &authority.pem());
    let mut watch = Watch::new(place.files.clone(), place.files.read().unwrap());
    place.write(&issue(&authority, 1, 10), &authority.pem());
    assert!(place.look(&mut watch).is_none());
    let error = place.look(&mut watch).expect("it stays so").unwrap_err();
    assert!(matches!(error, TlsError::NotYetValid { .. }), "{error}");
    assert!(place.look(&mut watch).is_none());
    let later = now() + Duration::from_secs(25 * 3600);
    assert!(watch.look(place.files.read(), later).expect("it is valid now").is_ok());
}
