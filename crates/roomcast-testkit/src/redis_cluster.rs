//! A Redis Cluster of a test's own.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
    time::Duration,
};

use crate::{Redis, SOON, answered, eventually, process::free_port, run};

/// How long a node may be silent until the others replace it.
const NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// The slots of every cluster.
const SLOTS: usize = 16_384;

/// Masters with the slots spread evenly over them, and their replicas. All are killed when dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The ones that were masters at first, then their replicas, in turns of the masters; then those that were added.
    pub nodes: Vec<Redis>,
    /// Of each node, by its index, what the cluster calls it.
    ids: Vec<String>,
    added: Vec<usize>,
    arguments: Vec<String>,
}

impl RedisCluster {
    /// So many masters, each with so many replicas, all of them started with these arguments. Returns when all nodes
    /// agree that every slot is served.
    pub async fn start(masters: usize, replicas: usize, arguments: &[&str]) -> Self {
        let mut this = Self {
            nodes: Vec::new(),
            ids: Vec::new(),
            added: Vec::new(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        for _ in 0..masters * (1 + replicas) {
            this.start_node().await;
        }
        for master in 0..masters {
            let (first, end) = (SLOTS * master / masters, SLOTS * (master + 1) / masters);
            let range = [first.to_string(), (end - 1).to_string()];
            this.tell(master, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
            let epoch = (master + 1).to_string();
            this.tell(master, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        for node in 1..this.nodes.len() {
            this.meet(node).await;
        }
        this.until_known(this.nodes.len()).await;
        for replica in masters..this.nodes.len() {
            let master = this.ids[replica % masters].clone();
            this.tell(replica, &["CLUSTER", "REPLICATE", &master]).await;
        }
        this.until_whole().await;
        for replica in masters..this.nodes.len() {
            this.until_following(replica).await;
        }
        this
    }

    async fn start_node(&mut self) {
        let (bus, timeout) = (free_port().to_string(), NODE_TIMEOUT.as_millis().to_string());
        let own: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let cluster = [
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            &timeout,
            "--cluster-require-full-coverage",
            "no",
            // A replica is promoted however long it was cut off.
            "--cluster-replica-validity-factor",
            "0",
            // A master without slots stays one.
            "--cluster-allow-replica-migration",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let node = Redis::start_with(&[&cluster[..], &own[..]].concat()).await;
        self.ids.push(node.command(&["CLUSTER", "MYID"]).await.expect("CLUSTER MYID"));
        self.nodes.push(node);
    }

    async fn tell(&self, node: usize, words: &[&str]) {
        self.nodes[node].command::<String>(words).await.expect("a node of a cluster obeys");
    }

    async fn meet(&self, node: usize) {
        let bus: Vec<String> =
            self.nodes[node].command(&["CONFIG", "GET", "cluster-port"]).await.expect("CONFIG GET");
        let port = self.nodes[node].port().to_string();
        self.tell(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).await;
    }

    /// Waits until every node knows so many.
    async fn until_known(&self, count: usize) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            eventually(3 * SOON, "the nodes know each other", async || {
                let nodes: String = node.command(&["CLUSTER", "NODES"]).await.ok()?;
                let known = nodes.lines().filter(|line| !line.contains("handshake")).count();
                (known >= count).then_some(())
            })
            .await;
        }
    }

    /// Waits until all nodes that run agree that every slot is served.
    pub async fn until_whole(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            eventually(6 * SOON, "the cluster serves every slot", async || {
                let info: String = node.command(&["CLUSTER", "INFO"]).await.ok()?;
                let whole = info.contains("cluster_state:ok")
                    && info.contains(&format!("cluster_slots_ok:{SLOTS}"));
                whole.then_some(())
            })
            .await;
        }
    }

    /// Waits until a node follows a master that it has all data of.
    pub async fn until_following(&self, node: usize) {
        eventually(3 * SOON, "a replica has its master's data", async || {
            let about: String = self.nodes[node].command(&["INFO", "replication"]).await.ok()?;
            (about.contains("role:slave") && about.contains("master_link_status:up")).then_some(())
        })
        .await;
    }

    /// The URL to give to a replica of roomcast.
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", self.hosts().join(","))
    }

    /// Where each node is.
    pub fn hosts(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addr().to_string()).collect()
    }

    /// What the nodes are, by one that runs: of each node's index its flags and its slots, as `CLUSTER NODES` has them.
    async fn roles(&self) -> Option<HashMap<usize, (String, String)>> {
        let node = self.nodes.iter().find(|node| node.is_running())?;
        let nodes: String = node.command(&["CLUSTER", "NODES"]).await.ok()?;
        let role = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let index = self.ids.iter().position(|id| id == fields[0])?;
            Some((index, (fields[2].to_owned(), fields.get(8..)?.join(" "))))
        };
        Some(nodes.lines().filter_map(role).collect())
    }

