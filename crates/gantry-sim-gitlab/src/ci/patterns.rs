//! Regular expressions of a pipeline, compiled once each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use regex::Regex;

/// The largest compiled regular expression, in bytes: a short pattern with repeats can ask for
/// gigabytes.
const MAX_REGEX_BYTES: usize = 512 << 10;

/// How many different patterns one pipeline may have; with [`MAX_REGEX_BYTES`] it bounds the memory
/// they take.
const MAX_PATTERNS: usize = 200;

/// Compiled patterns by their text; copies share what they know.
#[derive(Clone, Default)]
pub(super) struct Patterns(Rc<RefCell<HashMap<String, Result<Regex, String>>>>);

impl Patterns {
    /// Compiles `/pattern/flags`; `None` if the text has not this form.
    pub(super) fn literal(&self, text: &str) -> Option<Result<Regex, String>> {
        let mut known = self.0.borrow_mut();
        if let Some(compiled) = known.get(text) {
            return Some(compiled.clone());
        }
        if known.len() >= MAX_PATTERNS {
            return Some(Err(format!("there are more than {MAX_PATTERNS} different patterns")));
        }
        let compiled = pattern_literal(text)?;
        known.insert(text.to_owned(), compiled.clone());
        Some(compiled)
    }
}

/// Compiles `/pattern/flags`; `None` if the text has not this form.
fn pattern_literal(text: &str) -> Option<Result<Regex, String>> {
    let (pattern, flags) = text.strip_prefix('/')?.rsplit_once('/')?;
    if !flags.chars().all(|flag| "ismU".contains(flag)) {
        return None;
    }
    Some(compile(pattern, flags))
}

fn compile(pattern: &str, flags: &str) -> Result<Regex, String> {
    // GitLab hands flags to RE2 as they are; this engine knows the same four with the same meaning.
    let source = if flags.is_empty() { pattern.to_owned() } else { format!("(?{flags}){pattern}") };
    regex::RegexBuilder::new(&source).size_limit(MAX_REGEX_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("/{pattern}/ is too large a regular expression"),
        _ => format!("/{pattern}/ is not a valid regular expression (RE2 syntax, no look-around)"),
    })
}
