//! House rules over the whole workspace (`docs/` says why). Fails with one line for each place.
//!
//! Owns the rules that no lint knows: heads, lengths, words, and which crate may know which.
//! Invariant: the lists of exceptions may only shrink: an entry that is not needed any more is a failure too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;
const LINE_COLUMNS_MAX: usize = 160;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that a program writes. They need a head and are not counted.
const GENERATED: &[&str] = &["server/src/wire/tables/"];

/// Files that may be longer, with what they may have at most.
const LONG_FILES: &[(&str, usize)] = &[];

/// Functions that may be longer (file, function), with what they may have at most.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Which crates of ours each crate may know (`docs/ARCHITECTURE.md`); `model` knows none.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("storage", &["model"]),
    ("replication", &["model"]),
    ("node", &["model", "storage", "replication"]),
    ("server", &["model", "storage", "replication", "node"]),
    ("sim", &["model", "storage", "replication", "node"]),
    ("bench", &["compat-tests"]),
    ("compat-tests", &["model", "sim"]),
];

/// Crates of others that would bring clocks, threads or chance into the core.
const CORE: &[&str] = &["model", "storage", "replication", "node"];
const NOT_IN_CORE: &[&str] = &["tokio", "rand", "mio", "async-std", "chrono", "crossbeam", "rayon", "getrandom"];

#[test]
fn every_file_of_rust_keeps_the_house_rules() {
    let root = root();
    let mut faults = Vec::new();
    let mut long_files = BTreeSet::new();
    let mut long_functions = BTreeSet::new();
    for file in rust_files(&root) {
        let name = file.strip_prefix(&root).expect("below the root").display().to_string();
        let text = fs::read_to_string(&file).expect("a file of ours is readable text");
        check_head(&name, &text, &mut faults);
        check_words(&name, &text, &mut faults);
        if GENERATED.iter().any(|generated| name.starts_with(generated)) {
            continue;
        }
        check_columns(&name, &text, &mut faults);
        check_length(&name, &text, &mut faults, &mut long_files);
        check_functions(&name, &text, &mut faults, &mut long_functions);
    }
    for (name, _) in LONG_FILES {
        if !long_files.contains(*name) {
            faults.push(format!("{name}: is short enough now, take it off LONG_FILES"));
        }
    }
    for (name, function, _) in LONG_FUNCTIONS {
        if !long_functions.contains(&((*name).to_owned(), (*function).to_owned())) {
            faults.push(format!("{name}: {function} is short enough now, take it off LONG_FUNCTIONS"));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn crates_know_only_those_below_them() {
    let root = root();
    let ours: BTreeSet<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    let mut faults = Vec::new();
    for (name, may) in MAY_KNOW {
        for dependency in dependencies(&root.join(name).join("Cargo.toml")) {
            if ours.contains(dependency.as_str()) && !may.contains(&dependency.as_str()) {
                faults.push(format!("{name} may not depend on {dependency}"));
            }
            if CORE.contains(name) && NOT_IN_CORE.contains(&dependency.as_str()) {
                faults.push(format!("{name} is core and may not depend on {dependency}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_crate_of_the_workspace_is_under_these_rules() {
    let root = root();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the workspace has a manifest");
    let line = manifest.lines().find(|line| line.starts_with("members")).expect("the workspace lists its members");
    let members: BTreeSet<&str> = line.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, MAY_KNOW.iter().map(|(name, _)| *name).collect());
}

#[test]
fn the_measure_of_a_function_is_its_body() {
    let text = "impl A {\n    fn short(&self) {\n        x();\n    }\n\n\
                \x20   pub(crate) async fn long(\n        a: u8,\n    ) {\n        y();\n        z();\n    }\n}\nfn declared();\n";
    let found = functions(text);
    assert_eq!(found, [("short".to_owned(), 2, 3), ("long".to_owned(), 6, 6)]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("server/ lies in the workspace").to_owned()
}

fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = MAY_KNOW.iter().map(|(name, _)| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours is readable") {
            let path = entry.expect("a folder of ours is readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // What tests unpack or build is not ours.
            if path.is_dir() && !matches!(name, "target" | "node_modules") && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn check_head(name: &str, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{name}: does not begin with //! and what the file owns"));
    }
}

fn check_words(name: &str, text: &str, faults: &mut Vec<String>) {
    // This file names the words that it looks for.
    if name == "server/tests/tidy.rs" {
        return;
    }
    for (line, number) in text.lines().zip(1..) {
        if line.contains("FIXME") {
            faults.push(format!("{name}:{number}: FIXME"));
        }
        if let Some((_, after)) = line.split_once("TODO") {
            let issue = after.strip_prefix("(#").and_then(|after| after.split_once(')')).map(|(issue, _)| issue);
            if issue.is_none_or(|issue| issue.is_empty() || !issue.bytes().all(|byte| byte.is_ascii_digit())) {
                faults.push(format!("{name}:{number}: TODO without the number of an issue, as in TODO(#12)"));
            }
        }
    }
}

/// The formatter leaves comments and texts as they are.
fn check_columns(name: &str, text: &str, faults: &mut Vec<String>) {
    for (line, number) in text.lines().zip(1..) {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX {
            faults.push(format!("{name}:{number}: {columns} columns, {LINE_COLUMNS_MAX} are allowed"));
        }
    }
}

fn check_length(name: &str, text: &str, faults: &mut Vec<String>, long: &mut BTreeSet<String>) {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        return;
    }
    long.insert(name.to_owned());
    let allowed = LONG_FILES.iter().find(|(file, _)| *file == name).map_or(LINES_MAX, |(_, allowed)| *allowed);
    if lines > allowed {
        faults.push(format!("{name}: {lines} lines, {allowed} are allowed"));
    }
}

fn check_functions(name: &str, text: &str, faults: &mut Vec<String>, long: &mut BTreeSet<(String, String)>) {
    let exceptions: BTreeMap<&str, usize> = LONG_FUNCTIONS
        .iter()
        .filter(|(file, ..)| *file == name)
        .map(|(_, function, lines)| (*function, *lines))
        .collect();
    for (function, line, lines) in functions(text) {
        if lines <= FUNCTION_LINES_MAX {
            continue;
        }
        let allowed = exceptions.get(function.as_str()).copied().unwrap_or(FUNCTION_LINES_MAX);
        if lines > allowed {
            faults.push(format!("{name}:{line}: {function} has {lines} lines, {allowed} are allowed"));
        }
        long.insert((name.to_owned(), function));
    }
}

/// Name, first line and number of lines of each function. Leans on rustfmt: a body ends where a brace stands at the
/// indentation of its `fn`.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let is_end = |line: &str| {
            line.len() > indent
                && line.as_bytes().get(indent) == Some(&b'}')
                && line.trim_start().len() == line.len() - indent
        };
        if line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
            continue;
        }
        if let Some(end) = lines.iter().skip(at + 1).position(|line| is_end(line)) {
            found.push((name, at + 1, end + 2));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "default ", "const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|character: char| !character.is_alphanumeric() && character != '_')?;
    name.get(..end).map(str::to_owned)
}

/// Names under `[dependencies]`; those of tests may be others.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).expect("each crate has a manifest");
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name.trim().to_owned());
        }
    }
    names
}
