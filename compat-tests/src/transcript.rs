//! Transcripts: what Kafka's command line tools print, command by command, to be repeated word for word.
//!
//! Owns their form, what stands in for what differs between runs, and the comparison. The files are in `kafka-tools/transcripts`.
//! Invariant: what is not marked as a difference holds of Apache Kafka and of Weir alike.
//!
//! ```text
//! # a remark
//! $ TOOL ARGUMENT…        a command; `--bootstrap-server` is put in. `$~`: its lines come in any order
//! < TEXT                  a line of its input
//! > FILE TEXT             a line of the file FILES/FILE, which is there before the command runs
//! | TEXT                  a line that it prints
//! ! TEXT                  a line on its standard error, before the first line of a stack trace
//! = CODE                  what it ends with, unless that is 0
//! K | TEXT, W | TEXT      the same of Apache Kafka alone, of Weir alone
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{Cluster, Kind};
use crate::toolbox;
use crate::tools::Ended;

/// One command and what is expected of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    line: usize,
    words: Vec<String>,
    in_any_order: bool,
    input: String,
    files: BTreeMap<String, String>,
    expected: Vec<String>,
}

/// Repeats the transcript on the first node of a cluster.
pub fn check(transcript: &str, cluster: &Cluster) -> Result<()> {
    let files = tempfile::tempdir()?;
    let steps = parse(transcript, cluster.plan.kind)?;
    ensure!(!steps.is_empty(), "no command in the transcript");
    let mut differences = Vec::new();
    for step in steps {
        let (mut printed, mut expected) = (run(&step, cluster, files.path())?, step.expected.clone());
        if step.in_any_order {
            printed.sort();
            expected.sort();
        }
        if printed != expected {
            let (printed, expected) = (printed.join("\n"), expected.join("\n"));
            let command = step.words.join(" ");
            differences.push(format!("line {}: $ {command}\nexpected\n{expected}\nprinted\n{printed}\n", step.line));
        }
    }
    ensure!(
        differences.is_empty(),
        "{} commands printed something else\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

fn parse(transcript: &str, kind: Kind) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in (1..).zip(transcript.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (of_kafka, of_weir) = (line.strip_prefix("K "), line.strip_prefix("W "));
        if of_kafka.is_some() && kind == Kind::Weir || of_weir.is_some() && kind != Kind::Weir {
            continue;
        }
        let line = of_kafka.or(of_weir).unwrap_or(line);
        if let Some(command) = line.strip_prefix("$~ ").or(line.strip_prefix("$ ")) {
            let (words, in_any_order) = (words(command), line.starts_with("$~"));
            steps.push(Step { line: number, words, in_any_order, ..Step::default() });
            continue;
        }
        let step = steps.last_mut().with_context(|| format!("line {number}: no command stands before it"))?;
        if let Some(input) = line.strip_prefix("< ") {
            step.input += &format!("{input}\n");
        } else if let Some(file) = line.strip_prefix("> ") {
            let (name, text) = file.split_once(' ').with_context(|| format!("line {number}: a file without text"))?;
            *step.files.entry(name.to_owned()).or_default() += &format!("{text}\n");
        } else if ["| ", "! ", "= "].iter().any(|mark| line.starts_with(mark)) || line == "|" {
            step.expected.push(line.trim_end().to_owned());
        } else {
            bail!("line {number}: {line}");
        }
    }
    Ok(steps)
}

/// Cut at spaces, except between quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (at, part) in command.split('"').enumerate() {
        let mut rest = part.split(' ').filter(|_| at % 2 == 0);
        let last = words.last_mut().expect("there is one from the start");
        if at % 2 == 1 {
            last.push_str(part);
        } else {
            last.push_str(rest.next().unwrap_or_default());
            words.extend(rest.map(str::to_owned));
        }
    }
    words
}

