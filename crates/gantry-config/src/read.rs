//! From tables to typed settings: one file per table, in the order of the file format. This one reads what stands outside `[[runners]]`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use gantry_core::Secret;

use crate::problem::{Severity, UnusableRunner};
use crate::section::Section;
use crate::settings::{
    GantrySettings, LogFormat, LogLevel, LogSettings, OnTerminate, RunnerSettings, SessionServer, Settings,
};

pub(crate) mod affinity;
pub(crate) mod cache;
pub(crate) mod kubernetes;
pub(crate) mod labels;
pub(crate) mod pod;
pub(crate) mod resources;
pub(crate) mod runner;
pub(crate) mod security;
pub(crate) mod volumes;
mod words;

/// Answers for `$VAR`.
pub(crate) type Env<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// Reads the whole file: its settings, and the entries that cannot be among them.
pub(crate) fn settings(root: &Section<'_>, env: &Env<'_>) -> (Settings, Vec<UnusableRunner>) {
    let labels = labels::read(root, &BTreeMap::new());
    let concurrent = concurrent(root);
    // Tables of other executors and of features that no job can see.
    root.ignore(&["user", "machine", "experimental"]);
    let (runners, unusable) = runners(root, &runner::Context { env, labels: &labels, concurrent });
    let settings = Settings {
        concurrent,
        check_interval: root.seconds("check_interval").unwrap_or(Duration::from_secs(3)),
        listen_address: root.text("listen_address"),
        log: LogSettings {
            level: words::optional(root, "log_level", &LOG_LEVELS),
            format: words::optional(root, "log_format", &LOG_FORMATS),
        },
        shutdown_timeout: root.seconds("shutdown_timeout").unwrap_or(Duration::from_secs(30)),
        connection_max_age: root.duration("connection_max_age").unwrap_or(Duration::from_mins(15)),
        sentry_dsn: root.text("sentry_dsn").map(Secret::new),
        session_server: root.section("session_server", session_server),
        gantry: root.section("gantry", gantry),
        runners,
        labels,
    };
    root.finish();
    (settings, unusable)
}

/// The entries, each for itself: what is wrong with one says nothing about the others.
fn runners(root: &Section<'_>, context: &runner::Context<'_>) -> (Vec<RunnerSettings>, Vec<UnusableRunner>) {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    let mut seen = BTreeMap::new();
    let read = root.sections("runners", |section| {
        let mark = root.report.mark();
        let settings = runner::read(section, context);
        (settings, root.report.take_errors(mark), section.place())
    });
    for (index, (settings, errors, place)) in read.into_iter().enumerate() {
        if !errors.is_empty() {
            unusable.push(UnusableRunner { index, name: settings.name, errors });
            continue;
        }
        let identity = (settings.url.clone(), settings.token.expose().to_owned(), settings.name.clone());
        if let Some(first) = seen.insert(identity, index) {
            let message = format!(
                "has the url, token and name of runners[{first}]: both ask for jobs, and only one of them may be meant"
            );
            root.report.add(Severity::Warning, place, &format!("runners[{index}]"), message);
        }
        usable.push(settings);
    }
    (usable, unusable)
}

const LOG_LEVELS: [(&str, LogLevel); 8] = [
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("warning", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("fatal", LogLevel::Fatal),
    ("panic", LogLevel::Panic),
];

const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("runner", LogFormat::Runner), ("text", LogFormat::Text), ("json", LogFormat::Json)];

fn concurrent(root: &Section<'_>) -> NonZeroU32 {
    match root.int("concurrent") {
        None => NonZeroU32::MIN,
        Some(value) => u32::try_from(value).ok().and_then(NonZeroU32::new).unwrap_or_else(|| {
            root.problem(Severity::Error, "concurrent", format!("must be from 1 to {}, not {value}", u32::MAX));
            NonZeroU32::MIN
        }),
    }
}

fn session_server(section: &Section<'_>) -> SessionServer {
    let advertise_address = section.text("advertise_address");
    if advertise_address.as_ref().is_some_and(|address| address.contains("://")) {
        section.problem(Severity::Error, "advertise_address", "must be host:port without a scheme");
    }
    SessionServer {
        listen_address: section.text("listen_address"),
        advertise_address,
        session_timeout: section.seconds("session_timeout").unwrap_or(Duration::from_mins(30)),
    }
}

fn gantry(section: &Section<'_>) -> GantrySettings {
    let words = [("hand-over", OnTerminate::HandOver), ("abort", OnTerminate::Abort)];
    GantrySettings {
        fleet: section.text("fleet"),
        on_terminate: words::optional(section, "on_terminate", &words).unwrap_or_default(),
        ticket_key: section.text("ticket_key").map(Secret::new),
        self_report_after: section.positive_duration("self_report_after").unwrap_or(Duration::from_mins(2)),
        abandon_after: section.positive_duration("abandon_after").unwrap_or(Duration::from_mins(25)),
    }
}
