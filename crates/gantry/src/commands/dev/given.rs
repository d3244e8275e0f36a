//! Variables that somebody gives a pipeline: on the command line, and in a file that git must not
//! know.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::BadInput;
use super::args::DevArgs;
use super::git::git;

/// The file that is read by itself, beside `.gitlab-ci.yml`.
pub(crate) const OWN_FILE: &str = ".gantry-variables";

/// Shorter values are not masked: they would hide half of every log (GitLab has the same limit).
const SHORTEST_SECRET: usize = 8;

/// What a pipeline is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// The body's `variables`.
    pub(super) variables: Map<String, Value>,
    /// The body's `inputs`.
    pub(super) inputs: Map<String, Value>,
    /// What the user should know.
    pub(super) note: Option<String>,
}

impl Given {
    /// Collects them; `repository`: the user's own, if it is not the sample.
    pub(super) fn collect(args: &DevArgs, repository: Option<&Path>) -> Result<Self, BadInput> {
        let own = repository.map(|dir| dir.join(OWN_FILE)).filter(|path| path.is_file());
        let mut given = Self::default();
        if let Some(path) = args.variables_file.clone().or(own) {
            if let Some(repository) = repository {
                refuse_committed(repository, &path)?;
            }
            let shown = path.display();
            let text = std::fs::read_to_string(&path).map_err(|error| BadInput(format!("{shown}: {error}")))?;
            let read = parse(&text).map_err(|(line, what)| BadInput(format!("{shown}:{line}: {what}")))?;
            given.note = Some(format!("variables of {shown} are given to the jobs: {}", read.len()));
            given.variables.extend(read.into_iter().map(|(key, value)| {
                let masked = value.chars().count() >= SHORTEST_SECRET && !value.contains('\n');
                (key, json!({"value": value, "masked": masked}))
            }));
        }
        given.variables.extend(args.variables.iter().map(|(key, value)| (key.clone(), json!(value))));
        given.inputs.extend(args.inputs.iter().map(|(key, value)| (key.clone(), json!(value))));
        Ok(given)
    }
}

fn refuse_committed(repository: &Path, path: &Path) -> Result<(), BadInput> {
    let path: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.display().to_string();
    if path.starts_with(repository) && git(repository, &["ls-files", "--error-unmatch", "--", &name]).is_ok() {
        return Err(BadInput(format!(
            "{name} is in git, and with it what should be secret: git rm --cached it, and name it in .gitignore"
        )));
    }
    Ok(())
}

/// Lines `KEY=VALUE`; a value may stand in quotes. The error: the line and what is wrong.
fn parse(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut variables = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=').ok_or((number, "this is no line KEY=VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if key.is_empty() || !key.chars().all(is_name) {
            return Err((number, "a name has letters, digits and _"));
        }
        let quoted = |mark: char| value.strip_prefix(mark).and_then(|value| value.strip_suffix(mark));
        variables.push((key.to_owned(), quoted('"').or_else(|| quoted('\'')).unwrap_or(value).to_owned()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_variable_in_each_line() {
        let text = "# secrets\n\nTOKEN=abc=def\nexport NAME = 'two words'\nQ=\"x\"\n";
        let pairs = [("TOKEN", "abc=def"), ("NAME", "two words"), ("Q", "x")];
        assert_eq!(parse(text), Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()));
        assert_eq!(parse("A=b\nnonsense\n").map_err(|(line, _)| line), Err(2));
        assert!(parse("A B=c").is_err());
    }
}
