//! Kinds of values: how each is read from what a layer holds, and how it is shown.

use std::{borrow::Cow, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use figment::value::Value;
use jiff::SignedDuration;
use tracing_subscriber::EnvFilter;

use crate::domain::Network;

/// What a value would have to be. Completes the sentence "must be …".
pub(super) struct Unfit(pub(super) Cow<'static, str>);

impl From<&'static str> for Unfit {
    fn from(allowed: &'static str) -> Self {
        Self(Cow::Borrowed(allowed))
    }
}

/// A kind of value. Variables and flags always hold text, a file may hold numbers.
pub(super) trait Setting: Sized {
    fn read(value: &Value) -> Result<Self, Unfit>;

    /// The value as `config dump` shows it.
    fn show(&self) -> toml::Value;

    /// What was given, for an error.
    fn got(value: &Value) -> String {
        match value {
            Value::String(_, text) => toml::Value::from(text.as_str()).to_string(),
            Value::Dict(..) => "a table".to_owned(),
            Value::Array(..) => "an array".to_owned(),
            other => {
                toml::Value::try_from(other).map_or_else(|_| "?".to_owned(), |v| v.to_string())
            }
        }
    }
}

/// A value that is one of a few words.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// All of them, and what each means.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Word> Setting for T {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let word = value.as_str().and_then(|it| T::WORDS.iter().find(|(word, _)| *word == it));
        word.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let mut words: Vec<_> =
                T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let last = words.pop().unwrap_or_default();
            Unfit(format!("{} or {last}", words.join(", ")).into())
        })
    }

    fn show(&self) -> toml::Value {
        let word = T::WORDS.iter().find(|(_, meaning)| meaning == self);
        word.map_or("", |(word, _)| *word).into()
    }
}

/// A value as TOML.
pub(super) fn shown(value: &impl Setting) -> String {
    value.show().to_string()
}

impl Setting for Duration {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let bare = "a duration with its unit, such as \"15s\", \"250ms\" or \"2m\": \
                    a bare number does not say which";
        let allowed = "a duration such as \"15s\", \"250ms\" or \"2m\"";
        let text = match value {
            Value::Num(..) => return Err(bare.into()),
            Value::String(_, text) => text.trim(),
            _ => return Err(allowed.into()),
        };
        if text.parse::<f64>().is_ok() {
            return Err(bare.into());
        }
        let signed = text.parse::<SignedDuration>().map_err(|_| Unfit::from(allowed))?;
        Self::try_from(signed).map_err(|_| "a duration that is not negative".into())
    }

    fn show(&self) -> toml::Value {
        SignedDuration::try_from(*self).map_or_else(|_| "?".into(), |it| format!("{it:#}").into())
    }
}

impl Setting for SocketAddr {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().unwrap_or_default();
        text.parse()
            .map_err(|_| "an IP address and a port, such as \"0.0.0.0:50051\" or \"[::]:0\"".into())
    }

    fn show(&self) -> toml::Value {
        self.to_string().into()
    }
}

impl Setting for usize {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let number = match value {
            Value::Num(_, number) => integer(*number),
            Value::String(_, text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| "a whole number".into())
    }

    fn show(&self) -> toml::Value {
        i64::try_from(*self).unwrap_or(i64::MAX).into()
    }
}

fn integer(number: figment::value::Num) -> Option<usize> {
    match (number.to_u128(), number.to_i128()) {
        (Some(number), _) => usize::try_from(number).ok(),
        (None, Some(number)) => usize::try_from(number).ok(),
        (None, None) => None,
    }
}

impl Setting for bool {
    fn read(value: &Value) -> Result<Self, Unfit> {
        match value {
            Value::Bool(_, yes) => Ok(*yes),
            Value::String(_, text) => text.trim().parse().map_err(|_| "true or false".into()),
            _ => Err("true or false".into()),
        }
    }

    fn show(&self) -> toml::Value {
        (*self).into()
    }
}

/// Addresses and networks; as text, separated by commas.
pub(super) struct Networks(pub(super) Vec<Network>);

impl Setting for Networks {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let texts: Option<Vec<&str>> = match value {
            Value::String(_, text) => {
                Some(text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect())
            }
            Value::Array(_, values) => values.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let networks = texts.and_then(|texts| texts.iter().map(|text| text.parse().ok()).collect());
        networks.map(Self).ok_or_else(|| {
            "a list of addresses and networks, such as [\"10.0.0.0/8\", \"2001:db8::1\"]".into()
        })
    }

