//! What GitLab's YAML parser lets pass and ours does not.
//!
//! libyaml, which GitLab reads files with, ignores indentation inside `[…]`, `{…}` and quotes; the
//! parser here wants their lines deeper than the key they belong to. It also wants no tab behind
//! `key:`, and a blank before a comment. So when it stops at one of these, blanks are put in or in
//! place of it, where they mean nothing in YAML, and reading begins anew. Lines keep their numbers.

/// How many bytes may be read again in all: a file of ordinary size may be as untidy as it likes,
/// and a hostile one costs no more than a moment.
const MAX_READ_AGAIN: usize = 16 << 20;

/// Where the parser stopped, in characters from the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped {
    /// The outermost open `[` or `{`, else the end of what was understood.
    pub(super) after: usize,
    pub(super) at: usize,
}

/// What is left of [`MAX_READ_AGAIN`].
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_READ_AGAIN)
    }

    /// The text without what the parser stopped at; `None` if that is none of the things that
    /// GitLab lets pass.
    pub(super) fn repair(&mut self, text: &str, stopped: Stopped) -> Option<String> {
        self.0 = self.0.checked_sub(text.len())?;
        let bytes = text.as_bytes();
        let (after, stopped_at) = (byte_index(text, stopped.after)?, byte_index(text, stopped.at)?);
        let (before, behind) = text.split_at_checked(stopped_at)?;
        let key = before.trim_end_matches(['\t', ' ']);
        if key.ends_with(':') && before.ends_with('\t') {
            return Some(format!("{key}{:width$}{behind}", "", width = before.len() - key.len()));
        }
        if behind.starts_with('#') && !is_blank(before.as_bytes().last()) {
            return Some(format!("{before} {behind}"));
        }
        let start = opening(bytes, after)?;
        let end = match bytes.get(start)? {
            b'[' | b'{' => end_of_flow(bytes, start)?,
            quote => end_of_quotes(bytes, start, *quote)?,
        };
        if !(start..=end).contains(&stopped_at) {
            return None;
        }
        let line = text.get(..start)?.rsplit('\n').next()?;
        indented(text, start, end, line.chars().count() + 1, self.0)
    }
}

/// The text with every line that begins between `start` and `end` indented to `wanted`.
fn indented(text: &str, start: usize, end: usize, wanted: usize, limit: usize) -> Option<String> {
    let mut out = text.get(..start)?.to_owned();
    let mut changed = false;
    for (number, line) in text.get(start..=end)?.split_inclusive('\n').enumerate() {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        if number > 0 && blanks < wanted {
            changed = true;
            out.extend(std::iter::repeat_n(' ', wanted - blanks));
            if out.len() > limit {
                return None;
            }
        }
        out.push_str(line);
    }
    out.push_str(text.get(end + 1..)?);
    changed.then_some(out)
}

fn byte_index(text: &str, characters: usize) -> Option<usize> {
    if characters == 0 {
        return Some(0);
    }
    text.char_indices().nth(characters).map(|(index, _)| index).or_else(|| {
        let at_end = text.chars().count() == characters;
        at_end.then_some(text.len())
    })
}

/// The first bracket or quote that begins a value.
fn opening(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at = match *bytes.get(at)? {
            b'[' | b'{' | b'"' | b'\'' => return Some(at),
            b'#' => end_of_line(bytes, at),
            b'&' | b'!' => end_of_word(bytes, at),
            b' ' | b'\t' | b'\r' | b'\n' | b':' | b'-' | b'?' | b',' => at + 1,
            _ => end_of_text(bytes, at),
        };
    }
}

/// The bracket that closes the one at `start`.
fn end_of_flow(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    // Quotes, anchors and tags are only such where a value begins; inside of unquoted text they are
    // text.
    let mut begins = true;
    loop {
        let byte = *bytes.get(at)?;
        let mut next = at + 1;
        match byte {
            b'[' | b'{' => (depth, begins) = (depth + 1, true),
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
                begins = false;
            }
            b'"' | b'\'' if begins => {
                next = end_of_quotes(bytes, at, byte)? + 1;
                begins = false;
            }
            b'&' | b'!' | b'*' if begins => next = end_of_word(bytes, at),
            b'#' if is_blank(bytes.get(at.wrapping_sub(1))) => next = end_of_line(bytes, at),
            b',' => begins = true,
            b':' => begins = begins || is_blank(bytes.get(next)) || !is_word(bytes.get(next)),
            b'-' | b'?' if begins && is_blank(bytes.get(next)) => {}
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => begins = false,
        }
        at = next;
    }
}

/// The quote that closes the one at `start`.
fn end_of_quotes(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' if quote == b'"' => at += 1,
            b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 1,
            byte if byte == quote => return Some(at),
            _ => {}
        }
        at += 1;
    }
}

/// Behind an unquoted key or line of text.
fn end_of_text(bytes: &[u8], from: usize) -> usize {
    let line = bytes.get(from..end_of_line(bytes, from)).unwrap_or_default();
    let colon = line.windows(2).position(|pair| pair.first() == Some(&b':') && is_blank(pair.last()));
    from + colon.unwrap_or(line.len()).max(1)
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// Behind an anchor, alias or tag; at least one byte further.
fn end_of_word(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from + 1..).unwrap_or_default();
    from + 1 + rest.iter().position(|byte| !is_word(Some(byte))).unwrap_or(rest.len())
}

fn is_blank(byte: Option<&u8>) -> bool {
    byte.is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn is_word(byte: Option<&u8>) -> bool {
    !is_blank(byte) && !byte.is_some_and(|byte| matches!(byte, b',' | b'[' | b']' | b'{' | b'}'))
}
