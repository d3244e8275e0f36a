//! Log lines of the process, on standard error, in the three formats of GitLab Runner 19.4. Every
//! line passes the redactor, whoever wrote it.

mod spans;

use std::collections::BTreeMap;
use std::fmt;

use gantry_config::settings::{LogFormat, LogLevel, LogSettings};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, filter::Targets};

use crate::style::Style;

/// Target of the line that says why the process ends: a level of its own in the formats, which the
/// reference calls fatal.
pub(crate) const FATAL: &str = "gantry::fatal";

/// Width to which messages are padded before their fields, prefix included.
const MESSAGE_WIDTH: usize = 50;

/// Lets the config file change what the command line left open.
#[derive(Clone)]
pub(crate) struct Logging {
    /// In force where nobody says anything.
    default_level: LevelFilter,
    level: Option<reload::Handle<Targets, Registry>>,
    format: Option<std::sync::Arc<std::sync::atomic::AtomicU8>>,
}

/// Starts logging. What is given here stays; the rest follows the config file.
pub(crate) fn start(level: Option<LevelFilter>, format: Option<LogFormat>, default_level: LevelFilter) -> Logging {
    let (filter, handle) = reload::Layer::new(targets(level.unwrap_or(default_level)));
    let shared = std::sync::Arc::new(std::sync::atomic::AtomicU8::new(format.unwrap_or(LogFormat::Runner) as u8));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Lines { format: std::sync::Arc::clone(&shared), style: Style::of(&std::io::stderr()) });
    tracing_subscriber::registry()
        .with(filter)
        .with(gantry_daemon::CountLines)
        .with(spans::SpanFields)
        .with(lines)
        .init();
    Logging { default_level, level: level.is_none().then_some(handle), format: format.is_none().then_some(shared) }
}

impl Logging {
    /// Takes over what the config file says; what it does not say any more is as if it never had.
    pub(crate) fn apply(&self, settings: LogSettings) {
        if let Some(handle) = &self.level {
            let filter = settings.level.map_or(self.default_level, filter);
            // Fails only when the subscriber is gone, and then nobody reads logs.
            let _ = handle.reload(targets(filter));
        }
        if let Some(shared) = &self.format {
            let format = settings.format.unwrap_or(LogFormat::Runner);
            shared.store(format as u8, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// Our own lines at `level`; libraries only when something is wrong with them. Why the process ends
/// is said at every level.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It logs every refused request as an error, and an exec into a container that does not run
        // yet is refused many times.
        .with_target("kube_client", LevelFilter::OFF)
        // The beginning of the names of all our crates.
        .with_target("gantry", level)
        .with_target(FATAL, LevelFilter::ERROR)
}

/// What is shown at a level. Why the process ends is shown at each.
pub(crate) fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Fatal | LogLevel::Panic => LevelFilter::OFF,
    }
}

struct Lines {
    format: std::sync::Arc<std::sync::atomic::AtomicU8>,
    /// Of lines for people. The reference writes escape sequences into files and collectors too,
    /// where they are in everybody's way.
    style: Style,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = spans::fields_of(context, event);
        fields.redact();
        fields.list.sort();
        let level = Word::of(event);
        match self.format.load(std::sync::atomic::Ordering::Relaxed) {
            format if format == LogFormat::Json as u8 => json(&mut writer, level, &fields),
            format if format == LogFormat::Text as u8 => text(&mut writer, level, &fields),
            _ => runner(&mut writer, level, &fields, self.style),
        }
    }
}

