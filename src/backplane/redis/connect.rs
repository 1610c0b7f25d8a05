//! Opening connections to Redis, and trying what they will be needed for.

use std::{sync::Arc, time::Duration};

use redis::{Client, ProtocolVersion, RedisError, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::Instant};

use super::{
    RedisConfig, RedisConfigError, RedisRefusal,
    address::{self, Endpoint, is_unauthenticated},
    cluster::Cluster,
    connect_error::ConnectError,
    info::look_at,
    keys::Keys,
    link::{Commands, Link, LinkKind},
    location::{Changes, Location, Tenure},
    node_connections::NodeConnections,
    pace::Pace,
    remedy::{self, Remedy},
    rights::{self, Verdict},
    scripts::Scripts,
    target::{Target, Targets},
    wire::Wire,
};
use crate::domain::ReplicaId;

/// How often the node that knows the number of partitions is asked for it while it is away.
const COMPARED_EVERY: Duration = Duration::from_secs(30);

/// Opens connections for commands, by way of a pool, and for subscribers, beside it.
#[derive(Debug)]
pub(super) struct Connector {
    targets: Targets,
    nodes: NodeConnections,
    scripts: Arc<Scripts>,
    /// What every key begins with.
    prefix: String,
    replica: ReplicaId,
    /// How often at the most what changes rooms is sent while there is much of it.
    gather: Duration,
    /// Whether it will be asked to wait for a replica of Redis.
    replicated: bool,
    /// Whether the node of a cluster that knows how many partitions there are was asked, and when that was last tried
    /// in vain.
    compared: Mutex<(bool, Option<Instant>)>,
}

impl Connector {
    /// Nothing is opened yet. Fails on an address that cannot be one, and on certificates that
    /// cannot be used.
    pub(super) fn new(
        config: &RedisConfig,
        connections: usize,
        replica: ReplicaId,
    ) -> Result<Self, RedisConfigError> {
        let targets = Targets::new(config, connections)?;
        let keys = Keys::new(&config.prefix, targets.database(), config.partitions);
        let scripts = Arc::new(Scripts::new(keys, config.log, config.lease));
        let (prefix, gather, replicated) =
            (config.prefix.clone(), config.gather, config.replicated);
        let nodes = NodeConnections::default();
        let compared = Mutex::default();
        Ok(Self { targets, nodes, scripts, prefix, replica, gather, replicated, compared })
    }

    /// The scripts that connections for commands know.
    pub(super) fn scripts(&self) -> &Arc<Scripts> {
        &self.scripts
    }

    /// Which node of the cluster keeps a partition, as far as is known; nothing where all data is in one place.
    pub(super) fn node_of(&self, partition: usize) -> Option<Endpoint> {
        let known = self.cluster()?.location();
        let known = known.borrow();
        known.endpoint(self.scripts.keys.slot(partition)).cloned()
    }

    /// The first partition on this node of the cluster, or else wherever all of them are.
    pub(super) fn partition_at(&self, node: Option<&Endpoint>) -> Option<usize> {
        let Some(node) = node else { return Some(0) };
        let known = self.cluster()?.location();
        let known = known.borrow();
        let keys = &self.scripts.keys;
        (0..keys.partitions()).find(|partition| known.endpoint(keys.slot(*partition)) == Some(node))
    }

    /// The nodes of the cluster that keep any slots, as far as is known; or else nothing, which stands for wherever
    /// all data is.
    pub(super) fn servers(&self) -> Vec<Option<Endpoint>> {
        let Some(cluster) = self.cluster() else { return vec![None] };
        match &*cluster.location().borrow() {
            Location::Cluster(slots) => slots.nodes().iter().cloned().map(Some).collect(),
            Location::Unknown | Location::Master(..) => Vec::new(),
        }
    }

    /// Forgets the connections to nodes that keep nothing any more. Returns the others, and how many slots each has.
    pub(super) fn tidy(&self) -> Vec<(Endpoint, usize)> {
        let nodes = match self.cluster().map(Cluster::location) {
            Some(known) => known.borrow().counts(),
            None => Vec::new(),
        };
        self.nodes.retain(|server| nodes.iter().any(|(node, _)| node == server));
        nodes
    }

