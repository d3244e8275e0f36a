//! The kinds of keys: how each is read, by functions of [`Section`], and how it is described. Names
//! of functions are what a declaration reads like: `seconds("check_interval", 3)`.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method itself is for one lifetime of sections, and kinds read sections of any"
)]

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::{Secret, go_duration};
use jiff::tz::TimeZone;

use crate::declare::{Declared, Kind, Table, Walk};
use crate::key::Form;
use crate::names::{has_variable, is_object_name};
use crate::periods::{self, Cron};
use crate::problem::Severity;
use crate::quantity::Quantity;
use crate::section::Section;
use crate::words;

mod capabilities;

pub(crate) use capabilities::{capabilities, optional_capabilities};

/// A kind that is a function.
pub(crate) struct Simple<F> {
    form: Form,
    default: String,
    read: F,
}

impl<T, F: Fn(&Section<'_>, &'static str) -> T> Kind for Simple<F> {
    type Value = T;

    fn read(&self, section: &Section<'_>, key: &'static str) -> T {
        if let Some(instead) = self.below_zero() {
            section.warn_below_zero(key, &instead);
        }
        (self.read)(section, key)
    }

    fn form(&self) -> Option<Form> {
        Some(self.form.clone())
    }

    fn default(&self) -> String {
        self.default.clone()
    }
}

impl<F> Simple<F> {
    /// What is in force where a file says a number below 0, which the reference takes without a
    /// word; `None` where such a number is an answer, an error, or no number at all.
    fn below_zero(&self) -> Option<String> {
        match self.form {
            Form::DurationFromZero => Some("0 is in force".to_owned()),
            Form::Positive | Form::Seconds | Form::Duration => Some(match self.default.as_str() {
                "" | "0" => "it is as if the key were not there".to_owned(),
                default => format!("the default is in force, {default}"),
            }),
            _ => None,
        }
    }
}

/// A key that is read by a function of its own.
pub(crate) fn custom<T, F: Fn(&Section<'_>, &'static str) -> T>(
    key: &'static str,
    form: Form,
    default: impl Into<String>,
    read: F,
) -> Declared<Simple<F>> {
    Declared::new(key, Simple { form, default: default.into(), read })
}

/// A key that is not read.
pub(crate) fn anything(key: &'static str) -> Declared<impl Kind<Value = ()>> {
    custom(key, Form::Anything, "", |_, _| ())
}

/// Any text; `None` where absent or empty.
pub(crate) fn text(key: &'static str) -> Declared<impl Kind<Value = Option<String>>> {
    custom(key, Form::Text, "", |section, key| section.text(key))
}

/// Any text, with a default for nothing.
pub(crate) fn text_or(key: &'static str, default: &'static str) -> Declared<impl Kind<Value = String>> {
    custom(key, Form::Text, default, move |section, key| section.text(key).unwrap_or_else(|| default.to_owned()))
}

/// A text that must not be shown.
pub(crate) fn secret(key: &'static str) -> Declared<impl Kind<Value = Option<Secret>>> {
    custom(key, Form::Secret, "", |section, key| section.text(key).map(Secret::new))
}

/// The path of a file of the manager.
pub(crate) fn path(key: &'static str) -> Declared<impl Kind<Value = Option<PathBuf>>> {
    custom(key, Form::Path, "", |section, key| section.text(key).map(PathBuf::from))
}

/// A regular expression, as written.
pub(crate) fn pattern(key: &'static str) -> Declared<impl Kind<Value = Option<String>>> {
    custom(key, Form::Pattern, "", |section, key| section.pattern(key))
}

/// A quantity of Kubernetes.
pub(crate) fn quantity(key: &'static str) -> Declared<impl Kind<Value = Option<Quantity>>> {
    custom(key, Form::Quantity, "", |section, key| section.quantity(key))
}

/// `true` or `false`, where `false` is the same as nothing.
pub(crate) fn flag(key: &'static str) -> Declared<impl Kind<Value = bool>> {
    custom(key, Form::Flag, "false", |section, key| section.bool(key).unwrap_or(false))
}

/// `true`, `false` or nothing.
pub(crate) fn switch(key: &'static str) -> Declared<impl Kind<Value = Option<bool>>> {
    custom(key, Form::Switch, "", |section, key| section.bool(key))
}