#[derive(Default)]
struct Fields {
    /// The job that the line is about.
    job: Option<i64>,
    message: String,
    list: Vec<(&'static str, Value)>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Value {
    text: String,
    /// A number, `true` or `false`, which JSON writes without quotes.
    is_literal: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record_literal(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record_literal(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record_literal(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "job" {
            self.job = Some(value);
        }
        self.record_literal(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format!("{value:?}"));
    }
}

impl Fields {
    /// Takes out what no log may show, before anything is quoted.
    fn redact(&mut self) {
        let texts = self.list.iter_mut().map(|(_, value)| &mut value.text).chain([&mut self.message]);
        for text in texts {
            if let std::borrow::Cow::Owned(redacted) = gantry_daemon::redact(self.job, text) {
                *text = redacted;
            }
        }
    }

    fn record(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.set(field.name(), Value { text: value, is_literal: false });
        }
    }

    fn record_literal(&mut self, field: &Field, value: impl fmt::Display) {
        self.set(field.name(), Value { text: value.to_string(), is_literal: true });
    }

    /// A field is said once, with the value that came last.
    fn set(&mut self, name: &'static str, value: Value) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.list.push((name, value)),
        }
    }

    /// Takes what another one has.
    fn add(&mut self, other: &Self) {
        self.job = other.job.or(self.job);
        for (name, value) in &other.list {
            self.set(name, value.clone());
        }
    }
}

/// A level by its word in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(&'static str);

impl Word {
    fn of(event: &Event<'_>) -> Self {
        Self(match *event.metadata().level() {
            Level::ERROR if event.metadata().target() == FATAL => "fatal",
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        })
    }
}

fn runner(out: &mut Writer<'_>, Word(level): Word, fields: &Fields, style: Style) -> fmt::Result {
    let (colour, prefix) = match level {
        "fatal" => ("\x1b[31;1m", "FATAL: "),
        "error" => ("\x1b[31;1m", "ERROR: "),
        "warning" => ("\x1b[0;33m", "WARNING: "),
        "info" => ("", ""),
        _ => ("\x1b[37;1m", ""),
    };
    let (colour, reset) = match style {
        Style::Colours => (colour, "\x1b[0;m"),
        Style::Plain => ("", ""),
    };
    let is_alone = fields.list.is_empty() && style == Style::Plain;
    let width = if is_alone { 0 } else { MESSAGE_WIDTH.saturating_sub(prefix.len()) };
    write!(out, "{colour}{prefix}{:<width$}{reset}", fields.message)?;
    if !is_alone {
        out.write_char(' ')?;
    }
    for (key, value) in &fields.list {
        write!(out, " {colour}{key}{reset}={}", value.text)?;
    }
    out.write_char('\n')
}

fn text(out: &mut Writer<'_>, Word(level): Word, fields: &Fields) -> fmt::Result {
    write!(out, "time={:?} level={level} msg={:?}", now(), fields.message)?;
    for (key, Value { text: value, .. }) in &fields.list {
        let is_plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "-._/@^+:".contains(c));
        if is_plain { write!(out, " {key}={value}")? } else { write!(out, " {key}={value:?}")? }
    }
    out.write_char('\n')
}

