//! Where the shared Redis is.

use std::fmt;

use figment::value::Value;
use url::Url;

use super::values::{Setting, Unfit, without_secrets};

const FORM: &str = "redis://[user[:password]@]host[:port][/database], or rediss:// for TLS";

/// A `redis://` or `rediss://` URL. Its password shows neither in `Debug` nor in `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Url);

impl RedisUrl {
    /// The whole URL, password included.
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the URL asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "rediss"
    }

    /// Whether the URL has a password.
    pub fn has_password(&self) -> bool {
        self.0.password().is_some()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(self.0.clone()))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Setting for RedisUrl {
    fn read(value: &Value) -> Result<Self, Unfit> {
        let text = value.as_str().unwrap_or_default();
        let url = Url::parse(text).map_err(|_| form())?;
        match url.scheme() {
            "redis" | "rediss" => {}
            scheme @ ("redis+cluster" | "redis+sentinel") => {
                let text = format!("{FORM}: {scheme}:// is not supported yet by this version");
                return Err(Unfit(text.into()));
            }
            scheme @ ("unix" | "redis+unix" | "valkey+unix") => {
                let text = format!("{FORM}: {scheme}:// sockets are not supported");
                return Err(Unfit(text.into()));
            }
            _ => return Err(form()),
        }
        if url.fragment() == Some("insecure") {
            let text = format!("{FORM}: #insecure is not supported, certificates are verified");
            return Err(Unfit(text.into()));
        }
        let database = url.path().trim_start_matches('/');
        let host = url.host_str().is_some_and(|host| !host.is_empty());
        let plain = url.query().is_none() && url.fragment().is_none();
        if !host || !plain || !(database.is_empty() || database.parse::<u32>().is_ok()) {
            return Err(form());
        }
        Ok(Self(url))
    }

    fn show(&self) -> toml::Value {
        self.to_string().into()
    }

    /// What cannot be parsed might have the password anywhere.
    fn got(value: &Value) -> String {
        let text = value.as_str().unwrap_or_default();
        match Url::parse(text) {
            Ok(url) if url.has_host() => toml::Value::from(without_secrets(url)).to_string(),
            Ok(url) => format!("\"{}:…\"", url.scheme()),
            Err(_) if text.is_empty() => "\"\"".to_owned(),
            Err(_) => "(hidden)".to_owned(),
        }
    }
}

fn form() -> Unfit {
    Unfit(FORM.into())
}
