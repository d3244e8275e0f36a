//! `$[[ inputs.NAME | function ]]` and `$[[ component.NAME ]]`: puts values into the text of a file
//! before it is read.

use super::inputs::Values;
use super::problem::{At, Report};
use super::variables::{Lookup, expand};

/// How many functions one block may have; GitLab's limit.
const MAX_FUNCTIONS: usize = 3;

/// How long a block may be, in bytes; GitLab's limit.
const MAX_BLOCK: usize = 1 << 20;

/// What can be put into a text.
pub(super) struct InterpolationScope<'k> {
    pub(super) inputs: &'k Values,
    /// What a component knows of itself.
    pub(super) component: &'k Values,
    /// For `expand_vars`.
    pub(super) lookup: &'k Lookup,
}

/// Replaces every block; `None` if one is wrong, which is then reported. Blocks of a matrix stay:
/// they are read with the job.
pub(super) fn interpolate(
    text: &str,
    file: &str,
    known: &InterpolationScope<'_>,
    report: &mut Report,
) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut line, mut is_right) = (text, 1, true);
    while let Some((before, after)) = rest.split_once("$[[") {
        out.push_str(before);
        line += before.matches('\n').count();
        let Some((inside, tail)) = after.split_once("]]").filter(|(inside, _)| inside.len() <= MAX_BLOCK) else {
            out.push_str("$[[");
            rest = after;
            continue;
        };
        let at = At { file: file.into(), line };
        line += inside.matches('\n').count();
        rest = tail;
        if inside.trim().starts_with("matrix.") {
            out.extend(["$[[", inside, "]]"]);
            continue;
        }
        match block(inside, known, report) {
            Ok(value) => out.push_str(&value),
            Err(problem) => {
                report.problem(&at, "", &format!("`$[[{inside}]]`: {problem}"));
                is_right = false;
            }
        }
    }
    out.push_str(rest);
    is_right.then_some(out)
}

fn block(inside: &str, known: &InterpolationScope<'_>, report: &mut Report) -> Result<String, String> {
    let mut parts = inside.split('|').map(str::trim);
    let access = parts.next().unwrap_or_default();
    let mut value = match access.split_once('.') {
        Some(("inputs", name)) => known.inputs.get(name).cloned().ok_or_else(|| {
            let hint = report.hint(name, known.inputs.keys().map(String::as_str));
            format!("`spec:inputs` has no `{name}`{hint}")
        })?,
        Some(("component", name)) => known
            .component
            .get(name)
            .cloned()
            .ok_or_else(|| format!("`spec:component` does not ask for `{name}`, or this is not a component"))?,
        _ => return Err("only `inputs.NAME`, `component.NAME` and `matrix.NAME` can stand here".to_owned()),
    };
    let functions: Vec<&str> = parts.collect();
    if functions.len() > MAX_FUNCTIONS {
        return Err(format!("at most {MAX_FUNCTIONS} functions can follow each other"));
    }
    for function in functions {
        value = apply(function, &value, known.lookup)?;
    }
    Ok(value)
}

fn apply(function: &str, value: &str, lookup: &Lookup) -> Result<String, String> {
    let (name, arguments) = match function.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.strip_suffix(')')),
        None => (function, None),
    };
    match (name, arguments) {
        ("expand_vars", None) => Ok(expand(value, lookup)),
        ("posix_escape", None) => Ok(posix_escape(value)),
        ("truncate", Some(arguments)) => {
            let mut numbers = arguments.split(',').map(|number| number.trim().parse::<usize>().ok());
            match (numbers.next().flatten(), numbers.next().flatten(), numbers.next()) {
                (Some(offset), Some(length), None) => Ok(value.chars().skip(offset).take(length).collect()),
                _ => Err("`truncate` wants an offset and a length, such as truncate(0,8)".to_owned()),
            }
        }
        _ => Err(format!(
            "there is no function `{function}`; there are expand_vars, truncate(offset,length) and posix_escape"
        )),
    }
}

/// Puts a backslash before everything that a POSIX shell could read as more than itself.
fn posix_escape(value: &str) -> String {
    if value.is_empty() {
        return "''".to_owned();
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:+/@%".contains(c) || !c.is_ascii();
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '\n' => out.push_str("'\n'"),
            c if is_plain(c) => out.push(c),
            c => out.extend(['\\', c]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_values_and_what_is_wrong_is_said_with_its_line() {
        let lookup = Lookup::new(&[("NAME".to_owned(), "shop".to_owned())]);
        let inputs: Values = [("a", "x y"), ("v", "$NAME-1"), ("n", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let component = Values::new();
        let known = InterpolationScope { inputs: &inputs, component: &component, lookup: &lookup };
        let mut report = Report::default();
        let cases = [
            ("$[[ inputs.a ]]-$[[inputs.n]]", "x y-3"),
            ("$[[ inputs.v | expand_vars | truncate(0,4) ]]", "shop"),
            ("$[[ inputs.a | posix_escape ]]", "x\\ y"),
            ("$[[ matrix.A ]] $[ [", "$[[ matrix.A ]] $[ ["),
        ];
        for (text, expected) in cases {
            assert_eq!(interpolate(text, "f", &known, &mut report).as_deref(), Some(expected), "{text}");
        }
        for text in ["$[[ inputs.none ]]", "$[[ x ]]", "$[[ inputs.a | shout ]]", "$[[ inputs.a | truncate(1) ]]"] {
            assert_eq!(interpolate(&format!("\n{text}"), "f", &known, &mut report), None, "{text}");
        }
        let (problems, _) = report.finish("f");
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2; 4]);
    }
}
