//! A private Redis Cluster: three masters that share the slots, and a replica of each where one is asked for.

use std::time::Duration;

use crate::{Error, Redis, Settings, wait_until};

/// How many nodes hold slots at first.
const MASTERS: usize = 3;

/// How many slots there are, by Redis's specification.
const SLOTS: usize = 16_384;

/// What makes a server a node. A node that has been silent for the timeout, in milliseconds, is taken for lost. A
/// master need not wait for more replicas than the one that asks for its data.
const OPTIONS: [(&str, &str); 3] =
    [("cluster-enabled", "yes"), ("cluster-node-timeout", "2000"), ("repl-diskless-sync-delay", "0")];

/// A new node waits two seconds before it takes writes, and a failover takes a few timeouts; the rest is for a busy
/// machine.
const AGREEMENT_TIME_MAX: Duration = Duration::from_secs(60);

/// Nodes that know one another; all end, and their directories go, with the value.
#[derive(Debug)]
pub struct RedisCluster {
    /// Masters first; node `3 + i` starts as the replica of node `i`.
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts three masters without replicas.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        Self::form(settings, MASTERS)
    }

    /// Starts three masters with a replica each, which can take over.
    pub fn start_with_replicas(settings: &Settings) -> Result<Self, Error> {
        Self::form(settings, 2 * MASTERS)
    }

    /// `redis+cluster://127.0.0.1:PORT,127.0.0.1:PORT,…` with every node.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The nodes, each of which can be asked, stopped, killed, paused and started again by itself.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The numbers of the nodes that run and are masters now.
    pub fn masters(&self) -> Vec<usize> {
        let is_master =
            |node: &Redis| node.ask(&["ROLE"]).is_ok_and(|role| role.lines().next() == Some("master"));
        (0..self.nodes.len()).filter(|node| is_master(&self.nodes[*node])).collect()
    }

    /// Shuts one node down in order.
    pub fn stop(&self, node: usize) -> Result<(), Error> {
        self.node(node)?.stop()
    }

    /// Kills one node with SIGKILL.
    pub fn kill(&self, node: usize) -> Result<(), Error> {
        self.node(node)?.kill()
    }

    /// Starts one node again. It answers then, but the cluster may take seconds to count on it: `wait_until_ok`.
    pub fn start_again(&self, node: usize) -> Result<(), Error> {
        self.node(node)?.start_again()
    }

    /// Freezes one node.
    pub fn pause(&self, node: usize) -> Result<(), Error> {
        self.node(node)?.pause()
    }

    /// Lets one node go on.
    pub fn resume(&self, node: usize) -> Result<(), Error> {
        self.node(node)?.resume()
    }

    /// Waits until every node that runs says that all slots are served, and every replica among them follows its
    /// master.
    pub fn wait_until_ok(&self) -> Result<(), Error> {
        let running: Vec<&Redis> = self.nodes.iter().filter(|node| !node.processes().is_empty()).collect();
        let follows = |node: &Redis| {
            says(node, &["INFO", "replication"], "role:master")
                || says(node, &["INFO", "replication"], "master_link_status:up")
        };
        self.agree("the cluster is not ok", || {
            running.iter().all(|node| says(node, &["CLUSTER", "INFO"], "cluster_state:ok") && follows(node))
        })
    }

    fn node(&self, number: usize) -> Result<&Redis, Error> {
        self.nodes.get(number).ok_or_else(|| {
            Error::new(format!("the cluster has {} nodes, and no node {number}", self.nodes.len()))
        })
    }

    fn form(settings: &Settings, count: usize) -> Result<Self, Error> {
        let mut settings = settings.clone();
        let theirs = std::mem::take(&mut settings.options);
        settings.options = OPTIONS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        settings.options.extend(theirs);
        let nodes = (0..count).map(|_| Redis::start(&settings)).collect::<Result<Vec<Redis>, Error>>()?;
        let cluster = Self { nodes };
        cluster.introduce()?;
        cluster.assign_slots()?;
        cluster.assign_replicas()?;
        cluster.wait_until_ok()?;
        Ok(cluster)
    }

    /// Every node gets to know every other.
    fn introduce(&self) -> Result<(), Error> {
        for (number, node) in self.nodes.iter().enumerate() {
            // Different from the start, the nodes need not settle who is right.
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
        }
        let first = self.node(0)?;
        for node in &self.nodes[1..] {
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()])?;
        }
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        self.agree("the nodes do not know one another", || {
            self.nodes.iter().all(|node| says(node, &["CLUSTER", "INFO"], &known))
        })
    }

    fn assign_slots(&self) -> Result<(), Error> {
        for (number, node) in self.nodes.iter().take(MASTERS).enumerate() {
            let slots = (SLOTS * number / MASTERS)..(SLOTS * (number + 1) / MASTERS);
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let mut words = vec!["CLUSTER", "ADDSLOTS"];
            words.extend(slots.iter().map(String::as_str));
            node.ask(&words)?;
        }
        Ok(())
    }

    fn assign_replicas(&self) -> Result<(), Error> {
        for (master, replica) in self.nodes.iter().zip(self.nodes.iter().skip(MASTERS)) {
            replica.ask(&["CLUSTER", "REPLICATE", &master.ask(&["CLUSTER", "MYID"])?])?;
        }
        for replica in self.nodes.iter().skip(MASTERS) {
            self.agree("a replica does not follow its master", || {
                says(replica, &["INFO", "replication"], "master_link_status:up")
            })?;
        }
        Ok(())
    }

    /// Waits; the error says what every node says of the cluster.
    fn agree(&self, complaint: &str, holds: impl FnMut() -> bool) -> Result<(), Error> {
        if wait_until(AGREEMENT_TIME_MAX, holds) {
            return Ok(());
        }
        let mut text = format!("Redis Cluster: {complaint} after {} s", AGREEMENT_TIME_MAX.as_secs());
        for node in &self.nodes {
            let said = node.ask(&["CLUSTER", "INFO"]).unwrap_or_else(|error| error.to_string());
            let said: Vec<&str> =
                said.lines().filter(|line| !line.contains("_messages_")).map(str::trim_end).collect();
            text.push_str(&format!("\n    127.0.0.1:{}: {}", node.port(), said.join(" ")));
        }
        Err(Error::new(text))
    }
}

/// Whether the answer has this line.
fn says(node: &Redis, question: &[&str], line: &str) -> bool {
    node.ask(question).is_ok_and(|answer| answer.lines().any(|said| said.trim_end() == line))
}
