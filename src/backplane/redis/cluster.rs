//! Which node of a cluster keeps which slot, by what the nodes say.
//!
//! Several of them are asked when somebody finds something somewhere else, and every few seconds. Where they differ,
//! the claim of the latest configuration epoch counts, so that one that was cut off is not believed.
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rand::seq::SliceRandom as _;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisError, Value};
use roomcast_tls::Contents;
use tokio::{
    sync::{Mutex, Notify, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Backoff, RedisRefusal,
    address::{self, Endpoint},
    location::Location,
    slots::{SlotMap, View},
};

/// How long a node may take to answer; others are asked at the same time.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many nodes are asked at a time.
const ASKED: usize = 5;

/// How often they are asked although nothing was found elsewhere; and the shortest time between two rounds, which grows
/// to that while they bring nothing new.
const ASKED_EVERY: Duration = Duration::from_secs(2);
const NOT_BEFORE: Duration = Duration::from_millis(100);

/// Why it is not known where the slots are.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterError {
    /// Time may help.
    #[error("no node of the cluster answers: {0}")]
    Away(String),
    /// Nobody keeps the slot.
    #[error("no node of the cluster keeps slot {0}")]
    NoOwner(u16),
    /// A node and this replica cannot agree.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// Only another configuration helps.
    #[error("{0}")]
    Unfit(RedisRefusal),
}

/// A cluster, and what its nodes said.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The nodes that the configuration names, with the credentials for all.
    named: Vec<ConnectionInfo>,
    location: watch::Sender<Location>,
    hinted: Notify,
    /// Held while nodes are asked: when that was last done.
    round: Mutex<Option<Instant>>,
}

impl Cluster {
    /// A cluster with nodes at these addresses, perhaps among others; at least one. Nobody is asked yet.
    pub(super) fn new(named: Vec<ConnectionInfo>) -> Self {
        let location = watch::Sender::new(Location::Unknown);
        Self { named, location, hinted: Notify::new(), round: Mutex::new(None) }
    }

    /// What is known of it, now and later.
    pub(super) fn location(&self) -> watch::Receiver<Location> {
        self.location.subscribe()
    }

    fn known(&self) -> Option<Arc<SlotMap>> {
        match &*self.location.borrow() {
            Location::Cluster(slots) => Some(slots.clone()),
            Location::Unknown | Location::Master(..) => None,
        }
    }

    /// Something is not where it was: the nodes are asked soon.
    pub(super) fn hint(&self) {
        self.hinted.notify_one();
    }

    /// A node says that this one keeps a slot, and it is believed until the next round.
    pub(super) fn moved(&self, slot: u16, owner: &Endpoint) {
        self.location.send_if_modified(|location| {
            let Location::Cluster(slots) = location else { return false };
            let moved = slots.owner(slot) != Some(owner);
            if moved {
                *slots = Arc::new(slots.with(slot, owner));
            }
            moved
        });
        self.hint();
    }

    /// Which node keeps a slot, as far as is known. Asks when nothing is.
    pub(super) async fn owner(
        &self,
        slot: u16,
        tls: Option<&Contents>,
    ) -> Result<Endpoint, ClusterError> {
        let known = match self.known() {
            Some(known) => known,
            None => self.ask(tls).await?,
        };
        match known.owner(slot) {
            Some(owner) => Ok(owner.clone()),
            None => {
                self.hint();
                Err(ClusterError::NoOwner(slot))
            }
        }
    }

    /// Asks the nodes once, and waits until they should be asked again. The pause is the shortest one, and then the
    /// next.
    pub(super) async fn watch_once(&self, tls: Option<&Contents>, pause: &mut Backoff) {
        let before = self.known();
        let _ = self.ask(tls).await;
        if self.known() != before {
            pause.reset();
        }
        sleep(pause.next_wait()).await;
        let _ = timeout(ASKED_EVERY, self.hinted.notified()).await;
    }

    /// How long nodes are left alone between two rounds.
    pub(super) fn pause() -> Backoff {
        Backoff::new(NOT_BEFORE, ASKED_EVERY)
    }

