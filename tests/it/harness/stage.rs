//! The same behaviour, wherever it has to hold.

use super::{Cluster, Dialect, Endpoint};

/// A cluster and the dialect that a test's clients speak.
#[derive(Debug)]
pub(crate) struct Stage {
    /// One replica on memory, or three on Redis.
    pub(crate) cluster: Cluster,
    /// What clients speak, unless a test says otherwise.
    pub(crate) dialect: Dialect,
}

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// One replica with the embedded backplane.
    Memory,
    /// Three replicas on one Redis.
    Redis,
}

impl Layout {
    /// The cluster's plan.
    pub(crate) fn plan(self) -> super::cluster::Plan {
        match self {
            Self::Memory => Cluster::memory(),
            Self::Redis => Cluster::redis(3),
        }
    }
}

impl Stage {
    /// Starts a cluster.
    pub(crate) async fn set(layout: Layout, dialect: Dialect) -> Self {
        Self { cluster: layout.plan().start().await, dialect }
    }

    /// The way in to a replica, in the test's dialect; numbers are counted round.
    pub(crate) fn endpoint(&self, replica: usize) -> Endpoint {
        self.cluster.endpoint(replica).speaking(self.dialect)
    }
}

/// Makes tests of functions that take a `&Stage`: each on one replica and across three, in both
/// dialects.
macro_rules! everywhere {
    ($($behaviour:ident),* $(,)?) => {
        mod memory_typed { $(everywhere!(@ $behaviour Memory Typed);)* }
        mod memory_struct { $(everywhere!(@ $behaviour Memory Struct);)* }
        mod redis_typed { $(everywhere!(@ $behaviour Redis Typed);)* }
        mod redis_struct { $(everywhere!(@ $behaviour Redis Struct);)* }
    };
    (@ $behaviour:ident $layout:ident $dialect:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $behaviour() {
            use crate::harness::{Dialect, Layout, Stage};
            super::$behaviour(&Stage::set(Layout::$layout, Dialect::$dialect).await).await;
        }
    };
}

/// Makes tests of functions that take a `Layout`: on one replica and across three.
macro_rules! on_both_backplanes {
    ($($behaviour:ident),* $(,)?) => {
        mod memory { $(on_both_backplanes!(@ $behaviour Memory);)* }
        mod redis { $(on_both_backplanes!(@ $behaviour Redis);)* }
    };
    (@ $behaviour:ident $layout:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $behaviour() {
            super::$behaviour(crate::harness::Layout::$layout).await;
        }
    };
}