    /// The nodes that are masters of any slots and run, by their indices.
    pub async fn masters(&self) -> Vec<usize> {
        let roles = self.roles().await.expect("a node tells");
        let is_master = |(flags, slots): &(String, String)| {
            flags.contains("master") && !flags.contains("fail") && !slots.is_empty()
        };
        let mut masters: Vec<_> =
            roles.into_iter().filter(|(_, role)| is_master(role)).map(|(index, _)| index).collect();
        masters.retain(|index| self.nodes[*index].is_running());
        masters.sort_unstable();
        masters
    }

    /// How many slots a node has.
    pub async fn slots(&self, node: usize) -> usize {
        let roles = self.roles().await.expect("a node tells");
        let ranges = roles.get(&node).map_or("", |(_, slots)| slots).split_whitespace();
        // Those that are on their way are counted where they are, in the ranges.
        let ranges = ranges.filter(|range| !range.starts_with('['));
        let number = |text: &str| text.parse::<usize>().expect("a slot");
        let count = |range: &str| match range.split_once('-') {
            Some((first, last)) => number(last) + 1 - number(first),
            None => 1,
        };
        ranges.map(count).sum()
    }

    /// Waits until another node has the slots of this one; all slots are served then.
    pub async fn until_replaced(&self, former: usize) {
        eventually(3 * SOON, "a replica is promoted", async || {
            let roles = self.roles().await?;
            let (flags, slots) = roles.get(&former)?;
            (flags.contains("slave") || slots.is_empty()).then_some(())
        })
        .await;
        self.until_whole().await;
    }

    /// Has a replica take its master's place although nothing is wrong with that.
    pub async fn fail_over_to(&self, replica: usize) {
        self.tell(replica, &["CLUSTER", "FAILOVER"]).await;
        eventually(3 * SOON, "the replica is the master", async || {
            let about: String = self.nodes[replica].command(&["INFO", "replication"]).await.ok()?;
            about.contains("role:master").then_some(())
        })
        .await;
    }