    /// Perhaps a slot is somewhere else by now.
    pub(super) fn look_again(&self) {
        if let Some(cluster) = self.cluster() {
            cluster.hint();
        }
    }

    /// Says when it is worth while to try again at once.
    pub(super) fn changes(&self) -> Changes {
        self.targets.changes()
    }

    /// Keeps up with where Redis is for as long as it is polled.
    pub(super) async fn watch(&self) {
        self.targets.watch().await;
    }

    /// The cluster, if it is one.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.targets.cluster()
    }

    /// A connection that knows all scripts and may do what they do.
    pub(super) async fn commands(&self, link: Link) -> Result<Commands, ConnectError> {
        let opened = async {
            let slot = self.scripts.keys.slot(link.partition);
            let (server, tenure) = self.targets.keeper(slot).await?;
            self.open(server, tenure, link).await
        };
        self.explained(opened.await).await
    }

    /// The same to a node of the cluster that does not keep the partition yet, or does not any more.
    pub(super) async fn commands_at(
        &self,
        server: &Endpoint,
        link: Link,
    ) -> Result<Commands, ConnectError> {
        let opened = self.open(Some(server.clone()), Tenure::for_ever(), link).await;
        self.explained(opened).await
    }

    async fn open(
        &self,
        server: Option<Endpoint>,
        mut tenure: Tenure,
        link: Link,
    ) -> Result<Commands, ConnectError> {
        let node = server.clone().filter(|_| self.cluster().is_some());
        if node.is_some() {
            self.compare_once().await?;
        }
        let open = async {
            let open = self.open_commands(server.as_ref(), link);
            match &node {
                Some(node) => self.nodes.get(node, link.kind, open).await,
                None => open.await,
            }
        };
        let opened = tokio::select! {
            opened = open => opened?,
            () = tenure.over() => return Err(ConnectError::Demoted),
        };
        Ok(Commands { tenure, node, ..opened })
    }

    async fn open_commands(
        &self,
        server: Option<&Endpoint>,
        link: Link,
    ) -> Result<Commands, ConnectError> {
        let Target { pool, .. } = self.targets.target(server).await?;
        let mut connection = deadpool_redis::Connection::take(pool.get().await?);
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let (replid, evicts) = look_at(&info, self.cluster().is_some())?;
        self.scripts.load(&mut connection).await?;
        let refused = self.try_out(&mut connection, link.partition).await?;
        self.compare_partitions(&mut connection).await?;
        let gathers = matches!(link.kind, LinkKind::Append(_));
        let pace = Pace::new(if gathers { self.gather } else { Duration::ZERO });
        let (wire, tenure) = (Wire::Own(connection.clone()), Tenure::for_ever());
        let (node, broken) = (None, Arc::default());
        Ok(Commands { connection, wire, pace, replid, evicts, refused, tenure, node, broken })
    }

    /// Compares the number of partitions before anything is done. While the node that knows it is away, it is asked now
    /// and then, and nobody waits for that.
    async fn compare_once(&self) -> Result<(), ConnectError> {
        let mut compared = self.compared.lock().await;
        let lately = |tried: Instant| tried.elapsed() < COMPARED_EVERY;
        if compared.0 || compared.1.is_some_and(lately) {
            return Ok(());
        }
        match self.note_partitions().await {
            Ok(()) => *compared = (true, None),
            Err(ConnectError::Unfit(refusal)) => return Err(ConnectError::Unfit(refusal)),
            Err(_) => compared.1 = Some(Instant::now()),
        }
        Ok(())
    }

    /// Notes again how many partitions there are, so that it is not forgotten while this replica runs.
    pub(super) async fn note_partitions(&self) -> Result<(), ConnectError> {
        let (server, _) = self.targets.keeper(self.scripts.keys.partition_count_slot()).await?;
        let Target { pool, .. } = self.targets.target(server.as_ref()).await?;
        let mut connection = deadpool_redis::Connection::take(pool.get().await?);
        self.scripts.load(&mut connection).await?;
        self.compare_partitions(&mut connection).await
    }

    /// Tries all that will be needed. Returns why nothing can be written for now, if that is so.
    async fn try_out(
        &self,
        connection: &mut MultiplexedConnection,
        partition: usize,
    ) -> Result<Option<String>, ConnectError> {
        if self.replicated {
            // For no replica and no time.
            let _: i64 = redis::cmd("WAIT").arg(0).arg(1).query_async(connection).await?;
        }
        let trial = self.scripts.trial(self.replica, partition);
        let said: Vec<String> = match trial.query_async(connection).await {
            Ok(said) => said,
            // The slot is on its way to another node, or there.
            Err(error) if remedy::is_moving(&error) => return Ok(None),
            Err(error) if Remedy::of_error(&error) == Remedy::Wait => {
                return Ok(Some(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        match rights::judge(&said) {
            Verdict::Good => Ok(None),
            Verdict::Refused(words) => Ok(Some(words)),
            Verdict::NotMaster => Err(ConnectError::NotMaster),
            Verdict::Missing(words) => Err(ConnectError::Unfit(self.refusal(words))),
        }
    }

    /// Replicas that spread rooms in different ways would not find each other.
    async fn compare_partitions(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectError> {
        let stored: usize = match self.scripts.partitions().query_async(connection).await {
            Ok(stored) => stored,
            // The trial has found the same; or another node of the cluster knows.
            Err(error) if Remedy::of_error(&error) == Remedy::Wait || remedy::is_moving(&error) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let configured = self.scripts.keys.partitions();
        if stored == configured {
            return Ok(());
        }
        Err(ConnectError::Unfit(RedisRefusal::Partitions { stored, configured }))
    }

    /// Opens a connection for subscriptions, whose messages go to `on_push`: to this node of a cluster, or else to
    /// where the data is. A channel of this partition is tried.
    pub(super) async fn subscriber(
        &self,
        node: Option<&Endpoint>,
        partition: usize,
        on_push: impl redis::aio::AsyncPushSender,
    ) -> Result<(MultiplexedConnection, Tenure), ConnectError> {
        let opened = async {
            let (server, tenure) = match node {
                Some(node) => (Some(node.clone()), Tenure::for_ever()),
                None => self.targets.keeper(self.scripts.keys.slot(0)).await?,
            };
            let target = self.targets.target(server.as_ref()).await?;
            let mut watched = tenure.clone();
            tokio::select! {
                opened = self.open_subscriber(target, partition, on_push) => Ok((opened?, tenure)),
                () = watched.over() => Err(ConnectError::Demoted),
            }
        };
        self.explained(opened.await).await
    }

    async fn open_subscriber(
        &self,
        target: Target,
        partition: usize,
        on_push: impl redis::aio::AsyncPushSender,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let Target { info, .. } = target;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings))?;
        let config = address::connection_config().set_push_sender(on_push);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        look_at(&info, self.cluster().is_some())?;
        let channel = self.scripts.keys.trial_channel(partition, self.replica);
        for command in ["SSUBSCRIBE", "SUNSUBSCRIBE"] {
            match redis::cmd(command)
                .arg(&channel)
                .query_async::<redis::Value>(&mut connection)
                .await
            {
                Err(error) if !remedy::is_moving(&error) => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(connection)
    }

    /// What was opened, or else why it was not.
    async fn explained<T>(&self, opened: Result<T, ConnectError>) -> Result<T, ConnectError> {
        match opened {
            Ok(opened) => Ok(opened),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Finds out more, and tells errors that need another configuration from those that time mends.
    async fn explain(&self, error: ConnectError) -> ConnectError {
        if error.error().is_some_and(RedisError::is_connection_dropped)
            && let Some(words) = self.targets.greeting().await
        {
            // "Protected mode": it has no password, and takes connections from its own machine only.
            return if words.starts_with("DENIED") {
                ConnectError::Unfit(RedisRefusal::Credentials(words))
            } else {
                ConnectError::Closed(words)
            };
        }
        let Some(said) = error.error().filter(|it| !is_unauthenticated(it)) else { return error };
        let words = said.to_string();
        let refusal = if words.contains("in cluster mode") {
            RedisRefusal::Cluster
        } else if words.contains("permissions") || Remedy::of_error(said) == Remedy::Configure {
            self.refusal(words)
        } else if words.contains("refused to switch database") {
            RedisRefusal::Database(words)
        } else {
            return error;
        };
        ConnectError::Unfit(refusal)
    }

    fn refusal(&self, words: String) -> RedisRefusal {
        rights::refusal(words, self.targets.user(), &self.prefix)
    }
}
