//! `config.toml` as checked, typed settings, or the complete list of what is wrong.
//!
//! Pure: text in, settings or problems out; nothing here opens a file, reads the environment or
//! knows a clock. Start at [`load`]; the types are in [`settings`], each key declared once
//! (`declare.rs`), and [`key`] is what is known of them; [`edit`] changes a file's text and keeps
//! its comments.

use toml::de::DeTable;

mod declare;
pub mod edit;
mod homes;
pub mod key;
mod keys;
mod kinds;
mod known;
pub mod names;
mod nearest;
pub mod periods;
pub mod pod_patch;
pub mod problem;
mod problems;
mod report;
pub mod schema;
mod section;
pub mod settings;
mod words;

pub use gantry_core::quantity::{self, Quantity};
pub use key::Key;
pub use keys::keys;
pub use nearest::nearest;
pub use problem::{Problem, Severity, UnusableRunner};
pub use problems::Problems;
pub use settings::{KubernetesSettings, Loaded, RunnerSettings, Settings};

use declare::Table as _;
use report::Report;
use section::Section;
use settings::LogSettings;

/// Reads and checks the text of a `config.toml`. `env` answers for `$VAR` in `url` and `token` of
/// runners, the only two expanded keys.
///
/// Keys are found whatever their case. Unknown keys, and known ones that do nothing yet, are
/// warnings. What is wrong in a `[[runners]]` entry makes that entry unusable, and no other.
///
/// # Errors
/// An invalid value outside of the entries. Then every invalid value of the file is listed, not
/// only the first. Where the text is not TOML, what the parser says about it.
pub fn load(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let report = Report::new(text, env);
    for error in &errors {
        let span = error.span().unwrap_or_default();
        report.add(Severity::Error, span.start, "", about(error.message(), text.get(span).unwrap_or_default()));
    }
    if !errors.is_empty() {
        // What was understood of a broken text would only add follow-up errors.
        return Err(Problems { list: report.into_parts().0, log: LogSettings::default() });
    }
    let settings = Settings::read(&Section::new(&report, Some(document.get_ref()), String::new(), 0));
    known::report(&report, document.get_ref());
    let (mut list, unusable) = report.into_parts();
    if list.iter().any(|problem| problem.severity == Severity::Error) {
        list.extend(unusable.into_iter().flat_map(|entry| entry.errors));
        return Err(Problems { list: report::sorted(list), log: settings.log });
    }
    Ok(Loaded { settings, unusable, warnings: list })
}

/// A parser's message about a part of the text, which is shown only where it is a key.
fn about(message: &str, part: &str) -> String {
    let message = one_line(message);
    let is_key = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c));
    let is_named = message == "duplicate key" && !part.is_empty() && is_key(part);
    if is_named { format!("{message}: {part} stands there twice") } else { message }
}

/// A parser's message as a fragment that fits in a line.
fn one_line(message: &str) -> String {
    let text = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "is not TOML".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
