//! Means to break what is below a process: its system calls, its disk, its clock.
//!
//! Invariant: dropping a means ends it: system calls work again, mounts are gone.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Place;
use crate::paths;
use crate::program::{Program, run, wait_until};

const STEP_MAX: Duration = Duration::from_secs(30);
/// Room for what a node keeps on its disk, and for some seconds of load.
const DISK_BYTES: &str = "1g";

/// Runs a command that must succeed.
pub(super) fn command(words: &[&str]) -> Result<String> {
    let (first, rest) = words.split_first().context("a command has a name")?;
    let (program, status) = run("fault-means", Command::new(first).args(rest), "", STEP_MAX)?;
    ensure!(status.success(), "{words:?} ended with {status}\n{}", program.tail());
    program.output()
}

/// Installs Debian packages when they are missing, as the client suites do.
pub fn packages(names: &str) -> Result<()> {
    let setup = paths::suites().join("setup.sh");
    command(&["bash", "-c", &format!("source '{}'; packages {names}", setup.display())])?;
    Ok(())
}

/// System calls of a running process that are delayed or fail, until this is dropped.
#[derive(Debug)]
pub struct Broken {
    strace: Program,
    seen: PathBuf,
}

impl Broken {
    /// `what` as in `strace -e inject=`, without the names of the calls.
    pub fn attach(pid: u32, calls: &str, what: &str) -> Result<Broken> {
        Broken::attach_to(pid, None, calls, what)
    }

    /// The same for calls on one file alone.
    pub fn attach_on(pid: u32, file: &Path, calls: &str, what: &str) -> Result<Broken> {
        Broken::attach_to(pid, Some(file), calls, what)
    }

    fn attach_to(pid: u32, file: Option<&Path>, calls: &str, what: &str) -> Result<Broken> {
        let seen = paths::log("strace")?;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&seen).args(["-p", &pid.to_string()]);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{what}")]);
        if let Some(file) = file {
            command.arg("-P").arg(file);
        }
        let strace = Program::start("strace", &mut command)?;
        let status = format!("/proc/{pid}/status");
        let broken = Broken { strace, seen };
        wait_until("strace traces the process", STEP_MAX, || {
            let traced = std::fs::read_to_string(&status).unwrap_or_default();
            let is_traced = traced.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
            // it may have ended of the first broken call before anybody looked
            Ok(is_traced || broken.has_struck()?)
        })
        .with_context(|| broken.strace.tail())?;
        Ok(broken)
    }

    /// Whether a call has been broken yet.
    pub fn has_struck(&self) -> Result<bool> {
        let seen = std::fs::read_to_string(&self.seen).unwrap_or_default();
        Ok(seen.contains("(INJECTED)") || seen.contains("(DELAYED)"))
    }

    /// The process goes on as before; one that has ended meanwhile is no error.
    pub fn mend(mut self) -> Result<()> {
        self.strace.terminate(STEP_MAX)?;
        Ok(())
    }
}

/// A small file system in memory, mounted until this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    pub folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one on an empty folder; `size` as `mount -o size=` takes it.
    ///
    /// # Errors
    /// Mounting needs root; the error has the very command that failed.
    pub fn mount(folder: &Path, size: &str) -> Result<SmallDisk> {
        let size = format!("size={size}");
        command(&["mount", "-t", "tmpfs", "-o", &size, "weir-fault", &folder.display().to_string()])
            .context("a small file system can be mounted by root only")?;
        Ok(SmallDisk { folder: folder.to_owned() })
    }

    /// Not a byte is left, whatever others write meanwhile.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.folder.join("ballast"))?;
        let mut chunk = vec![0x5a; 1 << 20];
        while !chunk.is_empty() {
            match ballast.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => chunk.truncate(chunk.len() / 2),
                Err(error) => return Err(error).context("filling a small disk"),
            }
        }
        Ok(())
    }

    /// Takes away what `fill` wrote.
    pub fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.folder.join("ballast"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: a process on it may still be ending
        let unmounted = command(&["umount", "-l", &self.folder.display().to_string()]);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

/// A file system of its own for each node's data.
#[derive(Debug)]
pub(super) struct SmallDisks {
    disks: Vec<SmallDisk>,
    /// Removed after what is mounted below it.
    parent: tempfile::TempDir,
}

impl SmallDisks {
    pub fn new(places: &mut [Place]) -> Result<SmallDisks> {
        let mut disks = SmallDisks { disks: Vec::new(), parent: tempfile::tempdir()? };
        for (at, place) in places.iter_mut().enumerate() {
            let folder = disks.parent.path().join(format!("disk{}", at + 1));
            std::fs::create_dir(&folder)?;
            place.data = Some(folder.join("data"));
            disks.disks.push(SmallDisk::mount(&folder, DISK_BYTES)?);
        }
        Ok(disks)
    }

    fn disk(&self, node: u32) -> Result<&SmallDisk> {
        let at = usize::try_from(node)?.checked_sub(1).context("nodes count from 1")?;
        self.disks.get(at).with_context(|| format!("node {node} has no small disk"))
    }

    pub fn fill(&self, node: u32) -> Result<()> {
        self.disk(node)?.fill()
    }

    pub fn empty(&self, node: u32) -> Result<()> {
        self.disk(node)?.empty()
    }
}

/// libfaketime around each node: its wall clock is where a file says.
#[derive(Debug)]
pub(super) struct Clocks {
    folder: tempfile::TempDir,
}

impl Clocks {
    pub fn new(places: &mut [Place]) -> Result<Clocks> {
        packages("libfaketime")?;
        let library = command(&["bash", "-c", "dpkg -L libfaketime | grep 'libfaketime.so.1$' | head -n 1"])?;
        let clocks = Clocks { folder: tempfile::tempdir()? };
        for (at, place) in places.iter_mut().enumerate() {
            let node = u32::try_from(at + 1)?;
            clocks.jump(node, "+0")?;
            let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            place.environment.extend([
                variable("LD_PRELOAD", library.trim()),
                variable("FAKETIME_TIMESTAMP_FILE", &clocks.file(node).display().to_string()),
                variable("FAKETIME_NO_CACHE", "1"),
                variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ]);
        }
        Ok(clocks)
    }

    fn file(&self, node: u32) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    /// How far the node's clock is from the true one from now on, such as `-1d` or `+0.5`.
    pub fn jump(&self, node: u32, to: &str) -> Result<()> {
        let fresh = self.folder.path().join("next");
        std::fs::write(&fresh, format!("{to}\n"))?;
        Ok(std::fs::rename(fresh, self.file(node))?)
    }
}
