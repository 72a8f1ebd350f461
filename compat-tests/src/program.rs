//! Programs that a test starts: run to their end within a time, or kept in the background and ended with it.
//!
//! Invariant: a program has a process group of its own, and the whole group is gone when its `Program` is dropped.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};

/// A number that no other call of this machine returns: milliseconds since 1970 at the start, then counting up.
pub fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let now = u64::try_from(now).unwrap_or(0);
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now.max(last + 1)));
    last.map_or(now, |last| now.max(last + 1))
}

/// Asks `condition` until it holds; after `limit` an error names `what`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + limit;
    while !condition()? {
        ensure!(Instant::now() < end, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A running program; its output goes to files.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

impl Program {
    pub fn start(name: &str, command: &mut Command) -> Result<Program> {
        let log = crate::paths::log(name)?;
        let (stdout, stderr) = (log.with_added_extension("out"), log.with_added_extension("err"));
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Program { child, stdout, stderr })
    }

    pub fn output(&self) -> Result<String> {
        read(&self.stdout)
    }

    pub fn errors(&self) -> Result<String> {
        read(&self.stderr)
    }

    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end; a program that takes longer is ended and reported with the end of its errors.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("still running after {} s\n{}", limit.as_secs(), self.tail());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// To its standard input, if that was piped.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is not piped")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// The end of its standard input, if that was piped.
    pub fn close_input(&mut self) {
        self.child.stdin.take();
    }

    /// SIGTERM, then waits; the exit status is for the caller to judge.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// kill -9 of the process group, then waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.child.wait()?;
        ensure!(status.signal() == Some(9), "it had ended by itself before the kill: {status}\n{}", self.tail());
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// To the whole process group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(rustix::process::kill_process_group(pid, signal)?)
    }

    /// The last lines of both outputs, for an error message.
    pub fn tail(&self) -> String {
        let part = |path: &Path| {
            let text = read(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(20);
            format!("--- {}\n{}\n", path.display(), lines.get(from..).unwrap_or_default().join("\n"))
        };
        part(&self.stdout) + &part(&self.stderr)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _already_gone = self.signal(Signal::KILL);
            let _reaped = self.child.wait();
        }
    }
}

/// Runs a program to its end, with `input` on its standard input.
pub fn run(name: &str, command: &mut Command, input: &str, limit: Duration) -> Result<(Program, ExitStatus)> {
    command.stdin(Stdio::piped());
    let mut program = Program::start(name, command)?;
    let mut stdin = program.child.stdin.take().context("stdin is piped")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let status = program.wait(limit)?;
    Ok((program, status))
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
