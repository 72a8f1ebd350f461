//! `weir node list|add|drain|decommission|remove`: who is in the cluster, and what the operator wants of a node.
//!
//! Owns the commands and their progress. Does not own what happens: the active controller moves leaders and replicas;
//! any node passes the wish on. Invariants: stdout carries the result, stderr the progress; a command that returns 0 has
//! reached what it names.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};

use super::at::At;
use super::cluster::{self, Cluster, NodeShown};
use super::show::{Output, Progress, print};
use crate::client::Client;

/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub enum Node {
    /// List the nodes of the cluster: state, role, what they lead and hold
    List(List),
    /// Let a node take its share: undoes drain and decommission, and moves replicas to a node that is new
    Add(Change),
    /// Move all leaderships away from a node that is to be worked on; its replicas stay
    Drain(Change),
    /// Move everything away from a node, so that it can be removed for good
    Decommission(Change),
    /// Make the cluster forget a node that is stopped and holds nothing
    Remove(Change),
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    at: At,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
pub struct Change {
    /// The node's number, as `weir node list` shows it
    #[arg(value_name = "NODE")]
    node: i32,
    #[command(flatten)]
    at: At,
    /// Return once it is decided, without waiting until it is done
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting after so many seconds; what was decided goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

impl Node {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Node::List(list) => list.run(),
            Node::Add(change) => change.run(&ADD),
            Node::Drain(change) => change.run(&DRAIN),
            Node::Decommission(change) => change.run(&DECOMMISSION),
            Node::Remove(change) => change.run(&REMOVE),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let mut client = self.at.client()?;
        let cluster = Cluster::ask(&mut client)?;
        let text = match self.output {
            Output::Json => cluster::json(&cluster),
            Output::Text => cluster::table(&cluster, false),
            Output::Wide => cluster::table(&cluster, true),
        };
        print(&text)
    }
}

/// One kind of wish: what is said to the cluster, and when it is fulfilled.
struct Wish {
    duty: &'static str,
    /// Others have to take over what the node has.
    hands_over: bool,
    /// What is still to be done; 0: nothing.
    left: fn(&Cluster, i32) -> usize,
    /// What is left, after its number.
    unit: &'static str,
    doing: &'static str,
    done: &'static str,
}

const ADD: Wish = Wish {
    duty: "joining",
    hands_over: false,
    left: |cluster, node| {
        cluster.node(node).map_or(2, |node| usize::from(node.fenced) + usize::from(node.duty == "joining"))
    },
    unit: "steps (to live, to hold its share)",
    doing: "joins",
    done: "takes its share",
};

const DRAIN: Wish = Wish {
    duty: "drained",
    hands_over: true,
    left: |cluster, node| cluster.node(node).map_or(0, |node| node.leaders),
    unit: "leaderships",
    doing: "is being drained",
    done: "leads nothing",
};

const DECOMMISSION: Wish = Wish {
    duty: "leaving",
    hands_over: true,
    left: |cluster, node| cluster.node(node).map_or(0, |node| node.replicas + node.leaders + usize::from(node.votes)),
    unit: "leaderships, replicas and votes",
    doing: "is being decommissioned",
    done: "holds nothing: stop it, then `weir node remove` it",
};

const REMOVE: Wish = Wish {
    duty: "removed",
    hands_over: false,
    left: |cluster, node| usize::from(cluster.node(node).is_some()),
    unit: "registrations",
    doing: "is being removed",
    done: "is forgotten",
};

/// Duties of a node that is given nothing more.
const GOING: [&str; 2] = [DRAIN.duty, DECOMMISSION.duty];

/// Refuses at once what would be waited for in vain.
fn ensure_heir(cluster: &Cluster, node: i32) -> anyhow::Result<()> {
    let others = || cluster.nodes.iter().filter(|other| other.id != node);
    ensure!(others().next().is_some(), "node {node} is the only one: nobody could take over; start another node first");
    ensure!(
        others().any(|other| !other.fenced),
        "no node but {node} is alive: nobody could take over; start another node first"
    );
    let is_heir = |other: &NodeShown| !other.fenced && !GOING.contains(&other.duty.as_str());
    if !others().any(is_heir) {
        let going = others().filter(|other| !other.fenced);
        let going: Vec<String> = going.map(|other| format!("{} is {}", other.id, other.duty)).collect();
        bail!(
            "no node but {node} takes leaderships: node {}; nobody could take over: `weir node add` one of them first, or start another \
             node",
            going.join(", ")
        );
    }
    Ok(())
}

impl Change {
    fn run(self, wish: &Wish) -> anyhow::Result<()> {
        let mut client = self.at.client()?;
        let before = Cluster::ask(&mut client)?;
        let known = || before.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>().join(", ");
        let Some(shown) = before.node(self.node) else {
            bail!("node {} is not in the cluster; its nodes are {}", self.node, known());
        };
        // A wish that was granted before has found its heirs.
        if wish.hands_over && shown.duty != wish.duty {
            ensure_heir(&before, self.node)?;
        }
        cluster::set_duty(&mut client, self.node, wish.duty)?;
        if self.no_wait {
            return print(&format!("node {} {}\n", self.node, wish.doing));
        }
        self.wait(&mut client, wish)?;
        print(&format!("node {} {}\n", self.node, wish.done))
    }

    fn wait(&self, client: &mut Client, wish: &Wish) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut progress = Progress::new();
        loop {
            let left = match Cluster::ask(client) {
                Ok(cluster) => Some((wish.left)(&cluster, self.node)).filter(|_| cluster.no_quorum.is_none()),
                // The node that was asked may be the one that goes.
                Err(_) => self.at.client().map(|fresh| *client = fresh).map_or(None, |()| None),
            };
            if let Some(left) = left {
                progress.show(&format!("node {} {}: {left} {} left", self.node, wish.doing, wish.unit), left == 0);
                if left == 0 {
                    return Ok(());
                }
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(self.timeout),
                "node {} {}, but is not done after {} s: `weir node list` shows how far it is",
                self.node,
                wish.doing,
                self.timeout
            );
            std::thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster_of(nodes: Vec<NodeShown>) -> Cluster {
        Cluster { id: "c".to_owned(), nodes, under_replicated: 0, leaderless: 0, reassigning: 0, no_quorum: None }
    }

    fn node(id: i32) -> NodeShown {
        NodeShown { id, address: "h:1".to_owned(), duty: "full".to_owned(), ..NodeShown::default() }
    }

    #[test]
    fn a_node_is_drained_when_it_leads_nothing_and_decommissioned_when_it_holds_nothing() {
        let cluster =
            cluster_of(vec![NodeShown { replicas: 3, ..node(1) }, NodeShown { leaders: 2, ..node(2) }, node(3)]);
        let left = |wish: &Wish| [1, 2, 3, 4].map(|node| (wish.left)(&cluster, node));
        assert_eq!(left(&DRAIN), [0, 2, 0, 0]);
        assert_eq!(left(&DECOMMISSION), [3, 2, 0, 0]);
        assert_eq!(left(&REMOVE), [1, 1, 1, 0]);
    }

    #[test]
    fn a_node_goes_only_where_another_one_that_lives_can_take_over() {
        let refused = |nodes: Vec<NodeShown>| ensure_heir(&cluster_of(nodes), 1).err().map(|error| error.to_string());
        assert_eq!(refused(vec![node(1), node(2)]), None);
        assert_eq!(refused(vec![NodeShown { fenced: true, ..node(1) }, node(2)]), None, "a dead node may go");
        assert!(refused(vec![node(1)]).is_some_and(|told| told.contains("node 1 is the only one")));
        let dead = NodeShown { fenced: true, ..node(2) };
        assert!(refused(vec![node(1), dead.clone()]).is_some_and(|told| told.contains("no node but 1 is alive")));
        let with = |id: i32, duty: &str| NodeShown { duty: duty.to_owned(), ..node(id) };
        let going = vec![node(1), with(2, "drained"), with(3, "leaving")];
        let told = refused(going.clone()).expect("node 1 is the last that leads");
        assert!(told.contains("node 2 is drained, 3 is leaving") && told.contains("`weir node add`"), "{told}");
        assert!(
            refused([going.clone(), vec![NodeShown { id: 4, ..dead }]].concat()).is_some(),
            "the dead take nothing"
        );
        assert_eq!(refused([going, vec![with(4, "joining")]].concat()), None, "who joins takes leaderships");
    }

    #[test]
    fn a_node_is_added_when_it_lives_and_has_its_share() {
        let joining = NodeShown { duty: "joining".to_owned(), ..node(2) };
        let cluster = cluster_of(vec![node(1), joining, NodeShown { fenced: true, ..node(3) }]);
        assert_eq!([1, 2, 3, 4].map(|node| (ADD.left)(&cluster, node)), [0, 1, 1, 2]);
    }
}
