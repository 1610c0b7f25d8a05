//! What can be wrong with a configuration.

use std::{fmt, io, path::PathBuf};

/// All that is wrong, one line each.
#[derive(Debug)]
pub struct Error(pub Vec<Problem>);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// One thing that is wrong. Secrets never appear in it.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file that was named cannot be read.
    #[error("cannot read {} ({origin}): {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: Origin,
        /// Why not.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key} ({origin}){}", hint(suggestion.as_deref()))]
    Unknown {
        /// Its full path.
        key: String,
        /// Where it is.
        origin: Origin,
        /// One that does, written as in that source.
        suggestion: Option<String>,
    },
    /// A section was given a value.
    #[error("{key} ({origin}) is a section with keys of its own, such as {example}")]
    Section {
        /// The section.
        key: String,
        /// Where it is.
        origin: Origin,
        /// One of its keys, written as in that source.
        example: String,
    },
    /// Variables that Kubernetes made up from services.
    #[error(
        "variables that Kubernetes derives from services look like configuration: {}; \
         set enableServiceLinks: false in the pod's spec",
        .0.join(", ")
    )]
    ServiceLinks(Vec<String>),
    /// A variable whose name or value is no text.
    #[error("variable {0} is not valid UTF-8")]
    NotText(String),
    /// A value that its key does not take.
    #[error("{key} = {got} ({origin}): must be {allowed}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What was given, as far as it may be shown.
        got: String,
        /// Where.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// Two keys that exclude each other.
    #[error("{first} ({first_origin}) and {second} ({second_origin}) exclude each other")]
    Conflict {
        /// One.
        first: &'static str,
        /// Where it is set.
        first_origin: Origin,
        /// The other.
        second: &'static str,
        /// Where that is set.
        second_origin: Origin,
    },
    /// A key that means nothing without another.
    #[error("{key} ({origin}) is set, but {needs} is not")]
    Alone {
        /// The key.
        key: &'static str,
        /// Where it is set.
        origin: Origin,
        /// What has to be set too.
        needs: &'static str,
    },
}

fn hint(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean {key}?"),
        None => "; roomcast config dump lists all keys".to_owned(),
    }
}

/// Where a value comes from, for people: `default`, `file /etc/roomcast.toml`,
/// `variable ROOMCAST_NAMES__LEASE` or `flag --addr`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin(pub(super) String);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