fn run(step: &Step, cluster: &Cluster, files: &Path) -> Result<Vec<String>> {
    for (name, text) in &step.files {
        std::fs::write(files.join(name), text)?;
    }
    let node = cluster.node(1)?;
    let folder = files.display().to_string();
    let words: Vec<String> = step.words.iter().map(|word| word.replace("FILES", &folder)).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    // This one has its verb in front.
    let at = if words.first() == Some(&"cluster") { 2 } else { 1 };
    words.splice(at..at, ["--bootstrap-server", node.kafka.as_str()]);
    let ended = toolbox::run(&words, &step.input)?;
    let port = node.kafka.rsplit(':').next().context("an address has a port")?;
    let names = [
        (node.kafka.as_str(), "ADDRESS"),
        (port, "PORT"),
        (node.data.to_str().context("a path of text")?, "DATA"),
        (folder.as_str(), "FILES"),
    ];
    Ok(shown(&ended, &names))
}

/// What it printed, as a transcript has it.
fn shown(ended: &Ended, names: &[(&str, &str)]) -> Vec<String> {
    let mut shown = Vec::new();
    let code = ended.code.unwrap_or(-1);
    if code != 0 {
        shown.push(format!("= {code}"));
    }
    let out = ended.out.trim_matches('\n').lines().map(|line| format!("| {line}"));
    // What the logger says begins with its date.
    let err = ended.err.lines().take_while(|line| !line.starts_with("\tat")).filter(|line| !line.starts_with("[20"));
    let err = err.filter(|line| !line.trim().is_empty()).map(|line| format!("! {line}"));
    shown.extend(out.chain(err).map(|line| steady(&line, names)).filter(|line| !line.is_empty()));
    shown
}

/// Without what differs between two runs.
fn steady(line: &str, names: &[(&str, &str)]) -> String {
    let mut line = line.to_owned();
    for (name, shown) in names {
        line = line.replace(name, shown);
    }
    for label in ["TopicId: ", "Cluster ID: "] {
        line = after(&line, label, |c| c.is_ascii_alphanumeric() || c == '-' || c == '_', "ID");
    }
    line = after(&line, "\"size\":", |c| c.is_ascii_digit(), "SIZE");
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").trim_end().to_owned()
}

/// Everything of this kind behind the label is replaced.
fn after(line: &str, label: &str, kind: impl Fn(char) -> bool, by: &str) -> String {
    let mut parts = line.split(label);
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(&kind);
        done += &format!("{label}{}{rest}", if rest.len() < part.len() { by } else { "" });
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_what_is_expected_of_its_kind() {
        let text = "# none\n$ topics --match \"a b\" c\n< in\n> f x\n> f y\n| both\nK | kafka\nW | weir\nW = 1\n\n$~ groups --list\n|\n";
        let steps = parse(text, Kind::Weir).unwrap();
        assert_eq!(steps[0].words, ["topics", "--match", "a b", "c"]);
        assert_eq!(steps[0].expected, ["| both", "| weir", "= 1"]);
        assert_eq!((steps[0].input.as_str(), steps[0].files["f"].as_str()), ("in\n", "x\ny\n"));
        assert!(steps[1].in_any_order && steps.len() == 2);
        assert!(parse("| before a command", Kind::Weir).is_err() && parse("$ a\nelse", Kind::Weir).is_err());
    }

    #[test]
    fn what_differs_between_runs_has_a_name() {
        let names = [("h:1", "ADDRESS")];
        assert_eq!(
            steady("| at  h:1\tTopicId: a-_9 {\"size\":70,\"size\":0}", &names),
            "| at ADDRESS\tTopicId: ID {\"size\":SIZE,\"size\":SIZE}"
        );
        let ended = Ended { code: Some(1), out: "\na\n\nb\n".into(), err: "[2026] log\nwhy\n\tat x\nmore\n".into() };
        assert_eq!(shown(&ended, &[]), ["= 1", "| a", "|", "| b", "! why"]);
    }
}
