//! A network namespace for each node, joined by a bridge in the namespace of this process, and packets dropped between them.
//!
//! Needs root, `iptables`, and a process that already has network and mount namespaces of its own: `enter` starts it anew in such.
//! Invariant: nothing outside these namespaces is touched; they are gone with the processes in them.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::inject::{command, packages};
use crate::cluster::Place;
use crate::program::Program;

/// Set in a process that `enter` has started.
const MARK: &str = "WEIR_COMPAT_NAMESPACE";
const PREFIX: &str = "10.77.0";
const BRIDGE: &str = "br0";

/// Starts this very program again in fresh network and mount namespaces; returns at once in the one that runs there.
pub fn enter() -> Result<()> {
    if std::env::var_os(MARK).is_some() {
        command(&["ip", "link", "set", "lo", "up"])?;
        return Ok(());
    }
    packages("iproute2 iptables strace")?;
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env(MARK, "1").env("WEIR_COMPAT_BINARY", crate::paths::weir()?);
    // CARGO_… stay as they are: the same target folder is used there
    Err(again.exec()).context("cannot run `unshare` (root is needed)")
}

/// The nodes' namespaces, each held open by a process that sleeps.
#[derive(Debug)]
pub(super) struct Net {
    holders: Vec<Program>,
    /// In the names of devices: the kernel may still be taking down those of an earlier row.
    generation: u32,
}

impl Net {
    pub fn new(places: &mut [Place]) -> Result<Net> {
        if std::env::var_os(MARK).is_none() {
            bail!("this row must run in namespaces of its own");
        }
        // a bridge of an earlier row goes with all that hung on it
        if command(&["ip", "link", "show", BRIDGE]).is_ok() {
            command(&["ip", "link", "delete", BRIDGE])?;
        }
        command(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
        command(&["ip", "address", "add", &format!("{PREFIX}.254/24"), "dev", BRIDGE])?;
        command(&["ip", "link", "set", BRIDGE, "up"])?;
        static GENERATION: AtomicU32 = AtomicU32::new(0);
        let mut net = Net { holders: Vec::new(), generation: GENERATION.fetch_add(1, Ordering::Relaxed) };
        for (at, place) in places.iter_mut().enumerate() {
            let node = u32::try_from(at + 1)?;
            let mut sleep = Command::new("unshare");
            sleep.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
            let holder = Program::start("namespace", &mut sleep)?;
            let pid = holder.pid().to_string();
            net.holders.push(holder);
            wait_for_namespace(&pid)?;
            let (inner, outer, address) =
                (net.device(node), format!("p{}", net.device(node)), format!("{PREFIX}.{node}"));
            command(&["ip", "link", "add", &outer, "type", "veth", "peer", "name", &inner])?;
            command(&["ip", "link", "set", &inner, "netns", &pid])?;
            command(&["ip", "link", "set", &outer, "master", BRIDGE])?;
            command(&["ip", "link", "set", &outer, "up"])?;
            net.inside(node, &["ip", "address", "add", &format!("{address}/24"), "dev", &inner])?;
            net.inside(node, &["ip", "link", "set", &inner, "up"])?;
            net.inside(node, &["ip", "link", "set", "lo", "up"])?;
            place.host = address;
            place.enter = ["nsenter", "--net", "--target", &pid].map(str::to_owned).to_vec();
        }
        Ok(net)
    }

    /// The name of a node's end of its cable.
    fn device(&self, node: u32) -> String {
        format!("n{}-{node}", self.generation)
    }

    /// Runs a command in a node's namespace.
    fn inside(&self, node: u32, words: &[&str]) -> Result<String> {
        let at = usize::try_from(node)?.checked_sub(1).context("nodes count from 1")?;
        let pid = self.holders.get(at).with_context(|| format!("node {node} has no namespace"))?.pid().to_string();
        command(&[&["nsenter", "--net", "--target", &pid], words].concat())
    }

    /// `to` hears nothing more from `from`.
    pub fn deafen(&self, to: u32, from: u32) -> Result<()> {
        let source = format!("{PREFIX}.{from}");
        self.inside(to, &["iptables", "-w", "-A", "INPUT", "-s", &source, "-j", "DROP"])?;
        Ok(())
    }

    /// Neither hears the other.
    pub fn cut(&self, one: u32, other: u32) -> Result<()> {
        self.deafen(one, other)?;
        self.deafen(other, one)
    }

    /// No packet of anybody, clients included.
    pub fn cut_from_all(&self, node: u32) -> Result<()> {
        for chain in ["INPUT", "OUTPUT"] {
            let device = if chain == "INPUT" { "-i" } else { "-o" };
            self.inside(node, &["iptables", "-w", "-A", chain, device, &self.device(node), "-j", "DROP"])?;
        }
        Ok(())
    }

    pub fn heal(&self) -> Result<()> {
        for node in 1..=u32::try_from(self.holders.len())? {
            self.inside(node, &["iptables", "-w", "-F"])?;
        }
        Ok(())
    }
}

/// Until `unshare` has made it, the process is still in ours.
fn wait_for_namespace(pid: &str) -> Result<()> {
    let ours = std::fs::read_link("/proc/self/ns/net")?;
    crate::program::wait_until("a namespace of its own", std::time::Duration::from_secs(10), || {
        Ok(std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs != ours))
    })
}
