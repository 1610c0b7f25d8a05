//! Which Redis is the master, by what Sentinels say.
//!
//! All of them are asked before a connection to the master is opened, and each once a second and whenever it tells
//! that something has changed. What was agreed on last counts: the answer with the highest configuration epoch.
//! Source: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, PushKind, RedisError,
    aio::MultiplexedConnection,
};
use roomcast_tls::Contents;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tracing::info;

use super::{
    RedisRefusal,
    address::{self, Endpoint},
    location::Location,
};

/// How long a Sentinel may take to answer; the others are asked at the same time.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often each is asked although it has told nothing.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// What a Sentinel tells of when there is another master, or is about to be.
const HINTS: [&str; 3] = ["+switch-master", "+promoted-slave", "+config-update-from"];

/// Why it is not known where the master is.
#[derive(Debug, thiserror::Error)]
pub(super) enum SentinelError {
    /// Time may help.
    #[error("no Sentinel tells where the master is: {0}")]
    Away(String),
    /// A Sentinel and this replica cannot agree on TLS.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// Only another configuration helps.
    #[error("{0}")]
    Unfit(RedisRefusal),
}

/// The Sentinels of one master, and what they said.
#[derive(Debug)]
pub(super) struct Sentinels {
    /// The name by which they know it.
    name: String,
    servers: Vec<ConnectionInfo>,
    location: watch::Sender<Location>,
}

/// Where the master is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Master {
    endpoint: Endpoint,
    /// Counts the failovers by which it came to be so.
    epoch: u64,
}

