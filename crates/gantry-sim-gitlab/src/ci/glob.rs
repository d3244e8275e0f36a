//! Patterns of `rules:changes` and `rules:exists`, as Ruby's `File.fnmatch` reads them with
//! `FNM_PATHNAME`, `FNM_DOTMATCH` and `FNM_EXTGLOB`: `*` stays within one part of a path, `**/` is
//! any number of parts, and a `**` at the end is no more than a `*`.

/// How many patterns the alternatives of one may make; with more it counts as one that matches, as
/// GitLab lets patterns match beyond its own limits.
const MAX_ALTERNATIVES: usize = 1_000;

/// One pattern.
#[derive(Clone, Debug)]
pub(super) enum Glob {
    /// With its `{a,b}` written out, part by part.
    Patterns(Vec<Vec<Part>>),
    /// It has too many alternatives.
    Anything,
}

/// What stands between two slashes of a pattern.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// `**` before a slash: any number of parts.
    AnyDepth,
    /// Without a special character.
    Plain(String),
    Special(Vec<char>),
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Self {
        let mut patterns = Vec::new();
        if alternatives(pattern, &mut patterns) {
            Self::Patterns(patterns.iter().map(|pattern| parts(pattern)).collect())
        } else {
            Self::Anything
        }
    }

    /// Whether it stands for this path.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Patterns(patterns) => {
                let path: Vec<&str> = path.split('/').collect();
                patterns.iter().any(|pattern| path_matches(pattern, &path))
            }
            Self::Anything => true,
        }
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = pattern
        .split('/')
        .map(|part| match part {
            "**" => Part::AnyDepth,
            _ if part.contains(['*', '?', '[', '\\']) => Part::Special(part.chars().collect()),
            _ => Part::Plain(part.to_owned()),
        })
        .collect();
    // Behind the last slash it is nothing special.
    if let Some(last @ Part::AnyDepth) = parts.last_mut() {
        *last = Part::Special(vec!['*']);
    }
    parts
}

/// Writes out the first `{…}` of a pattern and then the rest; `false` if there are too many.
fn alternatives(pattern: &str, out: &mut Vec<String>) -> bool {
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        if out.len() + open.len() >= MAX_ALTERNATIVES {
            return false;
        }
        match braces(&pattern) {
            None => out.push(pattern),
            Some((before, choices, after)) => {
                open.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
        }
    }
    true
}

/// What stands before, in and behind the first braces that are closed.
fn braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (mut depth, mut start, mut part, mut choices) = (0_usize, 0, 0, Vec::new());
    let mut escaped = false;
    for (index, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => {
                depth += 1;
                if depth == 1 {
                    (start, part) = (index, index + 1);
                }
            }
            ',' if depth == 1 => {
                choices.push(pattern.get(part..index)?);
                part = index + 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    choices.push(pattern.get(part..index)?);
                    return Some((pattern.get(..start)?, choices, pattern.get(index + 1..)?));
                }
            }
            _ => {}
        }
    }
    None
}

fn path_matches(pattern: &[Part], path: &[&str]) -> bool {
    let (mut p, mut s) = (0, 0);
    // Where to begin again behind the last `**/`: the pattern's part, and the path's next one.
    let mut again: Option<(usize, usize)> = None;
    loop {
        while matches!(pattern.get(p), Some(Part::AnyDepth)) {
            p += 1;
            again = Some((p, s));
        }
        match (pattern.get(p), path.get(s)) {
            (None, None) => return true,
            (Some(wanted), Some(part)) if part_matches(wanted, part) => (p, s) = (p + 1, s + 1),
            _ => match again {
                Some((from, at)) if at + 1 < path.len() => {
                    (p, s) = (from, at + 1);
                    again = Some((from, at + 1));
                }
                _ => return false,
            },
        }
    }
}

/// One part of a path against one part of a pattern.
fn part_matches(pattern: &Part, part: &str) -> bool {
    let pattern = match pattern {
        Part::Plain(text) => return text == part,
        Part::AnyDepth => return true,
        Part::Special(pattern) => pattern,
    };
    let part: Vec<char> = part.chars().collect();
    let (mut p, mut s) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            again = Some((p, s));
            continue;
        }
        let next = part.get(s).and_then(|c| one_matches(pattern.get(p..).unwrap_or_default(), *c));
        match (next, again) {
            _ if p == pattern.len() && s == part.len() => return true,
            (Some(width), _) => (p, s) = (p + width, s + 1),
            (None, Some((from, at))) if at < part.len() => {
                (p, s) = (from, at + 1);
                again = Some((from, at + 1));
            }
            _ => return false,
        }
    }
}

/// How much of the pattern stands for this character; `None` if it does not.
fn one_matches(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', rest @ ..] => set_matches(rest, c).map(|width| width + 1),
        ['\\', literal, ..] => (*literal == c).then_some(2),
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

/// The same for the inside of `[…]`, up to and with the closing bracket.
fn set_matches(set: &[char], c: char) -> Option<usize> {
    let negated = matches!(set.first(), Some('!' | '^'));
    let mut at = usize::from(negated);
    let mut found = false;
    let literal = |at: &mut usize| {
        *at += usize::from(set.get(*at) == Some(&'\\'));
        let literal = set.get(*at).copied();
        *at += 1;
        literal
    };
    while *set.get(at)? != ']' {
        let low = literal(&mut at)?;
        let is_range = set.get(at) == Some(&'-') && set.get(at + 1).is_some_and(|end| *end != ']');
        let high = if is_range {
            at += 1;
            literal(&mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
    (found != negated).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against Ruby's documentation of `File.fnmatch`.
    #[test]
    fn patterns_match_as_in_ruby() {
        let cases = [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("*", ".hidden", true),
            ("**/*.md", "README.md", true),
            ("**/*.md", "a/b/README.md", true),
            ("docs/**/*", "docs/a/b", true),
            ("docs/**/*", "docs/a", true),
            ("docs/**/*", "docs", false),
            ("docs/**", "docs/a", true),
            ("docs/**", "docs/a/b", false),
            ("**", "a/b", false),
            ("a/**/b/**/c", "a/b/x/b/c", true),
            ("a/**/b/c", "a/b/b/d", false),
            ("**.rs", "a.rs", true),
            ("**.rs", "a/b.rs", false),
            ("src/*/x", "src/a/x", true),
            ("src/*/x", "src/a/b/x", false),
            ("*.{rb,py}", "a.py", true),
            ("*.{rb,py}", "a.sh", false),
            ("{a,b{c,d}}/e", "bd/e", true),
            ("{a,}b", "b", true),
            ("a{b", "a{b", true),
            ("\\{a,b\\}", "{a,b}", true),
            ("file?", "file1", true),
            ("file?", "file", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]x", "bx", true),
            ("[a", "[a", false),
            ("[]a]", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("Dockerfile", "Dockerfile", true),
            ("./Dockerfile", "Dockerfile", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("ü*", "über", true),
            ("dir/", "dir/", true),
            ("dir/", "dir", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_great_many_alternatives_cost_no_more_than_a_moment() {
        assert!(matches!(Glob::new(&"{a,b}".repeat(40)), Glob::Anything));
        assert!(matches!(Glob::new(&"{".repeat(10_000)), Glob::Patterns(_)));
        assert!(!Glob::new(&"a*".repeat(500)).matches(&"a".repeat(499)));
        assert!(!Glob::new(&"**/a/".repeat(50)).matches(&"a/b/".repeat(500)));
    }
}