/// `true` or `false`, with a default.
pub(crate) fn switch_or(key: &'static str, default: bool) -> Declared<impl Kind<Value = bool>> {
    custom(key, Form::Switch, default.to_string(), move |section, key| section.bool(key).unwrap_or(default))
}

/// Whole seconds that are not negative, where 0 is not nothing.
pub(crate) fn not_negative(key: &'static str) -> Declared<impl Kind<Value = Option<i64>>> {
    custom(key, Form::Whole, "", |section, key| {
        let number = section.int(key)?;
        if number < 0 {
            section.problem(Severity::Error, key, format!("{number} is less than 0"));
        }
        Some(number)
    })
}

/// The number of a user or group.
pub(crate) fn id(key: &'static str) -> Declared<impl Kind<Value = Option<i64>>> {
    custom(key, Form::Whole, "", |section, key| {
        let id = section.int(key)?;
        if let Some(message) = no_id(id) {
            section.problem(Severity::Error, key, message);
        }
        Some(id)
    })
}

/// Numbers of groups.
pub(crate) fn ids(key: &'static str) -> Declared<impl Kind<Value = Vec<i64>>> {
    custom(key, Form::Numbers, "", |section, key| {
        let mut list = Vec::new();
        for found in section.items(key, "a list of numbers") {
            let Some(id) = found.int() else { continue };
            if let Some(message) = no_id(id) {
                found.problem(Severity::Error, message);
            }
            list.push(id);
        }
        list
    })
}

/// What is wrong with the number of a user or group, for an API server.
fn no_id(id: i64) -> Option<String> {
    let is_id = (0..=i64::from(i32::MAX)).contains(&id);
    (!is_id).then(|| format!("{id} is no number of a user or group: those are from 0 to {}", i32::MAX))
}

/// The name of an object of Kubernetes.
pub(crate) fn object_name(key: &'static str) -> Declared<impl Kind<Value = Option<String>>> {
    custom(key, Form::Text, "", |section, key| {
        let name = section.text(key)?;
        if !is_object_name(&name) && !has_variable(&name) {
            section.problem(Severity::Error, key, format!("{name:?} {NO_OBJECT}"));
        }
        Some(name)
    })
}

const NO_OBJECT: &str =
    "cannot be the name of an object: those have lower-case letters, digits, inner dashes and dots, up to 253";

/// Names of objects of Kubernetes.
pub(crate) fn object_names(key: &'static str) -> Declared<impl Kind<Value = Vec<String>>> {
    custom(key, Form::Texts, "", |section: &Section<'_>, key| {
        checked(section, key, |name| {
            if name.is_empty() {
                // An API server takes it.
                return Some((Severity::Warning, "\"\" names nothing".to_owned()));
            }
            (!is_object_name(name) && !has_variable(name)).then(|| (Severity::Error, format!("{name:?} {NO_OBJECT}")))
        })
    })
}

/// A list of addresses.
pub(crate) fn addresses(key: &'static str) -> Declared<impl Kind<Value = Vec<String>>> {
    custom(key, Form::Texts, "", |section: &Section<'_>, key| {
        checked(section, key, |text| not_an_address(text).map(|message| (Severity::Error, message)))
    })
}

/// An address that the table cannot be used without.
pub(crate) fn address(key: &'static str, why: &'static str) -> Declared<impl Kind<Value = String>> {
    custom(key, Form::Text, "", move |section: &Section<'_>, key| {
        let text = section.required(key, why);
        if let Some(message) = not_an_address(&text).filter(|_| !text.is_empty()) {
            section.problem(Severity::Error, key, message);
        }
        text
    })
}

fn not_an_address(text: &str) -> Option<String> {
    let is_address = text.parse::<IpAddr>().is_ok();
    (!is_address).then(|| format!("{text:?} is not an IP address"))
}

