//! Lanes of one kind: a few for all rooms, or in a cluster one for each partition, so that each follows its slot.

use std::sync::{Arc, OnceLock};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connect::Connector,
    lane::{Pipeline, PipelineConfig},
    link::{Link, LinkKind},
    status::Status,
};

/// Lanes, which are started when they are first needed.
#[derive(Clone, Debug)]
pub(super) struct Lanes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lanes: Box<[OnceLock<Pipeline>]>,
    /// The connections that they use in turns.
    kinds: Vec<LinkKind>,
    config: PipelineConfig,
    connector: Arc<Connector>,
    status: Arc<Status>,
    tasks: TaskTracker,
    close: CancellationToken,
}

impl Lanes {
    /// One lane for each of these connections, or in a cluster for each partition.
    pub(super) fn new(
        kinds: Vec<LinkKind>,
        config: PipelineConfig,
        connector: Arc<Connector>,
        status: Arc<Status>,
        tasks: TaskTracker,
        close: CancellationToken,
    ) -> Self {
        let partitions = connector.cluster().map(|_| connector.scripts().keys.partitions());
        let lanes = (0..partitions.unwrap_or(kinds.len())).map(|_| OnceLock::new()).collect();
        let lanes = Self(Arc::new(Inner { lanes, kinds, config, connector, status, tasks, close }));
        // A wrong password shows at once. In a cluster one partition stands for all.
        let first = if partitions.is_some() { 1 } else { lanes.0.lanes.len() };
        for index in 0..first {
            lanes.at(index);
        }
        lanes
    }

    /// The lane of a partition, or else that of something with this hash.
    pub(super) fn of(&self, partition: usize, hash: u64) -> &Pipeline {
        let index = if self.0.connector.cluster().is_some() {
            partition
        } else {
            usize::try_from(hash % self.0.lanes.len() as u64).unwrap_or(0)
        };
        self.at(index)
    }

    fn at(&self, index: usize) -> &Pipeline {
        let Inner { lanes, kinds, config, connector, status, tasks, close } = &*self.0;
        lanes[index].get_or_init(|| {
            let partition = if connector.cluster().is_some() { index } else { 0 };
            let link = Link { partition, kind: kinds[index % kinds.len()] };
            let (connector, status, close) = (connector.clone(), status.clone(), close.clone());
            let (lane, driver) = Pipeline::new(*config, link, connector, status, close);
            tasks.spawn(driver);
            lane
        })
    }
}
