//! The environment that a shell hands over at its end: a child of it, which is this very program,
//! writes down what it has got.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;

use gantry_wire::shim::SecretText;

use crate::limits::HANDED_ENVIRONMENT;

/// What shells set for themselves.
const OF_SHELLS: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];

/// An environment as it was read.
#[derive(Default)]
pub(crate) struct Handed {
    pub(crate) variables: Vec<(String, SecretText)>,
    /// Names of those whose values are no text.
    pub(crate) lost: Vec<String>,
}

/// Shell text after which `file` has the environment of the shell that runs it. Its status is 0
/// whatever happens, and it prints nothing.
pub(crate) fn command(program: &Path, file: &Path) -> String {
    let quoted = |path: &Path| quote(&path.to_string_lossy());
    format!("{{ {} environment {} || :; }} 2>/dev/null", quoted(program), quoted(file))
}

/// Quotes `text` for any POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Writes the environment of this process into `file`.
pub(crate) fn write(file: &Path) -> ExitCode {
    let mut bytes = Vec::new();
    for (key, value) in std::env::vars_os() {
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    let written = fs::OpenOptions::new().write(true).truncate(true).open(file);
    match written.and_then(|mut file| file.write_all(&bytes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads `file`; `None` if nothing was handed over.
pub(crate) fn read(file: &Path) -> io::Result<Option<Handed>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(HANDED_ENVIRONMENT).read_to_end(&mut bytes)?;
    Ok((!bytes.is_empty()).then(|| parse(&bytes)))
}

fn parse(bytes: &[u8]) -> Handed {
    let mut handed = Handed::default();
    for entry in bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let Ok(text) = str::from_utf8(entry) else {
            let key = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
            handed.lost.push(String::from_utf8_lossy(key).into_owned());
            continue;
        };
        if let Some((key, value)) = text.split_once('=').filter(|(key, _)| !OF_SHELLS.contains(key)) {
            handed.variables.push((key.to_owned(), SecretText(value.into())));
        }
    }
    handed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_anything_but_no_text() {
        let handed = parse(b"A=1\0PWD=/x\0B=x=y\nz\0C=\xff\0D=\0nonsense\0BASH_FUNC_f%%=() { :; }\0");
        let shown: Vec<_> = handed.variables.iter().map(|(key, value)| (key.as_str(), value.0.expose())).collect();
        assert_eq!(shown, [("A", "1"), ("B", "x=y\nz"), ("D", ""), ("BASH_FUNC_f%%", "() { :; }")]);
        assert_eq!(handed.lost, ["C"]);
    }
}
