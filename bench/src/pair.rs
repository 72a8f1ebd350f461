//! The figures of one row for both sides, and the lines of the table that are made of them.
//!
//! Owns what "at most", "at least" and "below" mean for a list of runs. Does not own what is measured.

use crate::table::{Line, median};

/// Two lists, one a side.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    pub weir: Vec<f64>,
    pub kafka: Vec<f64>,
}

impl Pair {
    pub fn push(&mut self, is_weir: bool, value: f64) {
        if is_weir { self.weir.push(value) } else { self.kafka.push(value) }
    }

    fn line(self, figure: &str, unit: &'static str, asked: String, held: Option<bool>) -> Line {
        Line { figure: figure.into(), unit, weir: self.weir, kafka: self.kafka, asked, held, foreign_pct: 0.0 }
    }

    /// A line that asks for at least so many times Kafka's figure.
    pub fn at_least(self, figure: &str, unit: &'static str, times: f64, foreign_pct: f64) -> Line {
        let both = !self.weir.is_empty() && !self.kafka.is_empty();
        let held = both.then(|| median(&self.weir) >= times * median(&self.kafka));
        Line { foreign_pct, ..self.line(figure, unit, format!("at least {times:.1}"), held) }
    }

    /// A line that asks for at most Kafka's figure and so much of it more, for times that are mostly waiting.
    pub fn no_slower(self, figure: &str, unit: &'static str, slack: f64) -> Line {
        let both = !self.weir.is_empty() && !self.kafka.is_empty();
        let held = both.then(|| median(&self.weir) <= median(&self.kafka) * (1.0 + slack));
        self.line(figure, unit, format!("no slower (within {:.0} %)", slack * 100.0), held)
    }

    /// A line with a bound on Weir's own figure.
    pub fn below(self, figure: &str, unit: &'static str, bound: f64) -> Line {
        let held = (!self.weir.is_empty()).then(|| self.weir.iter().all(|value| *value < bound));
        self.line(figure, unit, format!("below {bound} {unit}, each run"), held)
    }

    /// A line with a least value for Weir's own median.
    pub fn above(self, figure: &str, unit: &'static str, bound: f64) -> Line {
        let held = (!self.weir.is_empty()).then(|| median(&self.weir) >= bound);
        self.line(figure, unit, format!("median at least {bound} {unit}"), held)
    }

    /// A line with a bound on Weir's own median, where single runs are at the mercy of the machine.
    pub fn median_at_most(self, figure: &str, unit: &'static str, bound: f64) -> Line {
        let held = (!self.weir.is_empty()).then(|| median(&self.weir) <= bound);
        self.line(figure, unit, format!("median at most {bound} {unit}"), held)
    }

    pub fn told(self, figure: &str, unit: &'static str) -> Line {
        self.line(figure, unit, "-".into(), None)
    }
}
