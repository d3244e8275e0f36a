//! Words that no file of the project has. They are put together from pieces, so that this file does
//! not have them either.

/// Calls and attributes that Rust files do not have, and what to do instead.
pub(crate) const NOT_IN_RUST: [(&str, &str); 6] = [
    (concat!("#[al", "low("), "write #[expect(lint, reason = \"…\")]"),
    (concat!("#![al", "low("), "write #![expect(lint, reason = \"…\")]"),
    (concat!("to", "do!("), "finish it, or refuse with a clear sentence"),
    (concat!("unimple", "mented!("), "finish it, or refuse with a clear sentence"),
    (concat!("db", "g!("), "remove it"),
    (
        concat!("#[ig", "nore"),
        "a test that does not run is none: make it run, or let it say that it is skipped, and why",
    ),
];

/// Marks of work that is not finished, in comments of production code.
pub(crate) const UNFINISHED: [&str; 3] = [concat!("// TO", "DO"), concat!("// FIX", "ME"), concat!("// X", "XX")];

/// Paths and names of the places where people happened to work: they mean nothing to a reader. In
/// lower case.
pub(crate) const PLACES: [&str; 7] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/user"),
    concat!("artif", "actory"),
    concat!("cla", "ude"),
    concat!("anthr", "opic"),
    concat!("sub-a", "gent"),
];

/// Words that, with a number after them, refer to how the work was organised. In lower case.
pub(crate) const NUMBERED: [&str; 6] = ["issue", "issues", "session", "sessions", "helper", "milestone"];

/// Finds `word` with a number behind it: `word 2`, `word-2`, `word #2`. `line` is in lower case.
pub(crate) fn is_numbered(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_');
        let rest = &line[at + word.len()..];
        let number = rest.trim_start_matches([' ', '-', '#']);
        let gap = rest.len() - number.len();
        is_whole && (1..=2).contains(&gap) && number.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[test]
fn numbered_words_are_found() {
    for line in ["see issue 2", "issue #17", "issue-3: x", "(helper-1)", "session 4"] {
        assert!(NUMBERED.iter().any(|word| is_numbered(line, word)), "{line}");
    }
    for line in [
        "an issue of 2024",
        "the helper, 2 services",
        "gantry-helper-1",
        "issued 3 tokens",
        "helper: 12 bytes",
        "helper1",
    ] {
        assert!(!NUMBERED.iter().any(|word| is_numbered(line, word)), "{line}");
    }
}
