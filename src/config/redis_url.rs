//! Where the shared Redis is.

use std::fmt;

use figment::value::Value;
use url::Url;

use super::values::{Setting, Unfit, without_secrets};

const ONE: &str = "redis://[user[:password]@]host[:port][/database]";
const SENTINEL: &str =
    "redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database]";

const CLUSTER: &str = "redis+cluster://[user[:password]@]host[:port][,host[:port]…]";

/// Where a Sentinel listens unless the URL says otherwise.
const SENTINEL_PORT: u16 = 26379;

/// Where a node of a cluster does.
const PORT: u16 = 6379;

/// One Redis, the one that Sentinels name as the master, or a cluster. Its password shows neither in `Debug` nor in
/// `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// A `redis://` or `rediss://` URL for each server that the text names. All have the same user, password and
    /// database.
    servers: Vec<Url>,
    kind: RedisKind,
}

/// What the servers of a [`RedisUrl`] are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedisKind {
    /// One, the Redis itself.
    One,
    /// Sentinels, which know the master by this name.
    Sentinels(String),
    /// Some nodes of a cluster.
    Cluster,
}

impl RedisUrl {
    /// The servers that it names, each as a URL of its own; at least one. Passwords are included.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(Url::as_str)
    }

    /// What they are.
    pub fn kind(&self) -> &RedisKind {
        &self.kind
    }

    /// Whether they are Sentinels.
    pub fn has_sentinels(&self) -> bool {
        matches!(self.kind, RedisKind::Sentinels(_))
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
        Ok(Self { servers: vec![url], kind: RedisKind::One })
    }

    /// `rest` is what follows `redis+sentinel://`, or with TLS `rediss+sentinel://`.
    fn sentinels(scheme: &str, rest: &str) -> Result<Self, Unfit> {
        let (authority, path) = rest.split_once('/').ok_or_else(form)?;
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if master.is_empty() || !master.chars().all(is_plain) || !is_database(database) {
            return Err(form());
        }
        let servers = servers(scheme, authority, database, SENTINEL_PORT)?;
        Ok(Self { servers, kind: RedisKind::Sentinels(master.to_owned()) })
    }

    /// `rest` is what follows `redis+cluster://`, or with TLS `rediss+cluster://`.
    fn cluster(scheme: &str, rest: &str) -> Result<Self, Unfit> {
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        if !matches!(database, "" | "0") {
            return Err(Unfit(format!("{}: a cluster has no database but 0", form().0).into()));
        }
        let servers = servers(scheme, authority, "", PORT)?;
        Ok(Self { servers, kind: RedisKind::Cluster })
    }
}

/// A URL for each of the hosts in `[user[:password]@]host[:port][,host[:port]…]`.
fn servers(scheme: &str, authority: &str, database: &str, port: u16) -> Result<Vec<Url>, Unfit> {
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let server = |host: &str| {
        let mut url = Url::parse(&format!("{scheme}://{user}{host}/{database}")).ok()?;
        if url.port().is_none() {
            url.set_port(Some(port)).ok()?;
        }
        is_server(&url).then_some(url)
    };
    hosts.split(',').map(server).collect::<Option<_>>().ok_or_else(form)
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = without_secrets(self.servers[0].clone());
        let (kind, port, master) = match &self.kind {
            RedisKind::One => return f.write_str(&first),
            RedisKind::Sentinels(master) => ("sentinel", SENTINEL_PORT, Some(master)),
            RedisKind::Cluster => ("cluster", PORT, None),
        };
        let (scheme, rest) = first.split_once("://").unwrap_or_default();
        let (first, database) = rest.split_once('/').unwrap_or((rest, ""));
        write!(f, "{scheme}+{kind}://{first}")?;
        for server in &self.servers[1..] {
            let port = server.port().unwrap_or(port);
            write!(f, ",{}:{port}", server.host_str().unwrap_or_default())?;
        }
        if let Some(master) = master {
            write!(f, "/{master}")?;
        }
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
                let rest = rest.strip_prefix("//").ok_or_else(form)?;
                Self::cluster(scheme.trim_end_matches("+cluster"), rest)
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
    Unfit(format!("{ONE}, {SENTINEL} or {CLUSTER}, with rediss instead of redis for TLS").into())
}
