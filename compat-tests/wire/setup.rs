//! Fetches Kafka's client jar through Maven, unpacks its schemas and runs the sample program, all under `target/`.
//!
//! Owns what is cached and when it is made anew. Invariant: a step that failed leaves no finished mark, so the next
//! run does it again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

/// Tests of one process share the folder.
static SETUP: Mutex<()> = Mutex::new(());

/// The folder of this crate, where `wire/` and `tests/` are.
pub fn crate_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn cache() -> PathBuf {
    crate_folder().parent().expect("the crate lies in the workspace").join("target/compat/wire")
}

/// The folder with Kafka's message schemas (`*.json`).
pub fn schemas() -> Result<PathBuf> {
    let _alone = SETUP.lock().unwrap_or_else(|broken| broken.into_inner());
    unpacked_schemas()
}

fn unpacked_schemas() -> Result<PathBuf> {
    let jars = jars()?;
    let schemas = cache().join("schemas");
    step("schemas", &crate_folder().join("wire/pom.xml"), || {
        std::fs::create_dir_all(&schemas)?;
        let jar = std::fs::read_dir(&jars)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("kafka-clients")))
            .context("maven copied no kafka-clients jar")?;
        run(Command::new("jar").current_dir(&schemas).arg("xf").arg(jar).arg("common/message"))
    })?;
    Ok(schemas.join("common/message"))
}

/// The file that the Java program writes: messages as Kafka's own classes encode them.
pub fn samples() -> Result<PathBuf> {
    let _alone = SETUP.lock().unwrap_or_else(|broken| broken.into_inner());
    let jars = jars()?;
    let source = crate_folder().join("wire/WireSamples.java");
    let samples = cache().join("samples.bin");
    step("samples", &source, || {
        let classes = cache().join("classes");
        std::fs::create_dir_all(&classes)?;
        let class_path = format!("{}/*", jars.display());
        run(Command::new("javac").arg("-nowarn").arg("-cp").arg(&class_path).arg("-d").arg(&classes).arg(&source))?;
        let class_path = format!("{}:{class_path}", classes.display());
        run(Command::new("java").arg("-Xmx512m").arg("-cp").arg(&class_path).arg("WireSamples").arg(&samples))
    })?;
    Ok(samples)
}

fn jars() -> Result<PathBuf> {
    let jars = cache().join("jars");
    let pom = crate_folder().join("wire/pom.xml");
    step("jars", &pom, || {
        std::fs::create_dir_all(&jars)?;
        let mut maven = Command::new("mvn");
        maven.arg("-q").arg("-B").arg("-f").arg(&pom);
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
        maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", jars.display()));
        run(&mut maven)
    })?;
    Ok(jars)
}

/// Does `work` unless it was done for this content of `input`.
fn step(name: &str, input: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = cache().join(format!("{name}.done"));
    let content = std::fs::read(input).with_context(|| input.display().to_string())?;
    if std::fs::read(&done).is_ok_and(|mark| mark == content) {
        return Ok(());
    }
    std::fs::create_dir_all(cache())?;
    work().with_context(|| format!("wire test setup, step {name}"))?;
    std::fs::write(&done, content)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    match command.output() {
        Ok(output) => {
            ensure!(
                output.status.success(),
                "{shown} failed ({}):\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(())
        }
        Err(error) => bail!(
            "{shown} did not start ({error}); the wire tests need Java 17 and Maven: apt-get install openjdk-17-jdk-headless maven"
        ),
    }
}
