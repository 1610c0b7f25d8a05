//! What is done to the servers of a Redis that has several.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom as _};

use super::record::Fault;
use crate::harness::{RedisCluster, Sentinels, Shared};

/// The most slots that are moved at a time; and half of those that a master has, as one without any has no vote: two others
/// cannot replace each other.
const SLOTS: usize = 1500;

/// Does this, and waits until the servers have recovered.
pub(super) async fn disturb(fault: Fault, shared: &mut Shared, random: &mut StdRng) {
    match shared {
        Shared::One(_) => panic!("there is one server"),
        Shared::Sentinels(sentinels) => replace_master(fault, sentinels).await,
        Shared::Cluster(cluster) => disturb_cluster(fault, cluster, random).await,
    }
}

async fn replace_master(fault: Fault, sentinels: &mut Sentinels) {
    let former = sentinels.master().await.expect("they agree");
    match fault {
        Fault::KillMaster => {
            sentinels.servers[former].kill();
            sentinels.until_replaced(former).await;
            sentinels.servers[former].restart().await;
        }
        Fault::FailOver => {
            sentinels.fail_over().await;
            sentinels.until_replaced(former).await;
        }
        other => panic!("{other:?} cannot be done to a master"),
    }
    sentinels.until_settled().await;
}

async fn disturb_cluster(fault: Fault, cluster: &mut RedisCluster, random: &mut StdRng) {
    let masters = cluster.masters().await;
    let one = *masters.choose(random).expect("there are masters");
    let mut others = masters.clone();
    others.retain(|it| *it != one);
    let another = *others.choose(random).expect("there are three");
    match fault {
        Fault::KillMaster => {
            // One that was added has no replica.
            let Some((master, _)) = cluster.followed().await.choose(random).copied() else {
                return;
            };
            cluster.nodes[master].kill();
            cluster.until_replaced(master).await;
            cluster.nodes[master].restart().await;
            cluster.until_following(master).await;
        }
        Fault::FailOver => {
            let Some((_, replica)) = cluster.followed().await.choose(random).copied() else {
                return;
            };
            cluster.fail_over_to(replica).await;
        }
        Fault::MoveSlots => {
            let slots = random.random_range(100..SLOTS).min(cluster.slots(one).await / 2);
            cluster.reshard(one, another, slots).await;
        }
        Fault::AddNode => {
            let node = cluster.add().await;
            let slots = SLOTS.min(cluster.slots(one).await / 2);
            cluster.reshard(one, node, slots).await;
        }
        Fault::RemoveNode => cluster.remove_added(one).await,
        other => panic!("{other:?} cannot be done to a cluster"),
    }
    cluster.until_whole().await;
    cluster.until_steady().await;
}
