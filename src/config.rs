//! What a replica is told by its operator: defaults, then a TOML file, then variables, then flags.
//!
//! `config/defaults.toml` has every key with its meaning. Nothing unknown is passed over, and
//! everything that is wrong is reported at once.

mod api;
mod auth;
mod layers;
mod problem;
mod reader;
mod redis_config;
mod redis_url;
mod sections;
mod values;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

pub use api::{ApiConfig, unfit as unfit_key};
pub use auth::{AuthConfig, DefaultRole, KeySource};
pub use layers::TOKEN_VARIABLE;
use layers::{FILE_VARIABLE, Layer};
pub use problem::{Error, Origin, Problem};
use reader::{Entry, Reader};
pub use redis_config::{RedisConfig, SentinelConfig};
pub use redis_url::{RedisKind, RedisUrl};
pub use sections::{
    AdminConfig, DrainConfig, HistoryConfig, LimitsConfig, NamesConfig, ServerConfig,
    TelemetryConfig, TlsConfig, TlsKeys,
};
pub use values::{Durability, Endpoint, KeyPrefix, LogFilter, LogFormat, Ratio, Secret};

/// Everything that can be configured. All values are within their ranges.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The gRPC listener.
    pub server: ServerConfig,
    /// The HTTP listener for operators.
    pub admin: AdminConfig,
    /// Who may come in.
    pub auth: AuthConfig,
    /// How backends are known.
    pub api: ApiConfig,
    /// What replicas share.
    pub redis: RedisConfig,
    /// How long names are held.
    pub names: NamesConfig,
    /// What one client, peer or room can take.
    pub limits: LimitsConfig,
    /// What a room remembers.
    pub history: HistoryConfig,
    /// How a replica ends.
    pub drain: DrainConfig,
    /// What a replica tells of itself.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    /// The values in force where nobody configured anything.
    fn default() -> Self {
        Self::read(&mut Reader::new(&[Layer::defaults()]))
    }
}

impl Config {
    fn read(reader: &mut Reader) -> Self {
        Self {
            server: ServerConfig::read(reader),
            admin: AdminConfig::read(reader),
            auth: AuthConfig::read(reader),
            api: ApiConfig::read(reader),
            redis: RedisConfig::read(reader),
            names: NamesConfig::read(reader),
            limits: LimitsConfig::read(reader),
            history: HistoryConfig::read(reader),
            drain: DrainConfig::read(reader),
            telemetry: TelemetryConfig::read(reader),
        }
    }
}

/// Where configuration comes from, beside the defaults. The later ones go first.
#[derive(Clone, Default, Debug)]
pub struct Sources {
    /// The TOML file. Where none is given, the variable `ROOMCAST_CONFIG` may name one.
    pub file: Option<PathBuf>,
    /// The environment; variables that do not start with `ROOMCAST_` are none of our business.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags of the command line that stand for keys.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// This process's environment, and perhaps a file.
    pub fn from_env(file: Option<&Path>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            variables: std::env::vars_os().collect(),
            flags: Vec::new(),
        }
    }

    /// The file, and who names it. A variable that is empty names none.
    fn named_file(&self) -> Option<(&Path, Origin)> {
        if let Some(path) = &self.file {
            return Some((path, Origin("flag --config".to_owned())));
        }
        let (_, path) = self.variables.iter().find(|(name, _)| name == FILE_VARIABLE)?;
        let origin = Origin(format!("variable {FILE_VARIABLE}"));
        (!path.is_empty()).then(|| (Path::new(path), origin))
    }

    /// Adds a flag, if it was given.
    #[must_use]
    pub fn flag(mut self, name: &'static str, key: &'static str, value: Option<&str>) -> Self {
        self.flags.extend(value.map(|value| Flag { name, key, value: value.to_owned() }));
        self
    }
}

/// A flag that was given.
#[derive(Clone, Debug)]
pub struct Flag {
    /// With its dashes.
    pub name: &'static str,
    /// The key that it stands for.
    pub key: &'static str,
    /// Its text.
    pub value: String,
}

/// A valid configuration, and where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values in force.
    pub config: Config,
    entries: Vec<Entry>,
}

/// Reads, merges and checks all sources.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let defaults = Layer::defaults();
    let known = known_keys(&defaults);
    let mut problems = Vec::new();
    let mut all = vec![defaults];
    if let Some((path, origin)) = sources.named_file() {
        all.extend(Layer::file(path, origin, &known, &mut problems));
    }
    all.push(Layer::variables(&sources.variables, &known, &mut problems));
    all.push(Layer::flags(&sources.flags));

    let mut reader = Reader::new(&all);
    let config = Config::read(&mut reader);
    let (entries, invalid) = reader.finish();
    problems.extend(invalid);
    if problems.is_empty() { Ok(Loaded { config, entries }) } else { Err(Error(problems)) }
}

/// The keys are those that reading asks for; there is no second list of them.
fn known_keys(defaults: &Layer) -> Vec<&'static str> {
    let mut reader = Reader::new(std::slice::from_ref(defaults));
    Config::read(&mut reader);
    reader.finish().0.into_iter().map(|entry| entry.key).collect()
}

impl Loaded {
    /// The values in force as a TOML file, each with its source; secrets are hidden.
    pub fn dump(&self) -> String {
        use std::fmt::Write as _;

        let mut text = String::new();
        let mut current = "";
        for entry in &self.entries {
            let (section, key) = entry.key.rsplit_once('.').unwrap_or(("", entry.key));
            if section != current {
                let gap = if current.is_empty() { "" } else { "\n" };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{gap}[{section}]");
                current = section;
            }
            let _ = match &entry.set {
                Some((value, origin)) => {
                    let origin = origin.to_string().replace(char::is_control, "?");
                    writeln!(text, "{key} = {value} # {origin}")
                }
                None => writeln!(text, "# {key} is not set"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests;
