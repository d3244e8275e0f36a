//! What several commands make of arguments, and say of this program.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// When this program was built, as far as that is the same for everybody who builds it: what
/// `SOURCE_DATE_EPOCH` said then, else the date of the commit (`build.rs`). Empty where there was
/// neither.
pub(crate) fn built_at() -> String {
    let seconds = option_env!("GANTRY_BUILT").and_then(|seconds| seconds.parse().ok());
    let built = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    built.map(|built| built.to_string()).unwrap_or_default()
}

/// Booleans of the environment, where a set but empty variable means yes (GitLab Runner 19.4).
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    if text.is_empty() {
        return Ok(true);
    }
    gantry_core::feature_flags::parse_bool(text).ok_or_else(|| "write true or false".to_owned())
}

/// Paths, where a set but empty variable is no mistake, as in the reference.
pub(crate) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}
