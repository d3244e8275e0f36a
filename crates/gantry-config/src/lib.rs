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
    let mut last = "";
    for error in &errors {
        let span = error.span().unwrap_or_default();
        let line = line_at(text, span.start);
        let hint = if line == last { None } else { help(line) };
        last = line;
        let message = about(error.message(), text.get(span.clone()).unwrap_or_default());
        report.add_with_hint(Severity::Error, span.start, "", (message, hint.map(str::to_owned)));
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

/// The line that a byte of the text is in.
fn line_at(text: &str, at: usize) -> &str {
    let (before, behind) = text.split_at_checked(at).unwrap_or((text, ""));
    let (from, to) = (before.rfind('\n').map_or(0, |end| end + 1), at + behind.find('\n').unwrap_or(behind.len()));
    text.get(from..to).unwrap_or_default()
}

/// What helps with a line that is not TOML, where that is more than the parser's words.
fn help(line: &str) -> Option<&'static str> {
    if line.contains(['“', '”', '„', '‘', '’']) {
        return Some("write plain quotes, \" or ', and not those of a word processor");
    }
    let (key, _) = line.split_once('=')?;
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-. \t".contains(c);
    let is_quoted = key.contains(['"', '\'', '[', '{', '#']);
    (!is_quoted && !key.chars().all(is_bare)).then_some(
        "put a key that holds other characters than letters, digits, - and _ in quotes: \"example.com/team\" = …",
    )
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