fn json(out: &mut Writer<'_>, Word(level): Word, fields: &Fields) -> fmt::Result {
    let value = |value: &Value| {
        // What was redacted is a text again.
        let literal = value.is_literal.then(|| serde_json::from_str(&value.text).ok()).flatten();
        literal.unwrap_or_else(|| serde_json::Value::from(value.text.as_str()))
    };
    let mut object: BTreeMap<&str, serde_json::Value> =
        fields.list.iter().map(|(key, of_key)| (*key, value(of_key))).collect();
    let own = [("level", level), ("msg", &fields.message), ("time", &now())].map(|(key, text)| (key, text.into()));
    object.extend(own);
    writeln!(out, "{}", serde_json::to_string(&object).map_err(|_| fmt::Error)?)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicU8;
    use std::sync::{Arc, Mutex};

    use gantry_core::Secret;

    use super::*;

    #[test]
    fn the_level_is_that_of_all_our_crates_and_libraries_are_quiet() {
        let targets = targets(LevelFilter::DEBUG);
        for ours in ["gantry::commands::run", "gantry_daemon::app", "gantry_storage::s3", "gantry_secrets"] {
            assert!(targets.would_enable(ours, &tracing::Level::DEBUG), "{ours}");
        }
        assert!(!targets.would_enable("hyper::proto", &tracing::Level::INFO));
        assert!(!targets.would_enable("kube_client::client", &tracing::Level::ERROR));
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Every way in which a value can get into a line.
    fn say(value: &str) {
        let error = io::Error::other(format!("the API server says: {value:?} is not allowed"));
        tracing::info!(job = 7_000_000_007_i64, "Job failed: {value}");
        tracing::warn!(job = 7_000_000_007_i64, %error, ?value, value, "pod");
        tracing::error!(error = &error as &dyn std::error::Error, "a line that names no job");
        tracing::info!(job = Some(7_000_000_007_i64), "{:?}", vec![Some(value)]);
        tracing::info_span!("work", value, ?value).in_scope(|| tracing::info!(target: "some_library", "{error}"));
        tracing::info!(URL = format!("https://user:{}@gitlab.example.com/", value.replace(['\n', '"', ' '], "")), "x");
    }

    /// The lines that are written while something runs.
    fn written(format: LogFormat, run: impl FnOnce()) -> String {
        styled(format, Style::Plain, run)
    }

    fn styled(format: LogFormat, style: Style, run: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .event_format(Lines { format: Arc::new(AtomicU8::new(format as u8)), style });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(spans::SpanFields).with(lines), run);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn numbers_are_numbers_in_json() {
        let line = written(LogFormat::Json, || {
            let (job, runners, share) = (98_765_i64, 3_usize, 0.5_f64);
            tracing::info!(job, runners, share, is_new = true, code = "404", status = %404, "Configuration loaded");
        });
        let mut object: serde_json::Value = serde_json::from_str(&line).unwrap();
        object["time"].take();
        let expected = serde_json::json!({"level": "info", "msg": "Configuration loaded", "time": null,
            "job": 98765, "runners": 3, "share": 0.5, "is_new": true, "code": "404", "status": "404"});
        assert_eq!(object, expected);
        let text = written(LogFormat::Text, || tracing::info!(job = 7_i64, is_new = false, "x"));
        assert!(text.ends_with("is_new=false job=7\n"), "{text}");
    }

    #[test]
    fn lines_for_people_have_colours_where_somebody_looks() {
        let say = || {
            tracing::warn!(job = 7_i64, "late");
            tracing::info!("done");
        };
        let coloured = styled(LogFormat::Runner, Style::Colours, say);
        let padded = |text: &str, width: usize| format!("{text:<width$}");
        let expected = format!(
            "\x1b[0;33mWARNING: {}\x1b[0;m  \x1b[0;33mjob\x1b[0;m=7\n{}\x1b[0;m \n",
            padded("late", 41),
            padded("done", 50)
        );
        assert_eq!(coloured, expected);
        let plain = styled(LogFormat::Runner, Style::Plain, say);
        assert_eq!(plain, format!("WARNING: {}  job=7\ndone\n", padded("late", 41)));
    }

    /// What is said while a job is worked on names the job, also where its number was not known at
    /// first.
    #[test]
    fn a_line_has_the_fields_of_its_spans() {
        let text = written(LogFormat::Json, || {
            let span = tracing::error_span!("job", job = tracing::field::Empty, project = 3, runner = "abc");
            span.in_scope(|| {
                tracing::info!("found");
                span.record("job", 7_i64);
                tracing::warn!(project = 4, "closer");
            });
            tracing::info!("outside");
        });
        let seen: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shown = |line: usize| ["job", "project", "runner"].map(|key| seen[line][key].to_string());
        assert_eq!(
            [shown(0), shown(1), shown(2)],
            [["null", "3", "\"abc\""], ["7", "4", "\"abc\""], ["null", "null", "null"]]
        );
    }

    #[test]
    fn no_line_shows_a_secret() {
        let canaries = ["registry.test/canary-one:latest", "ca\"nary two", "cana\nry three", "läng\\canary"];
        let secrets = canaries.map(Secret::new);
        let _guard = gantry_daemon::guard(Some(7_000_000_007), &secrets);
        for format in [LogFormat::Runner, LogFormat::Text, LogFormat::Json] {
            let text = written(format, || canaries.iter().for_each(|canary| say(canary)));
            assert!(text.matches("[MASKED]").count() >= canaries.len() * 6, "{text}");
            for part in ["canary", "ca\\\"nary", "cana", "nary", "ry three", "user:"] {
                assert!(!text.contains(part), "{part} in {format:?}:\n{text}");
            }
        }
    }
}
