//! `config.toml` as checked, typed settings, or the complete list of what is wrong.
//!
//! Pure: text in, settings or problems out; nothing here opens a file, reads the environment or
//! knows a clock. Start at [`load`]; the types are in [`settings`], each key declared once
//! (`declare.rs`), and [`key`] is what is known of them; [`edit`] changes a file's text and keeps
//! its comments.

use toml::de::DeTable;

mod declare;
pub mod edit;
mod helm;
mod homes;
pub mod key;
mod keys;
mod kinds;
mod known;
pub mod names;
mod nearest;
mod not_toml;
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

/// The text of a file, which TOML wants in UTF-8.
///
/// # Errors
/// It is in another encoding: the sentence says where that shows, and what to do.
pub fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if matches!(bytes.as_slice(), [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..]) {
        return Err("it is in UTF-16: save it as UTF-8".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = good.split(|byte| *byte == b'\n').count();
        format!("line {line} holds a character that is not in UTF-8: save the file as UTF-8")
    })
}

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
    if !errors.is_empty() {
        not_toml::report(&report, text, document.get_ref(), &errors);
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

#[cfg(test)]
mod tests;
