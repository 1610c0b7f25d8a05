//! Where the shared Redis is.

use std::fmt;

use figment::value::Value;
use url::Url;

use super::values::{Setting, Unfit, without_secrets};

const ONE: &str = "redis://[user[:password]@]host[:port][/database]";
const SENTINEL: &str =
    "redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database]";

/// Where a Sentinel listens unless the URL says otherwise.
const SENTINEL_PORT: u16 = 26379;

/// One Redis, or the one that Sentinels name as the master. Its password shows neither in `Debug` nor in
/// `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// A `redis://` or `rediss://` URL for each server that the text names: the Redis, or the Sentinels. All have
    /// the same user, password and database.
    servers: Vec<Url>,
    /// The name by which Sentinels know their master; none where the server is the Redis itself.
    master: Option<String>,
}

impl RedisUrl {
    /// The servers that it names, each as a URL of its own; at least one. Passwords are included.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(Url::as_str)
    }

    /// The name of the master, where the servers are Sentinels.
    pub fn master(&self) -> Option<&str> {
        self.master.as_deref()
    }

    /// Whether the URL asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.servers[0].scheme() == "rediss"
    }

    /// Whether the URL has a password.
    pub fn has_password(&self) -> bool {
        self.servers[0].password().is_some()
    }

    fn one(url: Url) -> Result<Self, Unfit> {
        let database = url.path().trim_start_matches('/');
        if !is_server(&url) || !is_database(database) {
            return Err(form());
        }
        Ok(Self { servers: vec![url], master: None })
    }

    /// `rest` is what follows `redis+sentinel://`, or with TLS `rediss+sentinel://`.
    fn sentinels(scheme: &str, rest: &str) -> Result<Self, Unfit> {
        let (authority, path) = rest.split_once('/').ok_or_else(form)?;
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if master.is_empty() || !master.chars().all(is_plain) || !is_database(database) {
            return Err(form());
        }
        let server = |host: &str| {
            let mut url = Url::parse(&format!("{scheme}://{user}{host}/{database}")).ok()?;
            if url.port().is_none() {
                url.set_port(Some(SENTINEL_PORT)).ok()?;
            }
            is_server(&url).then_some(url)
        };
        let servers: Option<Vec<Url>> = hosts.split(',').map(server).collect();
        let servers = servers.ok_or_else(form)?;
        Ok(Self { servers, master: Some(master.to_owned()) })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = without_secrets(self.servers[0].clone());
        let Some(master) = &self.master else { return f.write_str(&first) };
        let (scheme, rest) = first.split_once("://").unwrap_or_default();
        let (first, database) = rest.split_once('/').unwrap_or((rest, ""));
        write!(f, "{scheme}+sentinel://{first}")?;
        for server in &self.servers[1..] {
            let port = server.port().unwrap_or(SENTINEL_PORT);
            write!(f, ",{}:{port}", server.host_str().unwrap_or_default())?;
        }
        write!(f, "/{master}")?;
        if database.is_empty() { Ok(()) } else { write!(f, "/{database}") }
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
        let unsupported = |what: &str| Unfit(format!("{}: {what}", form().0).into());
        if text.ends_with("#insecure") {
            return Err(unsupported("#insecure is not supported, certificates are verified"));
        }
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        match scheme {
            "redis" | "rediss" => Self::one(Url::parse(text).map_err(|_| form())?),
            "redis+sentinel" | "rediss+sentinel" => {
                let rest = rest.strip_prefix("//").ok_or_else(form)?;
                Self::sentinels(scheme.trim_end_matches("+sentinel"), rest)
            }
            "redis+cluster" | "rediss+cluster" => {
                Err(unsupported(&format!("{scheme}:// is not supported yet by this version")))
            }
            "unix" | "redis+unix" | "valkey+unix" => {
                Err(unsupported(&format!("{scheme}:// sockets are not supported")))
            }
            _ => Err(form()),
        }
    }

    fn show(&self) -> toml::Value {
        self.to_string().into()
    }

    /// What cannot be parsed might have the password anywhere.
    fn got(value: &Value) -> String {
        let text = value.as_str().unwrap_or_default();
        match Url::parse(text) {
            // A password that is not escaped may end up anywhere.
            Ok(url) if url.path().contains('@') => "(hidden)".to_owned(),
            Ok(url) if url.has_host() => toml::Value::from(without_secrets(url)).to_string(),
            Ok(url) => format!("\"{}:…\"", url.scheme()),
            Err(_) if text.is_empty() => "\"\"".to_owned(),
            Err(_) => "(hidden)".to_owned(),
        }
    }
}

/// Whether a URL names a server and nothing that is not known here.
fn is_server(url: &Url) -> bool {
    let host = url.host_str().is_some_and(|host| !host.is_empty());
    host && url.query().is_none() && url.fragment().is_none()
}

/// The number of a database, or nothing for the first one.
fn is_database(text: &str) -> bool {
    text.is_empty() || text.parse::<u32>().is_ok()
}

fn form() -> Unfit {
    Unfit(format!("{ONE} or {SENTINEL}, with rediss instead of redis for TLS").into())
}
