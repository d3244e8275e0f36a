//! Job variables and their expansion, by the rules of Go's `os.Expand` as GitLab Runner 19.4
//! applies them (`common/spec/variables.go`): one pass, no recursion, the last definition of a name
//! wins.

use serde::Deserialize;

use crate::lenient::or_default;
use crate::secret::Secret;

/// One variable of a job, of a service, or made by the runner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Variable {
    /// Its name.
    #[serde(default, deserialize_with = "or_default")]
    pub key: String,
    /// Its value, before expansion. Any variable may hold a secret, marked or not.
    #[serde(default, deserialize_with = "or_default")]
    pub value: Secret,
    /// Also given to service containers and to the pod's environment.
    #[serde(default, deserialize_with = "or_default")]
    pub public: bool,
    /// The value goes to a file, the variable holds the path.
    #[serde(default, deserialize_with = "or_default")]
    pub file: bool,
    /// The value is replaced in the job log.
    #[serde(default, deserialize_with = "or_default")]
    pub masked: bool,
    /// Never expanded.
    #[serde(default, deserialize_with = "or_default")]
    pub raw: bool,
    /// Made by the runner and safe in the pod's environment although not public. Never taken from
    /// the network.
    #[serde(skip)]
    pub internal: bool,
}

impl Variable {
    /// A variable that the runner makes: public, internal, and taken literally.
    pub fn made(key: impl Into<String>, value: impl Into<Secret>) -> Self {
        Self { key: key.into(), value: value.into(), public: true, internal: true, raw: true, ..Self::default() }
    }

    /// The same, but written to a file.
    #[must_use]
    pub fn into_file(self) -> Self {
        Self { file: true, ..self }
    }
}

/// An ordered list of variables in which the last definition of a name wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    list: Vec<Variable>,
    /// Directory of the files of file variables, without a trailing slash.
    file_dir: String,
}

impl Variables {
    /// A list whose file variables live in `file_dir`.
    pub fn new(list: Vec<Variable>, file_dir: impl Into<String>) -> Self {
        Self { list, file_dir: file_dir.into() }
    }

    /// All definitions in order, duplicates included.
    pub fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.list.iter()
    }

    /// Adds a definition at the end.
    pub fn push(&mut self, variable: Variable) {
        self.list.push(variable);
    }

    /// The last definition of `key`.
    pub fn find(&self, key: &str) -> Option<&Variable> {
        self.list.iter().rev().find(|variable| variable.key == key)
    }

    /// The content of the last definition of `key`, unexpanded; for file variables the content too,
    /// not the path. Settings of the runner that jobs make by variables (`GIT_STRATEGY`, …) are
    /// read this way.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|variable| variable.value.expose())
    }

    /// Expands `text` against this list. A reference to a file variable yields its path.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| {
            self.find(name).map(
                |variable| {
                    if variable.file { self.file_path(name) } else { variable.value.expose().to_owned() }
                },
            )
        })
    }

    /// Where the content of file variable `key` is written.
    pub fn file_path(&self, key: &str) -> String {
        format!("{}/{key}", self.file_dir)
    }

    /// The value of `variable` after expansion; raw ones are returned as they are.
    pub fn value_of(&self, variable: &Variable) -> Secret {
        if variable.raw { variable.value.clone() } else { Secret::new(self.expand(variable.value.expose())) }
    }

    /// Every definition with its value expanded once, in order.
    pub fn expanded(&self) -> Vec<Variable> {
        self.list.iter().map(|variable| Variable { value: self.value_of(variable), ..variable.clone() }).collect()
    }
}

/// Replaces `$NAME` and `${NAME}` in `text` by what `lookup` finds; unknown names vanish, `$$` is a
/// dollar sign.
///
/// `${…}` takes everything up to the brace as the name, so shell forms such as `${A:-b}` look up a
/// variable of that odd name and vanish.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match reference(rest) {
            Reference::Dollar => out.push('$'),
            Reference::Eaten(len) => rest = &rest[len..],
            Reference::Name(name, len) => {
                if name == "$" {
                    out.push('$');
                } else if !is_special(name) {
                    out.push_str(&lookup(name).unwrap_or_default());
                }
                rest = &rest[len..];
            }
        }
    }
    out.push_str(rest);
    out
}

enum Reference<'a> {
    /// Not a reference: the dollar sign stays.
    Dollar,
    /// Bad syntax that vanishes together with this many bytes after the dollar sign.
    Eaten(usize),
    /// A name and the number of bytes after the dollar sign that it takes.
    Name(&'a str, usize),
}

fn reference(rest: &str) -> Reference<'_> {
    let Some(first) = rest.chars().next() else { return Reference::Dollar };
    if first == '{' {
        return match rest.find('}') {
            None => Reference::Eaten(1),
            Some(1) => Reference::Eaten(2),
            Some(end) => Reference::Name(&rest[1..end], end + 1),
        };
    }
    if is_special(&rest[..first.len_utf8()]) || first == '-' {
        return Reference::Name(&rest[..1], 1);
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    if end == 0 { Reference::Dollar } else { Reference::Name(&rest[..end], end) }
}

/// One-character names with a meaning in shells, which are not variables of a job.
fn is_special(name: &str) -> bool {
    matches!(name.as_bytes(), [b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'0'..=b'9'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(key: &str, value: &str) -> Variable {
        Variable { key: key.into(), value: value.into(), ..Variable::default() }
    }

    fn sample() -> Variables {
        let file = Variable { file: true, ..variable("file_var", "content") };
        Variables::new(vec![variable("public", "earlier"), file, variable("public", "v_$undefined")], "/foo/bar")
    }

    #[test]
    fn expands_one_level_by_the_rules_of_go() {
        for (text, expected) in [
            ("value_of_$public", "value_of_v_$undefined"),
            ("$$", "$"),
            ("$/dsa", "$/dsa"),
            ("aa$@bb", "aabb"),
            ("aa${@}bb", "aabb"),
            ("${file_var}.txt", "/foo/bar/file_var.txt"),
            ("$1abc", "abc"),
            ("a$", "a$"),
            ("${}x", "x"),
            ("${unterminated", "unterminated"),
            ("${VAR:-x}y", "y"),
            ("$publicx-$public", "-v_$undefined"),
            ("ü$ü", "ü$ü"),
        ] {
            assert_eq!(sample().expand(text), expected, "{text}");
        }
    }

    #[test]
    fn raw_values_stay() {
        let raw = Variable { raw: true, ..variable("A", "$public") };
        assert_eq!(sample().value_of(&raw).expose(), "$public");
    }
}
