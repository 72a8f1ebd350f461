//! The load client: built once from `load/kbench.c`, run as a process so that its CPU is not the server's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/load/kbench.c");

pub struct Load {
    binary: PathBuf,
}

/// A load that goes on until it is done or this is dropped.
pub struct Running(Child);

impl Running {
    pub fn is_done(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Load {
    pub fn build(work: &Path) -> Result<Load> {
        let binary = work.join("kbench");
        let built = Command::new("cc")
            .args(["-O2", "-o"])
            .arg(&binary)
            .args([SOURCE, "-lrdkafka", "-lpthread", "-lm"])
            .status()
            .context("run cc (apt-get install -y gcc librdkafka-dev)")?;
        ensure!(built.success(), "kbench did not build: apt-get install -y gcc librdkafka-dev");
        Ok(Load { binary })
    }

    fn command(&self, mode: &str, bootstrap: &str, topic: &str, arguments: &[String], properties: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(mode).args(["-b", bootstrap, "-t", topic]).args(arguments);
        properties.iter().for_each(|property| {
            command.args(["-X", property]);
        });
        command
    }

    /// Starts one mode and goes on; its figures are not asked for.
    pub fn spawn(
        &self,
        mode: &str,
        bootstrap: &str,
        topic: &str,
        arguments: &[String],
        properties: &[&str],
    ) -> Result<Running> {
        let mut command = self.command(mode, bootstrap, topic, arguments, properties);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("run kbench")?;
        Ok(Running(child))
    }

    /// Runs one mode; `properties` are librdkafka's. The line of JSON that it prints.
    pub fn run(
        &self,
        mode: &str,
        bootstrap: &str,
        topic: &str,
        arguments: &[String],
        properties: &[&str],
    ) -> Result<Value> {
        let output = self.command(mode, bootstrap, topic, arguments, properties).output().context("run kbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "kbench {mode} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find(|line| line.starts_with('{')).context("kbench printed no JSON")?;
        let answer: Value = serde_json::from_str(line)?;
        let failed = answer.get("failed").and_then(Value::as_u64).unwrap_or(0);
        ensure!(failed == 0, "kbench {mode}: {failed} records failed: {line}");
        Ok(answer)
    }
}
