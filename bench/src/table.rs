//! Medians, spread, ratios; as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
pub struct Line {
    pub figure: String,
    pub unit: &'static str,
    pub weir: Vec<f64>,
    pub kafka: Vec<f64>,
    /// What the issue asks for, in words.
    pub asked: String,
    /// Whether it holds; `None` where one side was not run.
    pub held: Option<bool>,
    /// Share of the machine that neither server nor client used, worst run.
    pub foreign_pct: f64,
}

impl Report {
    pub fn add(&mut self, line: Line) {
        eprintln!("{}", render(&line));
        self.lines.push(line);
    }

    pub fn markdown(&self) -> String {
        let mut out = String::from(
            "| figure | Weir: median (min-max) | Kafka 4.3.1: median (min-max) | Weir / Kafka | asked | held | others used |\n\
             | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        self.lines.iter().for_each(|line| {
            let _ = writeln!(out, "{}", render(line));
        });
        out
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        Ok(std::fs::write(path, self.markdown())?)
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.get(sorted.len() / 2)) {
        (0, _) | (_, None) => f64::NAN,
        (count, Some(upper)) if count % 2 == 0 => (sorted[count / 2 - 1] + upper) / 2.0,
        (_, Some(middle)) => *middle,
    }
}

fn spread(values: &[f64], unit: &str) -> String {
    if values.is_empty() {
        return "not run".into();
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}-{}) {unit}", short(median(values)), short(least), short(most))
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn render(line: &Line) -> String {
    let ratio = if line.weir.is_empty() || line.kafka.is_empty() {
        "-".into()
    } else {
        format!("{:.3}", median(&line.weir) / median(&line.kafka))
    };
    let held = line.held.map_or("-", |held| if held { "yes" } else { "**no**" });
    format!(
        "| {} | {} | {} | {ratio} | {} | {held} | {:.0} % |",
        line.figure,
        spread(&line.weir, line.unit),
        spread(&line.kafka, line.unit),
        line.asked,
        line.foreign_pct
    )
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_count_is_the_middle_of_the_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[9.0, 1.0, 3.0]), 3.0);
    }
}
