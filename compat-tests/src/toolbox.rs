//! Kafka's command line tools one after the other in one JVM that stays (`kafka-tools/Toolbox.java`).
//!
//! Owns that JVM, which the tests of one process share; it ends with them, as its standard input does. Does not own what tools print.
//! Invariant: one tool runs at a time, so what is read is what that tool wrote.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::program::{Program, wait_until};
use crate::tools::Ended;

const TOOL_MAX: Duration = Duration::from_secs(120);

struct Toolbox {
    program: Program,
    answers: File,
    /// What was read of an answer that is not whole.
    partial: String,
    /// The class of each tool.
    classes: BTreeMap<String, String>,
}

/// Runs a tool to its end, whatever its code.
pub fn run(arguments: &[&str], input: &str) -> Result<Ended> {
    static SHARED: Mutex<Option<Toolbox>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut toolbox = match shared.take() {
        Some(toolbox) => toolbox,
        None => Toolbox::start()?,
    };
    let ended = toolbox.run(arguments, input)?;
    // After an error nobody knows what would be read next: another one is started then.
    *shared = Some(toolbox);
    Ok(ended)
}

impl Toolbox {
    fn start() -> Result<Toolbox> {
        let folder = paths::suites().join("kafka-tools");
        let mut command = Command::new(folder.join("run.sh"));
        command.arg("box").env("CARGO_TARGET_DIR", paths::target()?).stdin(Stdio::piped());
        let program = Program::start("kafka-toolbox", &mut command)?;
        let answers = File::open(&program.stdout)?;
        let tools = std::fs::read_to_string(folder.join("tools.txt"))?;
        let class = |line: &str| line.split_once(' ').map(|(tool, class)| (tool.to_owned(), class.to_owned()));
        Ok(Toolbox { program, answers, partial: String::new(), classes: tools.lines().filter_map(class).collect() })
    }

    fn run(&mut self, arguments: &[&str], input: &str) -> Result<Ended> {
        let (tool, rest) = arguments.split_first().context("no tool is named")?;
        let class = self.classes.get(*tool).with_context(|| format!("no tool {tool} in tools.txt"))?;
        let words: Vec<String> = [input, class].iter().chain(rest).map(|word| hex(word)).collect();
        self.program.write(&(words.join(" ") + "\n"))?;
        let answer = self.answer().with_context(|| format!("{arguments:?}"))?;
        let [code, out, err] = answer.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("not an answer of the toolbox: {answer}");
        };
        Ok(Ended { code: Some(code.parse()?), out: text(out)?, err: text(err)? })
    }

    fn answer(&mut self) -> Result<String> {
        let Toolbox { program, answers, partial, .. } = self;
        wait_until("an answer of the toolbox", TOOL_MAX, || {
            answers.read_to_string(partial)?;
            ensure!(program.has_ended()?.is_none(), "the toolbox ended");
            Ok(partial.ends_with('\n'))
        })
        .with_context(|| program.tail())?;
        // A word at the end may be empty.
        Ok(std::mem::take(partial).trim_end_matches('\n').to_owned())
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn text(hex: &str) -> Result<String> {
    let digits: Vec<char> = hex.chars().collect();
    let pair = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    let bytes = digits.chunks(2).map(pair).collect::<Result<Vec<u8>, _>>()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        for word in ["", "a b\n", "größer"] {
            assert_eq!(text(&hex(word)).unwrap(), word);
        }
        assert!(text("0g").is_err());
    }
}