impl Sentinels {
    /// Sentinels at these addresses, with the credentials that they ask for, of a master that they know by
    /// this name. Nobody is asked yet.
    pub(super) fn new(name: String, servers: Vec<ConnectionInfo>) -> Self {
        Self { name, servers, location: watch::Sender::new(Location::Unknown) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// What is known of the master, now and later.
    pub(super) fn location(&self) -> watch::Receiver<Location> {
        self.location.subscribe()
    }

    fn known(&self) -> Option<Master> {
        match &*self.location.borrow() {
            Location::Master(endpoint, epoch) => {
                Some(Master { endpoint: endpoint.clone(), epoch: *epoch })
            }
            Location::Unknown | Location::Cluster(_) => None,
        }
    }

    /// Asks all of them, and waits until most have answered. Where nobody does, the last master counts.
    pub(super) async fn resolve(&self, tls: Option<&Contents>) -> Result<Endpoint, SentinelError> {
        let mut asked: FuturesUnordered<_> =
            self.servers.iter().map(|server| self.ask_once(server, tls)).collect();
        let known = self.known().map_or(0, |master| master.epoch);
        let mut answers: Vec<Master> = Vec::new();
        let best = |answers: &[Master]| answers.iter().max_by_key(|it| it.epoch).cloned();
        let mut failure = None;
        // Those that are behind are waited out: perhaps all of them say so.
        while (answers.len() <= self.servers.len() / 2
            || best(&answers).is_some_and(|best| best.epoch < known))
            && let Some(answer) = asked.next().await
        {
            match answer {
                Ok(master) => answers.push(master),
                // What is wrong for good matters more than who is away.
                Err(error) => match failure {
                    Some(SentinelError::Unfit(_)) => {}
                    Some(_) | None => failure = Some(error),
                },
            }
        }
        if let Some(best) = best(&answers) {
            let most = answers.len() > self.servers.len() / 2;
            self.note(best.clone(), most && answers.iter().all(|it| it.endpoint == best.endpoint));
        }
        match (self.known(), failure) {
            (Some(master), _) => Ok(master.endpoint),
            (None, Some(error)) => Err(error),
            (None, None) => Err(SentinelError::Away("there is none".to_owned())),
        }
    }

    /// Keeps up with one of them, by its number, for as long as it answers.
    pub(super) async fn listen(
        &self,
        number: usize,
        tls: Option<&Contents>,
    ) -> Result<(), SentinelError> {
        let server = &self.servers[number];
        let hinted = Arc::new(Notify::new());
        let hint = hinted.clone();
        let on_push = move |push: redis::PushInfo| -> Result<(), redis::aio::SendError> {
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                hint.notify_one();
            }
            Ok(())
        };
        let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let config = config().set_push_sender(on_push);
        let dialed = server.clone().set_redis_settings(settings);
        let mut connection =
            open(dialed, tls, &config).await.map_err(|error| failed(server, error))?;
        connection.subscribe(&HINTS).await.map_err(|error| failed(server, error))?;
        loop {
            let master = self.ask(server, &mut connection).await?;
            self.note(master, false);
            let _ = timeout(ASKED_EVERY, hinted.notified()).await;
        }
    }

    async fn ask_once(
        &self,
        server: &ConnectionInfo,
        tls: Option<&Contents>,
    ) -> Result<Master, SentinelError> {
        let asked = async {
            let opened = open(server.clone(), tls, &config()).await;
            self.ask(server, &mut opened.map_err(|error| failed(server, error))?).await
        };
        let silent = || SentinelError::Away(format!("{} does not answer", server.addr()));
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Where the master is, and since which failover.
    async fn ask(
        &self,
        server: &ConnectionInfo,
        connection: &mut MultiplexedConnection,
    ) -> Result<Master, SentinelError> {
        let answers = async {
            // In this order: a new epoch never comes with an old address.
            let about = self.question("MASTER").query_async(connection).await?;
            Ok((about, self.question("GET-MASTER-ADDR-BY-NAME").query_async(connection).await?))
        };
        let (about, address): (HashMap<String, String>, Option<(String, u16)>) = match answers.await
        {
            Ok(answers) => answers,
            Err(error) if RedisError::to_string(&error).contains("No such master") => {
                return Err(self.stranger(connection).await);
            }
            Err(error) => return Err(failed(server, error)),
        };
        let Some((host, port)) = address else { return Err(self.stranger(connection).await) };
        let epoch = about.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        Ok(Master { endpoint: Endpoint { host, port }, epoch: epoch.unwrap_or(0) })
    }

    fn question(&self, about: &str) -> redis::Cmd {
        let mut question = redis::cmd("SENTINEL");
        question.arg(about).arg(&self.name);
        question
    }

    /// The name is none that it knows.
    async fn stranger(&self, connection: &mut MultiplexedConnection) -> SentinelError {
        let mut masters = redis::cmd("SENTINEL");
        masters.arg("MASTERS");
        let masters: Vec<HashMap<String, String>> =
            masters.query_async(connection).await.unwrap_or_default();
        let names: Vec<_> = masters.iter().filter_map(|about| about.get("name").cloned()).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        SentinelError::Unfit(RedisRefusal::Sentinel(format!(
            "the Sentinels know no master by the name {:?}; they know: {known}",
            self.name
        )))
    }

    /// Takes over what is said. What is no newer than what is known and differs counts only where most of them were
    /// heard and all of those agree, as they do when they were set up anew.
    fn note(&self, said: Master, agreed: bool) {
        let Master { endpoint, epoch } = said;
        self.location.send_if_modified(|location| {
            if let Location::Master(known, at) = location {
                if (epoch <= *at && !agreed) || (&*known, *at) == (&endpoint, epoch) {
                    return false;
                }
                if *known != endpoint {
                    info!(from = %known, to = %endpoint, "redis has another master");
                }
            }
            *location = Location::Master(endpoint, epoch);
            true
        });
    }
}

/// What helps where a Sentinel does not answer as one does.
fn failed(server: &ConnectionInfo, error: RedisError) -> SentinelError {
    let addr = server.addr();
    let unfit = |words| SentinelError::Unfit(RedisRefusal::Sentinel(words));
    if address::is_unauthenticated(&error) {
        return unfit(format!(
            "the Sentinel {addr} refuses the credentials of redis.sentinel: {error}"
        ));
    }
    if error.to_string().contains("unknown command") {
        return unfit(format!("{addr} is no Sentinel: {error}"));
    }
    if roomcast_tls::fault(&error).is_some_and(|fault| fault.lasting) {
        return error.into();
    }
    SentinelError::Away(format!("{addr}: {error}"))
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

async fn open(
    server: ConnectionInfo,
    tls: Option<&Contents>,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let client = Client::open(address::with_tls(server, tls)?)?;
    client.get_multiplexed_async_connection_with_config(config).await
}
