//! The sources, each as a figment provider, with what they must not contain sorted out.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{Flag, Origin, Problem};

const PREFIX: &str = "ROOMCAST_";
/// Names the file, which is no key of it.
pub(super) const FILE_VARIABLE: &str = "ROOMCAST_CONFIG";
/// Has the token that clients show, which is no key either.
pub const TOKEN_VARIABLE: &str = "ROOMCAST_TOKEN";

/// One source: keys with their full path, all of them known.
pub(super) struct Layer {
    kind: Kind,
    pairs: Vec<(String, Value)>,
}

#[derive(Clone)]
enum Kind {
    Defaults,
    File(PathBuf),
    Variables,
    Flags(Vec<(&'static str, &'static str)>),
}

impl Kind {
    fn origin(&self, key: &str) -> Origin {
        Origin(match self {
            Self::Defaults => "default".to_owned(),
            Self::File(path) => format!("file {}", path.display()),
            Self::Variables => format!("variable {}", variable(key)),
            Self::Flags(flags) => {
                let name = flags.iter().find(|(known, _)| *known == key).map_or("", |flag| flag.1);
                format!("flag {name}")
            }
        })
    }

    /// A key as one writes it in this source.
    fn spell(&self, key: &str) -> String {
        match self {
            Self::Variables => variable(key),
            Self::Defaults | Self::File(_) | Self::Flags(_) => key.to_owned(),
        }
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

impl Layer {
    pub(super) fn defaults() -> Self {
        let dict = toml::from_str(include_str!("defaults.toml")).expect("a test parses it");
        let mut pairs = Vec::new();
        flatten("", dict, &[], &mut pairs);
        Self { kind: Kind::Defaults, pairs }
    }

    /// `None` where the file as a whole is no use.
    pub(super) fn file(
        path: &Path,
        origin: Origin,
        known: &[&'static str],
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => {
                problems.push(Problem::Unreadable { path: path.to_owned(), origin, source });
                return None;
            }
        };
        match toml::from_str(&text) {
            Ok(dict) => {
                let mut pairs = Vec::new();
                flatten("", dict, known, &mut pairs);
                Some(Self::checked(Kind::File(path.to_owned()), pairs, known, problems))
            }
            Err(error) => {
                let start = error.span().map_or(0, |span| span.start.min(text.len()));
                let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
                problems.push(Problem::Syntax {
                    path: path.to_owned(),
                    line,
                    message: error.message().to_owned(),
                });
                None
            }
        }
    }

    pub(super) fn variables(
        variables: &[(OsString, OsString)],
        known: &[&'static str],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut links = BTreeSet::new();
        let mut pairs = Vec::new();
        for (name, value) in variables {
            let Some(name) = ours(name) else { continue };
            match (name, value.to_str()) {
                (Ok(name), _) if is_service_link(name) => drop(links.insert(name.to_owned())),
                (Ok(name), Some(value)) => {
                    let key = name[PREFIX.len()..].replace("__", ".").to_ascii_lowercase();
                    if variable(&key) == name {
                        pairs.push((key, Value::from(value)));
                    } else {
                        problems.push(Problem::Unknown {
                            origin: Origin(format!("variable {name}")),
                            suggestion: suggest(&key, known).map(variable),
                            key,
                        });
                    }
                }
                (Ok(name), None) => problems.push(Problem::NotText(name.to_owned())),
                (Err(name), _) => problems.push(Problem::NotText(name)),
            }
        }
        if !links.is_empty() {
            problems.push(Problem::ServiceLinks(links.into_iter().collect()));
        }
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self::checked(Kind::Variables, pairs, known, problems)
    }

    pub(super) fn flags(flags: &[Flag]) -> Self {
        Self {
            kind: Kind::Flags(flags.iter().map(|flag| (flag.key, flag.name)).collect()),
            pairs: flags
                .iter()
                .map(|flag| (flag.key.to_owned(), Value::from(flag.value.as_str())))
                .collect(),
        }
    }

    /// Keeps the known keys and says what is wrong with the others.
    fn checked(
        kind: Kind,
        pairs: Vec<(String, Value)>,
        known: &[&'static str],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut layer = Self { kind, pairs: Vec::new() };
        for (key, value) in pairs {
            let origin = layer.kind.origin(&key);
            let inside = format!("{key}.");
            if known.contains(&key.as_str()) {
                layer.pairs.push((key, value));
            } else if let Some(example) = known.iter().find(|known| known.starts_with(&inside)) {
                if value.as_dict().is_none() {
                    let example = layer.kind.spell(example);
                    problems.push(Problem::Section { key, origin, example });
                }
            } else {
                let suggestion = suggest(&key, known).map(|key| layer.kind.spell(key));
                problems.push(Problem::Unknown { key, origin, suggestion });
            }
        }
        layer
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let kind = self.kind.clone();
        Metadata::named("roomcast").interpolater(move |_, keys| kind.origin(&keys.join(".")).0)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (key, value) in &self.pairs {
            insert(&mut dict, key, value.clone());
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// Puts a value where its full path leads. No known key leads through another.
fn insert(dict: &mut Dict, key: &str, value: Value) {
    let Some((section, rest)) = key.split_once('.') else {
        dict.insert(key.to_owned(), value);
        return;
    };
    let inner = dict.entry(section.to_owned()).or_insert_with(|| Dict::new().into());
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

/// Keys with their full path. A table is followed unless it stands where a known key wants a value.
fn flatten(prefix: &str, dict: Dict, known: &[&'static str], pairs: &mut Vec<(String, Value)>) {
    for (name, value) in dict {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Dict(_, inner) if !inner.is_empty() && !known.contains(&key.as_str()) => {
                flatten(&key, inner, known, pairs);
            }
            value => pairs.push((key, value)),
        }
    }
}

/// The name of a variable that is meant for us, or the readable part of one that cannot be.
fn ours(name: &OsStr) -> Option<Result<&str, String>> {
    let Some(text) = name.to_str() else {
        let name = name.to_string_lossy();
        return name.starts_with(PREFIX).then(|| Err(name.into_owned()));
    };
    let is_key = text.starts_with(PREFIX) && ![FILE_VARIABLE, TOKEN_VARIABLE].contains(&text);
    is_key.then_some(Ok(text))
}

/// Whether a variable is one of those that Kubernetes derives from a service called `roomcast`
/// or `roomcast-…`.
fn is_service_link(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = |rest: &str| {
        let mut parts = rest.splitn(3, '_');
        parts.next().is_some_and(digits)
            && parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part))
            && parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part))
    };
    let link = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, text)| port(&name[at + text.len()..]));
    // Between levels of ours, and in no name of a service.
    link && !name.contains("__")
}

/// The known key that was probably meant: the nearest spelling, whatever separates its parts, else one
/// that shares words with it.
fn suggest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let flat = |key: &str| key.replace('.', "_");
    let wanted = flat(key);
    let words: BTreeSet<&str> = wanted.split('_').filter(|word| word.len() > 2).collect();
    let distance = |known: &str| {
        let whole = strsim::damerau_levenshtein(&flat(known), &wanted);
        let last = known.rsplit('.').next().unwrap_or(known);
        whole.min(strsim::damerau_levenshtein(last, &wanted).saturating_add(1))
    };
    let beside = |known: &str| known.split('.').next() == wanted.split('_').next();
    let shared = |known: &str| flat(known).split('_').filter(|word| words.contains(word)).count();
    let near = known.iter().map(|known| (distance(known), *known)).min();
    let near = near.filter(|(distance, known)| *distance <= (known.len() / 4).max(2));
    let alike = || {
        let alike = known.iter().copied().filter(|known| shared(known) > 0);
        alike.min_by_key(|known| (Reverse(shared(known)), !beside(known), distance(known)))
    };
    near.map(|(_, known)| known).or_else(alike)
}