    fn show(&self) -> toml::Value {
        self.0.iter().map(Network::to_string).collect::<Vec<_>>().into()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Bytes(pub(super) usize);

impl Setting for Bytes {
    fn read(value: &Value) -> Result<Self, Unfit> {
        const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        let text = value.as_str().unwrap_or_default().trim();
        let unit =
            UNITS.into_iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, size)));
        let bytes = match unit {
            Some((number, size)) => {
                number.trim_end().parse::<usize>().ok().and_then(|number| number.checked_mul(size))
            }
            None => usize::read(value).ok(),
        };
        bytes.map(Self).ok_or_else(|| {
            "a whole number of bytes, or one with KiB, MiB or GiB, such as \"8MiB\"".into()
        })
    }

    fn show(&self) -> toml::Value {
        self.0.show()
    }
}

impl Setting for PathBuf {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let path = value.as_str().filter(|path| !path.is_empty());
        path.map(Self::from).ok_or_else(|| "the path of a file".into())
    }

    fn show(&self) -> toml::Value {
        self.display().to_string().into()
    }
}

/// Text that appears in no log, no error and no dump. It has no `Serialize` on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Setting for Secret {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(|text| Self(text.to_owned())).ok_or_else(|| "text that is not empty".into())
    }

    fn show(&self) -> toml::Value {
        "(hidden)".into()
    }

    fn got(_: &Value) -> String {
        "(hidden)".to_owned()
    }
}

/// What the names of keys in Redis begin with. It has no character that means something in a pattern,
/// in a hash tag, or between the parts of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// The prefix, without a colon behind it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for KeyPrefix {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().unwrap_or_default();
        let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-');
        if (1..=32).contains(&text.len()) && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err("1 to 32 characters of a-z A-Z 0-9 _ -".into())
    }

    fn show(&self) -> toml::Value {
        self.0.as_str().into()
    }
}

/// Any text, but not none.
impl Setting for String {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| "a text that is not empty".into())
    }

    fn show(&self) -> toml::Value {
        self.as_str().into()
    }
}

/// Which events are logged; directives that `tracing-subscriber` has accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter itself.
    pub fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Setting for LogFilter {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().filter(|text| !text.trim().is_empty());
        text.filter(|text| EnvFilter::try_new(text).is_ok())
            .map(|text| Self(text.to_owned()))
            .ok_or_else(|| "a level or directives, such as \"info,roomcast::hub=debug\"".into())
    }

    fn show(&self) -> toml::Value {
        self.0.as_str().into()
    }
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

/// When a message counts as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Once Redis has it.
    Local,
    /// Once a replica of Redis has it too.
    Replicated,
}

impl Word for Durability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("local", Self::Local), ("replicated", Self::Replicated)];
}

/// A part of a whole, from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ratio(f64);

// It is a number: `read` refuses what is outside of the range.
impl Eq for Ratio {}

impl Ratio {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Setting for Ratio {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let number = match value {
            Value::Num(_, number) => {
                number.to_f64().or_else(|| Some(u32::try_from(integer(*number)?).ok()?.into()))
            }
            Value::String(_, text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (0.0..=1.0).contains(number))
            .map(Self)
            .ok_or_else(|| "a number from 0 to 1, such as 0.01".into())
    }

    fn show(&self) -> toml::Value {
        self.0.into()
    }
}

const HIDDEN: &str = "hidden";

/// A URL as it may be shown: without what may be a secret, which its password, query or fragment are.
pub(super) fn without_secrets(mut url: url::Url) -> String {
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return format!("{}://…", url.scheme());
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    if url.fragment().is_some() {
        url.set_fragment(Some(HIDDEN));
    }
    url.into()
}

/// The URL of a service that takes telemetry.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show().fmt(f)
    }
}

impl Endpoint {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.0.to_ascii_lowercase().starts_with("https:")
    }
}

impl Setting for Endpoint {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().unwrap_or_default();
        url::Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            // It is shown where it is told, so it must not hold a secret.
            .filter(|url| url.username().is_empty() && url.password().is_none())
            .map(|_| Self(text.to_owned()))
            .ok_or_else(|| {
                "an http:// or https:// URL without a user, such as \"http://127.0.0.1:4317\""
                    .into()
            })
    }

    fn show(&self) -> toml::Value {
        url::Url::parse(&self.0).map_or_else(|_| HIDDEN.to_owned(), without_secrets).into()
    }

    fn got(value: &Value) -> String {
        let text = value.as_str().unwrap_or_default();
        let shown = match url::Url::parse(text) {
            Ok(mut url) if url.has_host() => {
                // Where there is no password, the user may be a key.
                if !url.username().is_empty() && url.set_username(HIDDEN).is_err() {
                    return "(hidden)".to_owned();
                }
                without_secrets(url)
            }
            // It might have a secret anywhere, unless it is no more than a host and a port.
            _ if text.contains(['@', '?', '#', '/']) => return "(hidden)".to_owned(),
            _ => text.to_owned(),
        };
        toml::Value::from(shown).to_string()
    }
}