    /// Moves so many slots from one master to another one, as an operator does. Returns when that is done.
    pub async fn reshard(&self, from: usize, to: usize, slots: usize) {
        let entry = self.nodes[from].addr().to_string();
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "reshard", &entry, "--cluster-yes"]);
        command.args(["--cluster-from", &self.ids[from], "--cluster-to", &self.ids[to]]);
        command.args(["--cluster-slots", &slots.to_string()]);
        let finished = run(command, 12 * SOON).await;
        let words = finished.stdout.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        assert_eq!(finished.code, Some(0), "redis-cli --cluster reshard: {words}");
    }

    /// Begins to move a slot, the way that `redis-cli` does, and leaves all keys where they are.
    pub async fn begin_moving(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let (source, target) = (self.ids[from].clone(), self.ids[to].clone());
        self.tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await;
        self.tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await;
    }

    /// Moves the keys of a slot that [begins to move](Self::begin_moving); all but so many.
    pub async fn move_keys(&self, slot: u16, from: usize, to: usize, but: usize) {
        let words = ["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "10000"];
        let keys: Vec<String> = self.nodes[from].command(&words).await.expect("the keys of a slot");
        let port = self.nodes[to].port().to_string();
        for key in keys.iter().skip(but) {
            let words = ["MIGRATE", "127.0.0.1", &port, key, "0", "5000"];
            self.tell(from, &words).await;
        }
    }

    /// Ends the moving of a slot.
    pub async fn end_moving(&self, slot: u16, from: usize, to: usize) {
        let (slot, target) = (slot.to_string(), self.ids[to].clone());
        for node in [to, from] {
            self.tell(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await;
        }
    }

    /// Adds a master without slots; returns its index.
    pub async fn add(&mut self) -> usize {
        self.start_node().await;
        let index = self.nodes.len() - 1;
        self.meet(index).await;
        // The others of those that run.
        let running = self.nodes.iter().filter(|node| node.is_running()).count();
        self.until_known(running).await;
        self.until_whole().await;
        self.until_steady().await;
        self.added.push(index);
        index
    }

    /// The masters that have a replica which can take their place, and that replica, by their indices. A replica of a
    /// master without slots cannot: nobody votes for it.
    pub async fn followed(&self) -> Vec<(usize, usize)> {
        let masters = self.masters().await;
        let mut followed = Vec::new();
        for (replica, node) in self.nodes.iter().enumerate().filter(|(_, it)| it.is_running()) {
            let about: String = node.command(&["INFO", "replication"]).await.expect("INFO");
            let up = about.contains("master_link_status:up");
            let port = about.lines().find_map(|line| line.strip_prefix("master_port:"));
            let port = port.and_then(|port| port.trim().parse::<u16>().ok());
            let master = self.nodes.iter().position(|node| Some(node.port()) == port);
            let master = master.filter(|master| up && masters.contains(master));
            followed.extend(master.map(|master| (master, replica)));
        }
        followed
    }

    /// Waits until all nodes that run say the same of who has which slots. A failover right behind a move may leave a
    /// node with a slot that it believes to be on its way, or without one that all others give to the same master, and
    /// it learns nothing of that any more: an operator mends it by `redis-cli --cluster fix`, and by telling it.
    pub async fn until_steady(&self) {
        if !self.agree_within(SOON).await {
            self.close_open_slots().await;
            self.tell_lacking().await;
            assert!(
                self.agree_within(3 * SOON).await,
                "nodes do not agree: {:#?}",
                self.views().await
            );
        }
    }

    async fn agree_within(&self, time: Duration) -> bool {
        let agreed = async || {
            let mut views = self.views().await?;
            views.dedup();
            (views.len() == 1).then_some(())
        };
        answered(time, agreed).await.is_some()
    }

    /// Of each node that runs, which owners of slots it knows, and their slots.
    async fn views(&self) -> Option<Vec<Vec<String>>> {
        let mut views = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let nodes: String = node.command(&["CLUSTER", "NODES"]).await.ok()?;
            // Slots that are on their way are marked at their ends only.
            let owner = |line: &str| {
                let fields: Vec<&str> = line.split(' ').collect();
                let slots = fields.get(8..).unwrap_or_default().iter();
                let slots: Vec<_> = slots.filter(|it| !it.starts_with('[')).copied().collect();
                (!slots.is_empty()).then(|| format!("{} {}", fields[0], slots.join(" ")))
            };
            let mut view: Vec<String> = nodes.lines().filter_map(owner).collect();
            view.sort();
            views.push(view);
        }
        Some(views)
    }

    /// Has no node believe any more that a slot is on its way.
    async fn close_open_slots(&self) {
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, it)| it.is_running()) {
            let nodes: String = node.command(&["CLUSTER", "NODES"]).await.expect("CLUSTER NODES");
            // [831-<-id] and [831->-id], which each node tells of itself only.
            let open = nodes.split_whitespace().filter_map(|it| it.strip_prefix('['));
            for slot in open.filter_map(|it| it.split_once('-')).map(|(slot, _)| slot) {
                println!("node {index} believes that slot {slot} is on its way");
                self.tell(index, &["CLUSTER", "SETSLOT", slot, "STABLE"]).await;
            }
        }
    }

    /// Tells each master of the slots that it knows no owner of, and all others the same one.
    async fn tell_lacking(&self) {
        let mut owners = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, it)| it.is_running()) {
            let nodes: String = node.command(&["CLUSTER", "NODES"]).await.expect("CLUSTER NODES");
            owners.push((index, owners_of_slots(&nodes)));
        }
        for slot in 0..SLOTS {
            let known: HashSet<&str> =
                owners.iter().filter_map(|(_, it)| it[slot].as_deref()).collect();
            let Some(owner) = known.iter().next().filter(|_| known.len() == 1) else { continue };
            for (index, _) in owners.iter().filter(|(_, it)| it[slot].is_none()) {
                println!("node {index} knows no owner of slot {slot}, which is {owner}");
                let words = ["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", owner];
                // Of its master a replica learns by itself.
                if let Err(error) = self.nodes[*index].command::<String>(&words).await {
                    println!("node {index}: {error}");
                }
            }
        }
    }

    /// Has the nodes that were [added](Self::add) last give all their slots to another master, and leave. Does nothing
    /// where there is none.
    pub async fn remove_added(&mut self, to: usize) {
        let Some(index) = self.added.pop() else { return };
        let to = if to == index {
            self.masters().await.into_iter().find(|it| *it != index)
        } else {
            Some(to)
        };
        let to = to.expect("there are other masters");
        self.until_steady().await;
        if self.masters().await.contains(&index) {
            self.reshard(index, to, SLOTS).await;
        }
        // Replicas are not told, but hear of it: one that still takes it for the owner of slots would miss them.
        self.until_steady().await;
        self.until_whole().await;
        let id = self.ids[index].clone();
        self.nodes[index].kill();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.command::<String>(&["CLUSTER", "FORGET", &id]).await.expect("CLUSTER FORGET");
        }
    }
}

/// Who has each slot, by what `CLUSTER NODES` answers.
fn owners_of_slots(nodes: &str) -> Vec<Option<String>> {
    let mut owners = vec![None; SLOTS];
    for line in nodes.lines() {
        let mut fields = line.split(' ');
        let id = fields.next().unwrap_or_default();
        for range in fields.skip(7).filter(|it| !it.starts_with('[')) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let bounds = first.parse::<usize>().ok().zip(last.parse::<usize>().ok());
            let (first, last) = bounds.expect("a range of slots");
            owners[first..=last].fill(Some(id.to_owned()));
        }
    }
    owners
}
