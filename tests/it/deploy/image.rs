//! The Dockerfile, as far as it can be judged without a builder.

use std::collections::BTreeMap;

use super::{assert_accepted, path, port, read};

/// What the other files rely on.
pub(super) struct Image {
    /// Variables that the image sets.
    pub(super) environment: BTreeMap<String, String>,
    /// `uid:gid`.
    pub(super) user: String,
    exposed: Vec<u64>,
    sources: Vec<String>,
}

/// Reads the Dockerfile's instructions, with continued lines joined.
pub(super) fn image() -> Image {
    let file = read("Dockerfile").replace("\\\n", " ");
    let (_, last_stage) = file.rsplit_once("\nFROM ").expect("two stages");
    let arguments = |text: &str, instruction: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(instruction));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let environment = arguments(last_stage, "ENV ");
    let pairs = environment.iter().map(|pair| pair.split_once('=').expect("name=value"));
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    let from_context = copies.filter(|copy| !copy.starts_with("--from"));
    Image {
        environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        user: arguments(last_stage, "USER ").concat(),
        exposed: arguments(last_stage, "EXPOSE ").iter().map(|p| p.parse().unwrap()).collect(),
        sources: from_context
            .flat_map(|copy| copy.rsplit_once(' ').expect("source target").0.split_whitespace())
            .map(str::to_owned)
            .collect(),
    }
}

/// The image listens where it says that it does, on every interface.
#[test]
fn exposes_what_it_listens_on() {
    let image = image();
    let addresses =
        [&image.environment["ROOMCAST_SERVER__ADDR"], &image.environment["ROOMCAST_ADMIN__ADDR"]];
    for address in addresses {
        assert!(address.starts_with("0.0.0.0:"), "{address} cannot be reached from outside");
    }
    assert_eq!(addresses.map(|address| port(address)).to_vec(), image.exposed);
    assert_accepted(&image.environment);
}

/// Kubernetes's `runAsNonRoot` can only check a user that is a number.
#[test]
fn user_is_a_number_and_not_root() {
    let user = image().user;
    let numbers: Vec<u32> = user.split(':').map(|id| id.parse().expect("a number")).collect();
    assert!(numbers.len() == 2 && !numbers.contains(&0), "{user}");
}

/// Everything that is copied exists, and the build's context has it.
#[test]
fn context_holds_what_is_copied() {
    let ignore = read(".dockerignore");
    let sources = image().sources;
    assert!(!sources.is_empty());
    for source in sources {
        assert!(path(&source).exists(), "{source} does not exist");
        let admitted = format!("!{source}");
        assert!(ignore.lines().any(|line| line == admitted), ".dockerignore lacks {admitted}");
    }
}
