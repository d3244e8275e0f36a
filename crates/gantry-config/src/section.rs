//! One table of the file, read key by key. A wrong type is one error, and reading goes on.
//!
//! The tables are walked by hand and not by serde, because serde stops at the first wrong value and
//! this crate promises all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::go_duration::{self, ParseError};
use toml::de::{DeArray, DeTable, DeValue};

use crate::problem::Severity;
use crate::quantity::Quantity;
use crate::report::Report;

/// One table, or the absence of one, which reads like an empty table.
pub(crate) struct Section<'d> {
    pub(crate) report: &'d Report<'d>,
    table: Option<&'d DeTable<'d>>,
    path: String,
    /// Where the table begins, for problems that no key has.
    at: usize,
}

/// A value and where it stands.
pub(crate) struct Located<'d> {
    pub(crate) report: &'d Report<'d>,
    pub(crate) value: &'d DeValue<'d>,
    pub(crate) at: usize,
    pub(crate) path: String,
}

/// Nanoseconds below which nobody means nanoseconds: a millisecond.
const LEAST_MEANT: i64 = 1_000_000;

impl<'d> Section<'d> {
    pub(crate) fn new(report: &'d Report<'d>, table: Option<&'d DeTable<'d>>, path: String, at: usize) -> Self {
        Self { report, table, path, at }
    }

