//! How commands show what they found: tables, JSON, progress.
//!
//! Owns the shapes of text. Does not own what is shown. Invariants: stdout carries results, stderr progress; nobody who reads stdout any more
//! ends a command in order; no name of another's making reaches a terminal with control characters in it.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Wide,
    Json,
}

/// Rows below a head, in columns as wide as they need to be.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: Vec<&str>) -> Table {
        Table { rows: vec![head.into_iter().map(str::to_owned).collect()] }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.chars().map(harmless).collect()).collect());
    }

    pub fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let width = |column: usize| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

fn harmless(character: char) -> char {
    if character.is_control() { '\u{fffd}' } else { character }
}

/// What is not there, in a table.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Numbers with commas between them.
pub fn list(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `1 record`, `2 records`.
pub fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

pub fn print(text: &str) -> anyhow::Result<()> {
    write_out(text.as_bytes())
}

/// One line.
pub fn print_json(value: &Value) -> anyhow::Result<()> {
    print(&format!("{value}\n"))
}

/// Writes to stdout. Whoever reads it may stop reading, as `head` does: then the command is done.
pub fn write_out(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Closed.into()),
        other => other.context("writing to stdout"),
    }
}

/// Stdout has no reader any more. Not a failure of the command.
#[derive(Debug, thiserror::Error)]
#[error("stdout was closed")]
pub struct Closed;

/// One line that is written over on a terminal, and a line for each change elsewhere.
pub struct Progress {
    last: String,
    terminal: bool,
    /// Only for somebody who watches.
    shy: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { last: String::new(), terminal: std::io::stderr().is_terminal(), shy: false }
    }

    /// Says nothing unless stderr is a terminal and stdout, which would be torn by it, is not.
    pub fn shy() -> Progress {
        let terminal = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        Progress { last: String::new(), terminal, shy: true }
    }

    pub fn show(&mut self, line: &str, last: bool) {
        if self.last == line && !last || self.shy && !self.terminal {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Nobody may be there to see it.
        let _ = match (self.terminal, last) {
            (true, false) => write!(stderr, "\r{line}\x1b[K").and_then(|()| stderr.flush()),
            (true, true) => writeln!(stderr, "\r{line}\x1b[K"),
            (false, _) if self.last == line => Ok(()),
            (false, _) => writeln!(stderr, "{line}"),
        };
        self.last = line.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be_and_control_characters_do_not_pass() {
        let mut table = Table::new(vec!["A", "LONGER", "C"]);
        table.row(vec!["xyz".to_owned(), "\u{1b}[31m".to_owned(), String::new()]);
        assert_eq!(table.text(), "A    LONGER  C\nxyz  \u{fffd}[31m\n");
    }

    #[test]
    fn strings_of_json_are_quoted() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\n""#);
    }
}