/// Patterns of images.
pub(crate) fn globs(key: &'static str) -> Declared<impl Kind<Value = Vec<String>>> {
    custom(key, Form::Texts, "", |section: &Section<'_>, key| {
        checked(section, key, |pattern| {
            if pattern.is_empty() {
                return Some((Severity::Warning, "\"\" matches nothing".to_owned()));
            }
            if pattern.contains(',') && !pattern.contains('{') {
                let message = format!("{pattern:?} is one pattern, its comma included: write one entry for each");
                return Some((Severity::Warning, message));
            }
            let error = globset::GlobBuilder::new(pattern).literal_separator(true).build().err()?;
            Some((Severity::Warning, format!("{pattern:?} is no pattern and matches nothing: {}", error.kind())))
        })
    })
}

/// A list of texts, with what is wrong with each.
pub(crate) fn checked(
    section: &Section<'_>,
    key: &'static str,
    problem: impl Fn(&str) -> Option<(Severity, String)>,
) -> Vec<String> {
    let mut list = Vec::new();
    for found in section.items(key, "a list of strings") {
        let Some(text) = found.text() else { continue };
        if let Some((severity, message)) = problem(&text) {
            found.problem(severity, message);
        }
        list.push(text);
    }
    list
}

/// A whole number above 0; anything else is nothing.
pub(crate) fn positive<T: TryFrom<i64>>(key: &'static str) -> Declared<impl Kind<Value = Option<T>>> {
    custom(key, Form::Positive, "", |section, key| section.positive(key))
}

/// Whole seconds.
pub(crate) fn seconds(key: &'static str, default: u64) -> Declared<impl Kind<Value = Duration>> {
    let read = move |section: &Section<'_>, key| section.seconds(key).unwrap_or(Duration::from_secs(default));
    custom(key, Form::Seconds, default.to_string(), read)
}

/// A duration; zero and nothing are the default.
pub(crate) fn duration_or(key: &'static str, default: Duration) -> Declared<impl Kind<Value = Duration>> {
    let read = move |section: &Section<'_>, key| section.positive_duration(key).unwrap_or(default);
    custom(key, Form::Duration, go_duration::format(default), read)
}

/// A duration; zero is nothing.
pub(crate) fn duration(key: &'static str) -> Declared<impl Kind<Value = Option<Duration>>> {
    custom(key, Form::Duration, "", |section, key| section.positive_duration(key))
}

/// A list of texts.
pub(crate) fn texts(key: &'static str) -> Declared<impl Kind<Value = Vec<String>>> {
    custom(key, Form::Texts, "", |section, key| section.texts(key))
}

/// A table of texts with free keys.
pub(crate) fn text_map(key: &'static str) -> Declared<impl Kind<Value = BTreeMap<String, String>>> {
    custom(key, Form::TextMap, "", |section, key| section.text_map(key))
}

/// Times as cron expressions; without the key always.
pub(crate) fn crons(key: &'static str) -> Declared<impl Kind<Value = Vec<Cron>>> {
    custom(key, Form::Texts, "", |section: &Section<'_>, key| {
        if section.find(key).is_none() && section.is_present() {
            return Cron::parse("* * * * *").into_iter().collect();
        }
        let mut list = Vec::new();
        for found in section.items(key, "a list of cron expressions") {
            let Some(text) = found.text() else { continue };
            let fields = text.split_ascii_whitespace().count();
            if fields > periods::MOST_FIELDS {
                let most = periods::MOST_FIELDS;
                found.problem(
                    Severity::Warning,
                    format!("{text:?} has {fields} fields: those behind the {most}th, the year, are not read"),
                );
            }
            match Cron::parse(&text) {
                Ok(cron) => list.push(cron),
                Err(error) => found.problem(Severity::Error, format!("{text:?} is no cron expression: {error}")),
            }
        }
        list
    })
}

/// A time zone by its name.
pub(crate) fn time_zone(key: &'static str) -> Declared<impl Kind<Value = Option<TimeZone>>> {
    custom(key, Form::Text, "", |section: &Section<'_>, key| {
        let name = section.text(key)?;
        let zone = periods::zone(&name);
        if zone.is_none() {
            section.problem(Severity::Error, key, format!("{name:?} is no time zone such as Europe/Berlin or UTC"));
        }
        zone
    })
}

/// Words and what they mean.
pub(crate) type Meanings<T> = &'static [(&'static str, T)];