    /// Where the table begins, in bytes.
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// Whether the file has this table.
    pub(crate) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key`. Without an exact match upper and lower case make no difference (GitLab
    /// Runner 19.4).
    pub(crate) fn find(&self, key: &str) -> Option<Located<'d>> {
        let table = self.table?;
        let (_, value) = table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .or_else(|| table.iter().find(|(name, _)| name.get_ref().eq_ignore_ascii_case(key)))?;
        Some(self.found(key, value))
    }

    /// A problem of `key`, or of the table if it has no such key.
    pub(crate) fn problem(&self, severity: Severity, key: &str, message: impl Into<String>) {
        match self.find(key) {
            Some(found) => found.problem(severity, message),
            None => self.report.add(severity, self.at, &join(&self.path, key), message),
        }
    }

    /// A text; `None` where absent or empty.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.find(key)?.text().filter(|text| !text.is_empty())
    }

    /// A text, empty where absent.
    pub(crate) fn text_or_empty(&self, key: &'static str) -> String {
        self.text(key).unwrap_or_default()
    }

    pub(crate) fn bool(&self, key: &'static str) -> Option<bool> {
        let found = self.find(key)?;
        match found.value {
            DeValue::Boolean(value) => Some(*value),
            _ => found.wrong("true or false"),
        }
    }

    pub(crate) fn int(&self, key: &'static str) -> Option<i64> {
        self.find(key)?.int()
    }

    /// A number, with a fraction or without.
    pub(crate) fn decimal(&self, key: &'static str) -> Option<f64> {
        let found = self.find(key)?;
        match found.value {
            DeValue::Float(value) => value.as_str().replace('_', "").parse().ok(),
            // The same text, without what is rounded on the way.
            DeValue::Integer(_) => found.int()?.to_string().parse().ok(),
            _ => found.wrong("a number"),
        }
    }

    /// A whole number above 0; `None` where absent or not above 0, which in this file means the
    /// default.
    pub(crate) fn positive<T: TryFrom<i64>>(&self, key: &'static str) -> Option<T> {
        let found = self.find(key)?;
        let value = found.int().filter(|value| *value > 0)?;
        T::try_from(value).map_err(|_| found.problem(Severity::Error, format!("{value} is too large"))).ok()
    }

    /// Seconds; `None` where absent or not above 0.
    pub(crate) fn seconds(&self, key: &'static str) -> Option<Duration> {
        self.positive::<u32>(key).map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Warns of a number or duration below 0; `instead` says what is in force then.
    pub(crate) fn warn_below_zero(&self, key: &'static str, instead: &str) {
        let Some(found) = self.find(key) else { return };
        let shown = match found.value {
            DeValue::Integer(value) if value.as_str().starts_with('-') && value.as_str() != "-0" => value.as_str(),
            DeValue::String(text) if go_duration::parse(text) == Err(ParseError::Negative) => text.as_ref(),
            _ => return,
        };
        found.problem(Severity::Warning, format!("{shown} is less than 0 and does not count: {instead}"));
    }

    /// A duration in Go's notation, or nanoseconds (GitLab Runner 19.4). Negative ones are zero.
    pub(crate) fn duration(&self, key: &'static str) -> Option<Duration> {
        let found = self.find(key)?;
        match found.value {
            DeValue::Integer(_) => found.int().map(|nanos| {
                if (1..LEAST_MEANT).contains(&nanos) {
                    let message = format!("{nanos} is {nanos} nanoseconds here: write \"{nanos}s\" for seconds");
                    found.problem(Severity::Warning, message);
                }
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
            }),
            DeValue::String(text) => match go_duration::parse(text) {
                Ok(duration) => Some(duration),
                Err(ParseError::Negative) => Some(Duration::ZERO),
                Err(error) => {
                    found.problem(Severity::Error, format!("\"{text}\" is {}", without_is(&error)));
                    None
                }
            },
            _ => found.wrong("a duration such as \"10m\", or nanoseconds"),
        }
    }

    /// The same; `None` also where not above zero, which in this file means the default.
    pub(crate) fn positive_duration(&self, key: &'static str) -> Option<Duration> {
        self.duration(key).filter(|duration| !duration.is_zero())
    }

    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        self.items(key, "a list of strings").iter().filter_map(Located::text).collect()
    }

    /// The elements of a list; nothing where absent or not a list.
    pub(crate) fn items(&self, key: &'static str, expected: &str) -> Vec<Located<'d>> {
        let Some(found) = self.find(key) else { return Vec::new() };
        match found.value {
            DeValue::Array(array) => found.elements(array),
            _ => found.wrong(expected).unwrap_or_default(),
        }
    }

    /// The keys and values of a table whose keys are free. Anything but a table says nothing, and
    /// is no error: the TOML library of GitLab Runner 19.4 leaves such a value out, so there are
    /// files that work with one.
    pub(crate) fn entries(&self, key: &'static str) -> Vec<(String, Located<'d>)> {
        let Some(found) = self.find(key) else { return Vec::new() };
        let DeValue::Table(table) = found.value else {
            let message = format!("must be a table, not {}, and has no effect", found.kind());
            self.report.add_with_hint(Severity::Warning, found.at, &found.path, (message, example(key)));
            return Vec::new();
        };
        let free = Section::new(self.report, Some(table), found.path.clone(), found.at);
        table.iter().map(|(name, value)| (name.get_ref().to_string(), free.found(name.get_ref(), value))).collect()
    }

    pub(crate) fn text_map(&self, key: &'static str) -> BTreeMap<String, String> {
        let read = |found: Located<'_>| match found.value {
            // `kubernetes.io/arch = "amd64"` makes a table called kubernetes.
            DeValue::Table(_) => found.wrong("a string (put names that contain dots in quotes)"),
            _ => found.text(),
        };
        self.entries(key).into_iter().filter_map(|(name, found)| Some((name, read(found)?))).collect()
    }

    pub(crate) fn bool_map(&self, key: &'static str) -> BTreeMap<String, bool> {
        let read = |found: Located<'_>| match found.value {
            DeValue::Boolean(value) => Some(*value),
            _ => found.wrong("true or false"),
        };
        self.entries(key).into_iter().filter_map(|(name, found)| Some((name, read(found)?))).collect()
    }

    /// Table `key`, or its absence.
    pub(crate) fn table(&self, key: &'static str) -> Section<'d> {
        let table = self.find(key).and_then(|found| match found.value {
            DeValue::Table(table) => Some((table, found.at)),
            _ => found.wrong("a table"),
        });
        let at = table.map_or(self.at, |(_, at)| at);
        Section::new(self.report, table.map(|(table, _)| table), join(&self.path, key), at)
    }

    /// Every table of a list.
    pub(crate) fn tables(&self, key: &'static str) -> Vec<Section<'d>> {
        if let Some(found) = self.find(key)
            && let DeValue::Table(_) = found.value
        {
            let what = "must be a list of tables, not a table".to_owned();
            let hint = format!("write [[{}]], and not [{0}]", general(&found.path));
            self.report.add_with_hint(Severity::Error, found.at, &found.path, (what, Some(hint)));
            return Vec::new();
        }
        let section = |found: Located<'d>| match found.value {
            DeValue::Table(table) => Some(Section::new(self.report, Some(table), found.path, found.at)),
            _ => found.wrong("a table"),
        };
        self.items(key, "a list of tables").into_iter().filter_map(section).collect()
    }

    /// A regular expression. A broken one is only a warning: the reference fails the jobs that need
    /// it and runs all others.
    pub(crate) fn pattern(&self, key: &'static str) -> Option<String> {
        let pattern = self.text(key)?;
        if regex::Regex::new(&pattern).is_err() {
            self.problem(Severity::Warning, key, "is not a regular expression: jobs that make use of it will fail");
        }
        Some(pattern)
    }

    /// A quantity of Kubernetes.
    pub(crate) fn quantity(&self, key: &'static str) -> Option<Quantity> {
        let text = self.text(key)?;
        let quantity =
            Quantity::parse(&text).map_err(|error| self.problem(Severity::Error, key, format!("{text:?} is {error}")));
        if quantity.as_ref().is_ok_and(Quantity::is_negative) {
            self.problem(Severity::Error, key, format!("{text:?} is less than nothing"));
        }
        quantity.ok()
    }

    /// A text that the table cannot be used without; `why` says what needs it.
    pub(crate) fn required(&self, key: &'static str, why: &str) -> String {
        let text = self.text(key);
        if text.is_none() && self.is_present() {
            self.problem(Severity::Error, key, format!("is missing: {why} needs it"));
        }
        text.unwrap_or_default()
    }

    fn found(&self, name: &str, value: &'d toml::Spanned<DeValue<'d>>) -> Located<'d> {
        let path = join(&self.path, name);
        Located { report: self.report, value: value.get_ref(), at: value.span().start, path }
    }
}

impl<'d> Located<'d> {
    pub(crate) fn problem(&self, severity: Severity, message: impl Into<String>) {
        self.report.add(severity, self.at, &self.path, message);
    }

    /// Reports a wrong type; always `None`. The value is not shown: it may be a secret.
    pub(crate) fn wrong<T>(&self, expected: &str) -> Option<T> {
        self.problem(Severity::Error, format!("must be {expected}, not {}", self.kind()));
        None
    }

    /// What the value is, in words.
    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    pub(crate) fn text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            _ => self.wrong("a string"),
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        let DeValue::Integer(value) = self.value else { return self.wrong("a whole number") };
        let parsed = i64::from_str_radix(value.as_str(), value.radix()).ok();
        if parsed.is_none() {
            self.problem(Severity::Error, "is too large for a number");
        }
        parsed
    }

    fn elements(&self, array: &'d DeArray<'d>) -> Vec<Located<'d>> {
        let element = |(index, value): (usize, &'d toml::Spanned<DeValue<'d>>)| Located {
            report: self.report,
            value: value.get_ref(),
            at: value.span().start,
            path: format!("{}[{index}]", self.path),
        };
        array.iter().enumerate().map(element).collect()
    }
}

/// A path without the places in lists: `runners[3].kubernetes` is `runners.kubernetes`.
pub(crate) fn general(path: &str) -> String {
    let mut is_inside = false;
    let is_kept = |c: &char| {
        is_inside = (is_inside || *c == '[') && *c != ']';
        !is_inside && *c != ']'
    };
    path.chars().filter(is_kept).collect()
}

/// A key path in the notation of TOML.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The error's words after "is".
fn without_is(error: &ParseError) -> String {
    let text = error.to_string();
    text.strip_prefix("is ").unwrap_or(&text).to_owned()
}

/// How a table with free keys is written, where other forms are common.
fn example(key: &str) -> Option<String> {
    let example = match key {
        "items" => "write items = { \"key\" = \"path\" }",
        "node_tolerations" => "write node_tolerations = { \"key=value\" = \"NoSchedule\" }",
        "pod_labels" | "pod_annotations" => return Some(format!("write {key} = {{ \"example.com/team\" = \"ci\" }}")),
        "node_selector" => "write node_selector = { \"kubernetes.io/arch\" = \"amd64\" }",
        _ => return None,
    };
    Some(example.to_owned())
}
