//! Texts as a terminal shows them: in colours or without, and no wider than they may be.

use crate::style::Style;

impl Style {
    /// The text in a colour.
    pub(crate) fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("{colour}{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    /// A line of a log as it may be shown: plain output has no escape sequences, and of a line that
    /// was written over only what was left.
    pub(crate) fn line(self, line: &str) -> String {
        match self {
            Self::Colours => line.to_owned(),
            Self::Plain => plain(line),
        }
    }
}

/// A text in at most `width` columns: of a longer one its beginning and its end, where instances of
/// one job differ.
pub(crate) fn elided(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (front, back) = (kept.div_ceil(2), kept / 2);
    let begin: String = text.chars().take(front).collect();
    let end: String = text.chars().skip(length - back).collect();
    format!("{begin}…{end}")
}

/// Takes the escape sequences of terminals out of a line (ECMA-48: CSI, OSC and the short ones),
/// and what carriage returns wrote over.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                Some('(' | ')' | '#' | '%') => drop(chars.next()),
                _ => {}
            },
            '\r' => out.clear(),
            '\t' => out.push('\t'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_have_no_escape_sequences() {
        for (line, shown) in [
            ("\x1b[32;1m$ make\x1b[0;m", "$ make"),
            ("\x1b[0Ktext", "text"),
            ("10%\r50%\r100%\r", "100%"),
            ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
            ("\x1b(Ba\tb\x08\x1b", "a\tb"),
            ("\x1b[3", ""),
            ("ä€", "ä€"),
        ] {
            assert_eq!(Style::Plain.line(line), shown, "{line:?}");
        }
        assert_eq!(Style::Colours.line("\x1b[1mx"), "\x1b[1mx");
    }
}
