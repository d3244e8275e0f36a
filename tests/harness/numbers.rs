//! Measured numbers: how they are shown, kept in a file, and compared with those of an earlier run.
//! Measures nothing itself.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Of the file. Another number means that its fields mean something else.
const FORMAT: u32 = 1;

/// With fewer samples of an earlier run nobody knows its spread.
const ENOUGH: usize = 3;

/// Width of the names in a table.
const NAME: usize = 62;

/// What a number counts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Mebibytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Events in a minute.
    #[serde(rename = "1/min")]
    PerMinute,
    /// Percent of one core.
    #[serde(rename = "%")]
    Percent,
    /// Pieces.
    #[serde(rename = "-")]
    Count,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::PerMinute => "1/min",
            Self::Percent => "%",
            Self::Count => "",
        }
    }

    /// Digits behind the point that mean something.
    fn digits(self) -> usize {
        match self {
            Self::Seconds => 3,
            Self::Milliseconds | Self::Mebibytes | Self::PerMinute | Self::Percent => 1,
            Self::Count => 2,
        }
    }
}

/// One thing that was measured, several times where it could be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// The kind of measurement that it belongs to.
    pub kind: String,
    /// What it is, sizes included: rows of the same name can be compared.
    pub name: String,
    /// Of the samples and of the floor.
    pub unit: Unit,
    /// The values, in the order in which they were measured.
    pub samples: Vec<f64>,
    /// What the cluster itself takes for the same, in the same run; empty where there is no such
    /// thing.
    #[serde(default)]
    pub floor: Vec<f64>,
}

/// All that was measured in one run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Run {
    format: u32,
    /// When, as RFC 3339.
    pub taken: String,
    /// On what: two runs that differ here do not show what a change of the product does.
    pub ground: String,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Run {
    /// Nothing measured yet.
    pub fn new(taken: String, ground: String) -> Self {
        Self { format: FORMAT, taken, ground, rows: Vec::new() }
    }

    /// Reads what [`Run::to_json`] wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_json(text: &str) -> anyhow::Result<Self> {
        let run: Self = serde_json::from_str(text).context("not the numbers of a run")?;
        anyhow::ensure!(run.format == FORMAT, "format {}, and only {FORMAT} is known", run.format);
        Ok(run)
    }

    /// The content of a file.
    ///
    /// # Errors
    /// A number is none.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A table for people; with an earlier run beside it where there is one.
    pub fn table(&self, earlier: Option<&Self>) -> String {
        let mut text = self.head(earlier);
        let mut kind = "";
        for row in &self.rows {
            if row.kind != kind {
                kind = &row.kind;
                let _ = writeln!(text, "{kind}");
            }
            let before = earlier.and_then(|run| run.same(row));
            let _ = writeln!(text, "{}", row.line(before, earlier.is_some()).trim_end());
        }
        if let Some(earlier) = earlier {
            let gone = |row: &&Row| self.rows.iter().any(|own| own.kind == row.kind) && self.same(row).is_none();
            for row in earlier.rows.iter().filter(gone) {
                let _ = writeln!(text, "only in the earlier run: {}: {}", row.kind, row.name);
            }
            let _ = writeln!(
                text,
                "! the median lies outside of all samples of the earlier run, which has at least {ENOUGH}"
            );
        }
        text
    }

    fn head(&self, earlier: Option<&Self>) -> String {
        let mut text = format!("{}, {}\n", self.ground, self.taken);
        if let Some(earlier) = earlier {
            let _ = writeln!(text, "before: {}, {}", earlier.ground, earlier.taken);
            if earlier.ground != self.ground {
                text.push_str("CAUTION: the two runs are not of the same ground; what differs may be that\n");
            }
        }
        let columns = ["min", "median", "p90", "max", "floor"].map(|column| format!("{column:>9}")).concat();
        let _ = write!(text, "{:<NAME$}{:>6}{:>4}{columns}", "", "unit", "n");
        if earlier.is_some() {
            let _ = write!(text, "{:>9}{:>10}", "before", "change");
        }
        text.push('\n');
        text
    }

    /// The row that is about the same thing.
    fn same(&self, other: &Row) -> Option<&Row> {
        self.rows.iter().find(|row| row.kind == other.kind && row.name == other.name && row.unit == other.unit)
    }
}

