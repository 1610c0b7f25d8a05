//! The Dockerfile, as far as it can be judged without a builder.

use std::collections::BTreeMap;

use super::{assert_accepted, path, port, read};

/// What the other files rely on.
pub(super) struct Image {
    /// Variables that the image sets.
    pub(super) environment: BTreeMap<String, String>,
    /// `uid:gid`.
    pub(super) user: String,
    /// The base images of the two stages.
    bases: Vec<String>,
    exposed: Vec<u64>,
    /// The last stage's instructions, whole.
    instructions: Vec<String>,
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
        bases: ["ARG BUILDER=", "ARG RUNTIME="].map(|it| arguments(&file, it).concat()).to_vec(),
        exposed: arguments(last_stage, "EXPOSE ").iter().map(|p| p.parse().unwrap()).collect(),
        instructions: last_stage
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect(),
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

/// Signals reach the process, and the health check needs no shell: the image has none.
#[test]
fn commands_need_no_shell() {
    let instructions = image().instructions;
    let check = instructions.iter().find(|it| it.starts_with("HEALTHCHECK ")).expect("a check");
    assert!(check.ends_with(r#" CMD ["roomcast", "health"]"#), "{check}");
    for instruction in [r#"ENTRYPOINT ["roomcast"]"#, r#"CMD ["serve"]"#] {
        assert!(instructions.iter().any(|it| it == instruction), "{instruction}");
    }
    assert!(!instructions.iter().any(|it| it.starts_with("RUN ")), "the base image has no shell");
}

/// The compiler is one that the manifest allows, and builds for the libraries of the second image.
#[test]
fn base_images_fit() {
    let bases = image().bases;
    let [builder, runtime] = &bases[..] else { panic!("{bases:?}") };
    let (version, rest) = builder.strip_prefix("rust:").unwrap().split_once('-').unwrap();
    let minor = |version: &str| -> u64 { version.split('.').nth(1).unwrap().parse().unwrap() };
    assert!(minor(version) >= minor(env!("CARGO_PKG_RUST_VERSION")), "{builder}");
    // Debian 12 by its two names.
    assert!(rest.ends_with("bookworm") && runtime.contains("-debian12:"), "{builder}, {runtime}");
}

/// The labels say what this is.
#[test]
fn labels_are_the_manifests() {
    let instructions = image().instructions;
    let version = concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"));
    assert!(instructions.iter().any(|it| it == version), "{version}");
    let labels = instructions.iter().find(|it| it.starts_with("LABEL ")).expect("labels");
    for (label, value) in [
        ("version", "${VERSION}"),
        ("title", env!("CARGO_PKG_NAME")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
    ] {
        let label = format!(r#"org.opencontainers.image.{label}="{value}""#);
        assert!(labels.contains(&label), "{label} in {labels}");
    }
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
