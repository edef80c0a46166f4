//! Numbers of a run, and the budgets they are held against.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Size;

/// What was measured, in its order.
pub(crate) struct Results {
    satellites: usize,
    rows: usize,
    numbers: Vec<(String, f64, &'static str, Option<Budget>)>,
}

/// What a number is held against.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    /// It may be no more.
    Most(f64),
    /// It may be no less.
    Least(f64),
}

impl Budget {
    fn met(self, value: f64) -> bool {
        match self {
            Self::Most(most) => value <= most,
            Self::Least(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Most(most) => format!("≤ {most}"),
            Self::Least(least) => format!("≥ {least}"),
        }
    }
}

impl Results {
    pub(crate) fn new(size: &Size) -> Self {
        Self { satellites: size.satellites, rows: size.rows, numbers: Vec::new() }
    }

    /// A number with its unit.
    pub(crate) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.numbers.push((what.into(), value, unit, None));
    }

    /// A number that has a budget.
    pub(crate) fn held(&mut self, what: impl Into<String>, value: f64, unit: &'static str, budget: Budget) {
        self.numbers.push((what.into(), value, unit, Some(budget)));
    }

    /// The table that people read.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{} satellites, {} rows in the lists\n\n| what | measured | | budget | |\n|---|---|---|---|---|\n",
            self.satellites, self.rows
        );
        for (what, value, unit, budget) in &self.numbers {
            let verdict = budget.map_or("", |budget| if budget.met(*value) { "met" } else { "missed" });
            let budget = budget.map_or_else(String::new, Budget::text);
            let digits = if value.abs() < 100.0 { 2 } else { 0 };
            let _ = writeln!(text, "| {what} | {value:.digits$} | {unit} | {budget} | {verdict} |");
        }
        text
    }

    /// All numbers.
    pub(crate) fn json(&self) -> Value {
        let number = |(what, value, unit, budget): &(String, f64, &str, Option<Budget>)| {
            json!({"what": what, "value": value, "unit": unit, "budget": budget.map(Budget::text),
                "met": budget.map(|budget| budget.met(*value))})
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({"satellites": self.satellites, "rows": self.rows, "cores": cores,
            "numbers": self.numbers.iter().map(number).collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_at_its_edge_and_never_by_what_was_not_measured() {
        assert!(
            Budget::Most(2.0).met(2.0) && !Budget::Most(2.0).met(2.1) && !Budget::Most(2.0).met(f64::NAN)
        );
        assert!(
            Budget::Least(2.0).met(2.0) && !Budget::Least(2.0).met(1.9) && !Budget::Least(2.0).met(f64::NAN)
        );
    }
}
