//! Weir as a service: what it tells systemd, and what the unit says of it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::paths;
use compat_tests::program::{Program, wait_until};

const WAIT: Duration = Duration::from_secs(30);

/// Reads what the manager was told until `wanted` is among it.
fn until_told(manager: &UnixDatagram, wanted: &str) -> Result<()> {
    manager.set_nonblocking(true)?;
    let mut told = String::new();
    let mut message = [0; 4096];
    wait_until(&format!("the manager is told {wanted}"), WAIT, || {
        while let Ok(length) = manager.recv(&mut message) {
            told.push_str(&String::from_utf8_lossy(message.get(..length).unwrap_or_default()));
            told.push('\n');
        }
        Ok(told.lines().any(|line| line == wanted))
    })
    .with_context(|| format!("it was told:\n{told}"))
}

#[test]
fn the_service_manager_is_told_that_the_node_is_ready_alive_and_stopping() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket)?;
    let mut command = Command::new(paths::weir()?);
    command.args(["dev", "--ephemeral", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]).stdin(Stdio::null());
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut weir = Program::start("service", &mut command)?;
    until_told(&manager, "READY=1")?;
    ensure!(weir.output()?.starts_with("weir ready "), "the line on stdout comes first: {}", weir.tail());
    until_told(&manager, "WATCHDOG=1")?;
    until_told(&manager, "WATCHDOG=1")?;
    weir.signal(rustix::process::Signal::TERM)?;
    until_told(&manager, "STOPPING=1")?;
    let status = weir.wait(WAIT)?;
    ensure!(status.success(), "{status}\n{}", weir.tail());
    Ok(())
}

/// systemd's own check, with the path of the binary that is there instead of the installed one.
#[test]
fn the_unit_is_one_that_systemd_takes_and_finds_well_confined() -> Result<()> {
    let deploy = paths::suites().parent().context("the suites are in the workspace")?.join("deploy");
    let text = std::fs::read_to_string(deploy.join("systemd/weir.service"))?;
    let folder = tempfile::tempdir()?;
    let unit = folder.path().join("weir.service");
    std::fs::write(&unit, text.replace("/usr/bin/weir", &paths::weir()?.display().to_string()))?;
    systemd_analyze(&["verify"], &unit)?;
    // Tenths: 0 is nothing exposed, 100 everything.
    systemd_analyze(&["security", "--offline=true", "--threshold=20"], &unit)
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Result<()> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        let installed =
            Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", "systemd"]).output();
        let done = installed.is_ok_and(|output| output.status.success());
        ensure!(done, "systemd-analyze is missing: sudo apt-get install systemd");
    }
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "systemd-analyze {arguments:?}: {said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}