impl Row {
    fn line(&self, before: Option<&Self>, compares: bool) -> String {
        let digits = self.unit.digits();
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
        let mut line =
            format!("  {:<width$}{:>6}{:>4}", self.name, self.unit.word(), self.samples.len(), width = NAME - 2);
        for share in [0, 50, 90, 100] {
            let _ = write!(line, "{:>9}", number(quantile(&self.samples, share)));
        }
        let _ = write!(line, "{:>9}", number(quantile(&self.floor, 50)));
        if compares {
            let earlier = before.and_then(|row| quantile(&row.samples, 50));
            let change = before.map_or_else(|| "new".to_owned(), |row| change(&row.samples, &self.samples));
            let _ = write!(line, "{:>9}{change:>10}", number(earlier));
        }
        line
    }
}

/// The sample below which this share of all lies, in percent.
fn quantile(samples: &[f64], share: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? * share / 100).copied()
}

/// How the median has changed, marked where no sample of the earlier run was as low or as high.
fn change(before: &[f64], now: &[f64]) -> String {
    let (Some(old), Some(new)) = (quantile(before, 50), quantile(now, 50)) else { return "-".to_owned() };
    let is_outside = quantile(before, 0).is_some_and(|least| new < least)
        || quantile(before, 100).is_some_and(|greatest| new > greatest);
    let mark = if is_outside && before.len() >= ENOUGH { "!" } else { " " };
    if old == 0.0 {
        return format!("{:+.2} {mark}", new - old);
    }
    // The sum makes a zero without a sign.
    format!("{:+.0} %{mark}", ((new - old) * 100.0 / old).round() + 0.0)
}

#[cfg(test)]
mod tests {
    use super::{Row, Run, Unit, change, quantile};

    fn run(ground: &str, rows: &[(&str, &[f64], &[f64])]) -> Run {
        let mut run = Run::new("2026-01-02T03:04:05Z".to_owned(), ground.to_owned());
        run.rows = rows
            .iter()
            .map(|(name, samples, floor)| Row {
                kind: "start".to_owned(),
                name: (*name).to_owned(),
                unit: Unit::Seconds,
                samples: samples.to_vec(),
                floor: floor.to_vec(),
            })
            .collect();
        run
    }

    fn cells(table: &str, name: &str) -> Vec<String> {
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect("a line of that name");
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_table_has_median_spread_and_floor() {
        let table = run("here", &[("first byte", &[3.0, 1.0, 2.0], &[0.5]), ("end", &[4.0], &[])]).table(None);
        assert_eq!(cells(&table, "first byte"), ["s", "3", "1.000", "2.000", "2.000", "3.000", "0.500"]);
        assert_eq!(cells(&table, "end"), ["s", "1", "4.000", "4.000", "4.000", "4.000", "-"]);
        assert!(!table.contains("before"), "{table}");
    }

    #[test]
    fn a_comparison_says_what_changed_came_and_went() {
        let before = run("here", &[("first byte", &[1.0, 1.1, 1.2], &[]), ("gone", &[1.0], &[])]);
        let now = run("there", &[("first byte", &[2.0], &[]), ("end", &[4.0], &[])]);
        let table = now.table(Some(&before));
        assert_eq!(cells(&table, "first byte")[7..], ["1.100", "+82", "%!"]);
        assert_eq!(cells(&table, "end")[7..], ["-", "new"]);
        assert!(table.contains("only in the earlier run: start: gone"), "{table}");
        assert!(table.contains("CAUTION"), "{table}");
        assert!(!now.table(Some(&now)).contains("CAUTION"));
    }

    #[test]
    fn only_what_leaves_the_spread_is_marked() {
        assert_eq!(change(&[1.0, 2.0, 3.0], &[3.0]), "+50 % ");
        assert_eq!(change(&[1.0, 2.0, 3.0], &[3.1]), "+55 %!");
        assert_eq!(change(&[1.0, 2.0, 3.0], &[0.9]), "-55 %!");
        assert_eq!(change(&[0.0; 3], &[1.0]), "+1.00 !");
        assert_eq!(change(&[1.0, 2.0], &[3.0]), "+200 % ");
        assert_eq!(change(&[1.0; 3], &[0.999]), "+0 %!");
        assert_eq!(change(&[], &[1.0]), "-");
        assert_eq!(quantile(&[], 50), None);
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let all = run("here", &[("first byte", &[0.125], &[0.1])]);
        assert_eq!(Run::from_json(&all.to_json().expect("JSON")).expect("a run"), all);
        let other = all.to_json().expect("JSON").replace("\"format\": 1", "\"format\": 2");
        assert!(Run::from_json(&other).is_err());
    }
}