/// One of a few words; another one is an error.
pub(crate) fn word<T: Copy>(key: &'static str, meanings: Meanings<T>) -> Declared<impl Kind<Value = Option<T>>> {
    custom(key, Form::Words(names(meanings)), "", move |section, key| words::optional(section, key, meanings))
}

/// One of a few words; the first is the default, and another one is an error.
pub(crate) fn word_or_first<T: Copy + Default>(
    key: &'static str,
    meanings: Meanings<T>,
) -> Declared<impl Kind<Value = T>> {
    let default = meanings.first().map_or("", |(name, _)| *name);
    let read = move |section: &Section<'_>, key| words::optional(section, key, meanings).unwrap_or_default();
    custom(key, Form::Words(names(meanings)), default, read)
}

/// One of a few words; another one is a warning.
pub(crate) fn lenient_word<T: Copy>(
    key: &'static str,
    meanings: Meanings<T>,
) -> Declared<impl Kind<Value = Option<T>>> {
    custom(key, Form::Words(names(meanings)), "", move |section, key| words::lenient(section, key, meanings))
}

/// One of a few words; another one is a warning that ends in its consequence, and means what goes
/// with that.
pub(crate) fn word_or_other<T: Copy>(
    key: &'static str,
    meanings: Meanings<T>,
    other: (&'static str, Option<T>),
) -> Declared<impl Kind<Value = Option<T>>> {
    let read = move |section: &Section<'_>, key| words::other_means(section, key, meanings, other);
    custom(key, Form::Words(names(meanings)), "", read)
}

/// The words alone.
pub(crate) fn names<T>(meanings: Meanings<T>) -> Vec<&'static str> {
    meanings.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect()
}

/// What is read of a table with keys of its own.
pub(crate) struct Below<T, R> {
    form: Option<Form>,
    read: R,
    table: PhantomData<fn() -> T>,
}

impl<T: Table, V, R: Fn(&Section<'_>, &'static str) -> V> Kind for Below<T, R> {
    type Value = V;

    fn read(&self, section: &Section<'_>, key: &'static str) -> V {
        (self.read)(section, key)
    }

    fn form(&self) -> Option<Form> {
        self.form.clone()
    }

    fn describe_below(&self, walk: &mut Walk) {
        T::describe(walk);
    }
}

fn below<T: Table, V, R: Fn(&Section<'_>, &'static str) -> V>(
    key: &'static str,
    form: Option<Form>,
    read: R,
) -> Declared<Below<T, R>> {
    Declared::new(key, Below { form, read, table: PhantomData })
}

/// Keys of the same table that have a struct of their own.
pub(crate) fn group<T: Table>() -> Declared<impl Kind<Value = T>> {
    below::<T, _, _>("", None, |section: &Section<'_>, _| T::read(section))
}

/// A table.
pub(crate) fn table<T: Table>(key: &'static str) -> Declared<impl Kind<Value = T>> {
    below::<T, _, _>(key, Some(Form::Table), |section: &Section<'_>, key| T::read(&section.table(key)))
}

/// A table whose absence is something else than its emptiness.
pub(crate) fn optional_table<T: Table>(key: &'static str) -> Declared<impl Kind<Value = Option<T>>> {
    table_into::<T, _>(key, |section| section.is_present().then(|| T::read(section)))
}

/// A table that something else is made of.
pub(crate) fn table_into<T: Table, V>(
    key: &'static str,
    make: impl Fn(&Section<'_>) -> V,
) -> Declared<impl Kind<Value = V>> {
    below::<T, _, _>(key, Some(Form::Table), move |section: &Section<'_>, key| make(&section.table(key)))
}

/// A list of tables.
pub(crate) fn tables<T: Table>(key: &'static str) -> Declared<impl Kind<Value = Vec<T>>> {
    tables_into::<T, _>(key, |section| Some(T::read(section)))
}

/// A list of tables that something else is made of, or nothing.
pub(crate) fn tables_into<T: Table, V>(
    key: &'static str,
    make: impl Fn(&Section<'_>) -> Option<V>,
) -> Declared<impl Kind<Value = Vec<V>>> {
    let read = move |section: &Section<'_>, key| section.tables(key).iter().filter_map(&make).collect();
    below::<T, _, _>(key, Some(Form::Tables), read)
}
