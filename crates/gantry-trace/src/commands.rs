//! Masks that a job adds while it runs: a line `::add-mask::value` of its output (the workflow
//! command of GitHub Actions, and of GitLab Runner's `proxy-exec`). The value is masked from there
//! on, and the line itself is not shown.
//!
//! Nothing that was emitted changes, and nothing takes a mask away. It is a line of the output, and
//! not a file, because only there is it clear what comes after it.

/// What such a line begins with.
const ADD_MASK: &[u8] = b"::add-mask::";

/// Longest value; of what is longer the beginning is masked, and the rest of the line is not shown
/// either. More than any token or key.
const LONGEST: usize = 64 * 1024;

/// Where a stream stands.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    at: ParsePosition,
}

#[derive(Default)]
enum ParsePosition {
    /// At the beginning of a line, of which so many bytes are those of a command.
    #[default]
    Start,
    Begun(usize),
    /// Inside of a line that is none.
    Line,
    /// Inside of a value.
    Value(Vec<u8>),
}

/// Never shows a value.
impl std::fmt::Debug for ParsePosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "Start",
            Self::Begun(_) => "Begun",
            Self::Line => "Line",
            Self::Value(_) => "Value",
        })
    }
}

/// A part of what was taken.
pub(crate) enum Part<'b> {
    /// Text of the job.
    Text(&'b [u8]),
    /// A value to mask from here on.
    Mask(Vec<u8>),
}

impl Commands {
    /// Takes bytes, and gives their parts in order.
    pub(crate) fn push<'b>(&mut self, bytes: &'b [u8], mut give: impl FnMut(Part<'b>)) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            match &mut self.at {
                ParsePosition::Line => {
                    let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    if end.is_some() {
                        self.at = ParsePosition::Start;
                    }
                    give(Part::Text(line));
                    rest = after;
                }
                ParsePosition::Start => self.at = ParsePosition::Begun(0),
                ParsePosition::Begun(count) if ADD_MASK.get(*count) == Some(first) => {
                    *count += 1;
                    rest = rest.get(1..).unwrap_or_default();
                    if *count == ADD_MASK.len() {
                        self.at = ParsePosition::Value(Vec::new());
                    }
                }
                ParsePosition::Begun(count) => {
                    let held = ADD_MASK.get(..*count).unwrap_or_default();
                    self.at = ParsePosition::Line;
                    if !held.is_empty() {
                        give(Part::Text(held));
                    }
                }
                ParsePosition::Value(value) => {
                    let end = rest.iter().position(|byte| *byte == b'\n');
                    let (more, after) = rest.split_at(end.unwrap_or(rest.len()));
                    let room = LONGEST.saturating_sub(value.len());
                    value.extend_from_slice(more.get(..room).unwrap_or(more));
                    rest = after;
                    if end.is_some() {
                        rest = rest.get(1..).unwrap_or_default();
                        give(Part::Mask(std::mem::take(value)));
                        self.at = ParsePosition::Start;
                    }
                }
            }
        }
    }

    /// Nothing more of the line comes.
    pub(crate) fn flush<'b>(&mut self, mut give: impl FnMut(Part<'b>)) {
        match std::mem::take(&mut self.at) {
            ParsePosition::Begun(count) => {
                let held = ADD_MASK.get(..count).unwrap_or_default();
                if !held.is_empty() {
                    self.at = ParsePosition::Line;
                    give(Part::Text(held));
                }
            }
            ParsePosition::Value(value) => give(Part::Mask(value)),
            ParsePosition::Line => self.at = ParsePosition::Line,
            ParsePosition::Start => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text and the values, however the input is cut.
    fn read(text: &str, piece: usize) -> (String, Vec<String>) {
        let (mut commands, mut out, mut values) = (Commands::default(), Vec::new(), Vec::new());
        let mut take = |part: Part<'_>| match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Mask(value) => values.push(String::from_utf8_lossy(&value).into_owned()),
        };
        for part in text.as_bytes().chunks(piece) {
            commands.push(part, &mut take);
        }
        commands.flush(&mut take);
        (String::from_utf8(out).unwrap(), values)
    }

    #[test]
    fn lines_that_add_masks_are_taken_out() {
        let text = "a\n::add-mask::one\r\n::add\n ::add-mask::no\n::add-mask::\nx ::add-mask::no\n::add-mask::two";
        for piece in 1..=text.len() {
            let (shown, values) = read(text, piece);
            assert_eq!(shown, "a\n::add\n ::add-mask::no\nx ::add-mask::no\n", "by {piece}");
            assert_eq!(values, ["one\r", "", "two"], "by {piece}");
        }
        assert_eq!(read("::add-mas", 3), ("::add-mas".to_owned(), Vec::new()));
    }

    #[test]
    fn a_value_without_end_is_bounded() {
        let (shown, values) = read(&format!("::add-mask::{}\nrest\n", "x".repeat(LONGEST + 100)), 1000);
        assert_eq!((shown.as_str(), values[0].len()), ("rest\n", LONGEST));
    }
}
