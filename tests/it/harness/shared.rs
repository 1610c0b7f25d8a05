//! What replicas share, and what tests do to it.

use super::{Redis, RedisCluster, Sentinels};

/// One Redis, or several. What is done to it is done to all of its servers at once.
#[derive(Debug)]
pub(crate) enum Shared {
    One(Redis),
    Sentinels(Sentinels),
    Cluster(RedisCluster),
}

/// The switch by which what runs on one Redis runs on a cluster instead: `ROOMCAST_TEST_REDIS=cluster`.
fn is_on_cluster() -> bool {
    match std::env::var("ROOMCAST_TEST_REDIS").as_deref() {
        Ok("cluster") => true,
        Ok("one") | Err(_) => false,
        Ok(other) => panic!("ROOMCAST_TEST_REDIS={other} is neither one nor cluster"),
    }
}

impl Shared {
    /// A Redis with these arguments, or what the switch says.
    pub(crate) async fn start(on_one: bool, arguments: &[&str]) -> Self {
        if is_on_cluster() && !on_one {
            Self::Cluster(RedisCluster::start(3, 0, arguments).await)
        } else {
            Self::One(Redis::start_with(arguments).await)
        }
    }

    /// The URL to give to replicas.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Sentinels(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The one Redis.
    pub(crate) fn one(&mut self) -> &mut Redis {
        match self {
            Self::One(redis) => redis,
            Self::Sentinels(_) | Self::Cluster(_) => panic!("this test is for one Redis"),
        }
    }

    pub(crate) fn sentinels(&mut self) -> &mut Sentinels {
        match self {
            Self::Sentinels(sentinels) => sentinels,
            Self::One(_) | Self::Cluster(_) => panic!("this test is for Sentinels"),
        }
    }

    pub(crate) fn cluster(&mut self) -> &mut RedisCluster {
        match self {
            Self::Cluster(cluster) => cluster,
            Self::One(_) | Self::Sentinels(_) => panic!("this test is for a Redis Cluster"),
        }
    }

    fn servers(&mut self) -> &mut [Redis] {
        match self {
            Self::One(redis) => std::slice::from_mut(redis),
            Self::Sentinels(sentinels) => &mut sentinels.servers,
            Self::Cluster(cluster) => &mut cluster.nodes,
        }
    }

    pub(crate) fn kill(&mut self) {
        self.servers().iter_mut().for_each(Redis::kill);
    }

    /// Starts all again after a kill, with what they have on disk.
    pub(crate) async fn restart(&mut self) {
        for server in self.servers() {
            server.restart().await;
        }
        self.until_whole().await;
    }

    /// The same with no data.
    pub(crate) async fn restart_empty(&mut self) {
        match self {
            Self::One(redis) => redis.restart_empty().await,
            Self::Sentinels(_) | Self::Cluster(_) => {
                self.servers().iter_mut().for_each(Redis::forget);
                self.restart().await;
            }
        }
    }

    async fn until_whole(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.until_whole().await;
        }
    }

    pub(crate) fn pause(&mut self) {
        self.servers().iter().for_each(Redis::pause);
    }

    pub(crate) fn resume(&mut self) {
        self.servers().iter().for_each(Redis::resume);
    }

    /// Closes the connections of all subscribers, and only those; answers how many.
    pub(crate) async fn kill_subscribers(&mut self) -> u32 {
        let mut killed = 0;
        for server in self.servers().iter().filter(|server| server.is_running()) {
            killed += server.kill_subscribers().await;
        }
        killed
    }

    /// The fields of all hashes whose keys are of this pattern; nothing while a server does not answer.
    pub(crate) async fn hash_fields(&mut self, pattern: &str) -> Option<Vec<String>> {
        let mut fields = Vec::new();
        for server in self.servers() {
            for key in server.command::<Vec<String>>(&["KEYS", pattern]).await.ok()? {
                fields.extend(server.command::<Vec<String>>(&["HKEYS", &key]).await.ok()?);
            }
        }
        Some(fields)
    }
}
