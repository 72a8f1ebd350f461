//! Where things are: the workspace, its target directory, logs, and the binary under test.
//!
//! Invariant: the binary is of the same profile as the test that asks for it, and never stale: cargo builds it first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The folder `compat-tests/`.
pub fn suites() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `target/debug` or `target/release`: a test runs from its folder `deps`, a command from itself.
fn profile() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program is in a folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().context("`deps` is in a profile")? } else { folder };
    Ok(profile.to_path_buf())
}

/// `target/`, which the set-up scripts must also use.
pub fn target() -> Result<PathBuf> {
    Ok(profile()?.parent().context("a profile is inside the target directory")?.to_path_buf())
}

/// A fresh file under `target/compat-tests/logs/`.
pub fn log(name: &str) -> Result<PathBuf> {
    let folder = target()?.join("compat-tests/logs");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}.{}", crate::program::unique())))
}

/// Builds `weir` as cargo would for this test, once per test process, and returns its path.
/// `WEIR_COMPAT_BINARY=FILE` is taken as it is instead.
pub fn weir() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("WEIR_COMPAT_BINARY") {
        return Ok(given.into());
    }
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

/// As `weir`, but built to know one level of the metadata less (`--cfg previous_level`), in a target folder of its own below this one:
/// the first time takes minutes. `WEIR_COMPAT_PREVIOUS=FILE` is taken as it is instead.
pub fn previous_weir() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("WEIR_COMPAT_PREVIOUS") {
        return Ok(given.into());
    }
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_previous().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_previous() -> Result<PathBuf> {
    let (profile, folder) = (profile()?, target()?.join("previous-level"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "server", "--bin", "weir", "--target-dir"]).arg(&folder);
    let is_release = profile.ends_with("release");
    if is_release {
        cargo.arg("--release");
    }
    let status = cargo.env("RUSTFLAGS", "--cfg previous_level").current_dir(suites()).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "building the older weir ended with {status}");
    let binary = folder.join(if is_release { "release/weir" } else { "debug/weir" });
    ensure!(binary.exists(), "cargo built no {}", binary.display());
    Ok(binary)
}

fn build() -> Result<PathBuf> {
    let profile = profile()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // all members are selected so that their dependencies have the features that `cargo test --workspace` gave them
    cargo.args(["build", "--quiet", "--workspace", "--bin", "weir", "--target-dir"]).arg(target()?);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(suites()).status().context("cannot run cargo")?;
    ensure!(status.success(), "`cargo build --workspace --bin weir` ended with {status}");
    let binary = profile.join("weir");
    ensure!(binary.exists(), "cargo built no {}", binary.display());
    Ok(binary)
}