    /// Asks some nodes, and takes over what they say. Whoever comes while that is done has the same answer.
    async fn ask(&self, tls: Option<&Contents>) -> Result<Arc<SlotMap>, ClusterError> {
        let came = Instant::now();
        let mut round = self.round.lock().await;
        if let (Some(known), Some(asked)) = (self.known(), *round)
            && asked >= came
        {
            return Ok(known);
        }
        let mut asked: FuturesUnordered<_> =
            self.candidates().into_iter().map(|node| ask_one(node, tls)).collect();
        let most = asked.len() / 2 + 1;
        let (mut views, mut failure) = (Vec::new(), None);
        while views.len() < most
            && let Some(answer) = asked.next().await
        {
            match (answer, &failure) {
                (Ok(view), _) => views.push(view),
                // What is wrong for good matters more than who is away.
                (Err(_), Some(ClusterError::Unfit(_))) => {}
                (Err(error), _) => failure = Some(error),
            }
        }
        *round = Some(Instant::now());
        if views.is_empty() {
            return Err(failure.unwrap_or_else(|| ClusterError::Away("there is none".to_owned())));
        }
        let slots = Arc::new(SlotMap::of(&views));
        self.note(&slots);
        Ok(slots)
    }

    /// Which nodes are asked: some of those that are known, and in any case some that were configured, which may be
    /// names that lead to whoever is there.
    fn candidates(&self) -> Vec<ConnectionInfo> {
        let known = self.known();
        let nodes = known.iter().flat_map(|slots| slots.nodes());
        let mut nodes: Vec<_> = nodes.map(|node| at(&self.named[0], node)).collect();
        let mut named = self.named.clone();
        let mut rng = rand::rng();
        nodes.shuffle(&mut rng);
        named.shuffle(&mut rng);
        named.truncate(if nodes.is_empty() { ASKED } else { ASKED / 2 });
        nodes.truncate(ASKED - named.len());
        named.extend(nodes);
        let mut seen = Vec::new();
        named.retain(|node| {
            let is_new = !seen.contains(node.addr());
            seen.push(node.addr().clone());
            is_new
        });
        named
    }

    fn note(&self, said: &Arc<SlotMap>) {
        self.location.send_if_modified(|location| {
            let known = match location {
                Location::Cluster(known) if known == said => return false,
                Location::Cluster(known) => Some(known.clone()),
                Location::Unknown | Location::Master(..) => None,
            };
            let missing = said.missing();
            if known.as_ref().is_none_or(|known| known.missing() != missing) {
                match missing {
                    Some((count, first)) => warn!(
                        count,
                        first,
                        "no node of the redis cluster keeps some slots; their rooms are unavailable"
                    ),
                    None if known.is_some() => info!("the redis cluster keeps all slots again"),
                    None => {}
                }
            }
            if known.is_none_or(|known| known.nodes() != said.nodes()) {
                let nodes: Vec<_> = said.nodes().iter().map(ToString::to_string).collect();
                info!(nodes = nodes.join(" "), "the masters of the redis cluster");
            }
            *location = Location::Cluster(said.clone());
            true
        });
    }
}

/// A node, with the credentials for all.
pub(super) fn at(like: &ConnectionInfo, node: &Endpoint) -> ConnectionInfo {
    let address = node.address(like.addr());
    like.clone().set_addr(address)
}

async fn ask_one(node: ConnectionInfo, tls: Option<&Contents>) -> Result<View, ClusterError> {
    let addr = node.addr().clone();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let asked = async {
        let client = Client::open(address::with_tls(node, tls)?)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut questions = redis::pipe();
        questions.cmd("CLUSTER").arg("SLOTS").cmd("CLUSTER").arg("NODES");
        questions.query_async::<(Value, String)>(&mut connection).await
    };
    let away = |words: &str| ClusterError::Away(format!("{addr}: {words}"));
    let (slots, nodes) = match timeout(2 * PATIENCE, asked).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) if error.to_string().contains("cluster support disabled") => {
            let words = format!(
                "{addr} is not part of a cluster; say redis:// instead of redis+cluster://"
            );
            return Err(ClusterError::Unfit(RedisRefusal::NoCluster(words)));
        }
        Ok(Err(error)) if address::is_unauthenticated(&error) => return Err(error.into()),
        Ok(Err(error)) if roomcast_tls::fault(&error).is_some_and(|fault| fault.lasting) => {
            return Err(error.into());
        }
        Ok(Err(error)) if error.to_string().contains("permissions") => return Err(error.into()),
        Ok(Err(error)) => return Err(away(&error.to_string())),
        Err(_) => return Err(away("no answer")),
    };
    let asked = Endpoint::of(&addr).ok_or_else(|| away("no port of a host"))?;
    View::read(&slots, &nodes, &asked).ok_or_else(|| away("it tells no slots"))
}
