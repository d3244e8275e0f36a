//! A job's log as its reader sees it. Written from GitLab's description of timestamped logs,
//! without the product's own code.

/// Bytes before the text of a stamped line: `2026-01-02T03:04:05.678901Z 01O ` or with `+` as the
/// last one.
const STAMP: usize = 32;

/// The text of a log: without time stamps, section markers and colours; continued entries are
/// joined.
pub fn text(raw: &[u8]) -> String {
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let body = raw.strip_suffix(b"\n").unwrap_or(raw);
    for line in body.split(|byte| *byte == b'\n') {
        let (stream, continues, text) = match stamped(line) {
            Some((stream, continues, text)) => (stream, continues, text),
            None => (&b""[..], false, line),
        };
        let open = lines.iter().rposition(|(other, _)| other == stream).filter(|_| continues);
        match open {
            // A marker has no place of its own: what continues it is where it comes.
            Some(at) if plain(&String::from_utf8_lossy(&lines[at].1)).is_empty() => {
                lines.remove(at);
                lines.push((stream.to_vec(), text.to_vec()));
            }
            Some(at) => lines[at].1.extend_from_slice(text),
            None => lines.push((stream.to_vec(), text.to_vec())),
        }
    }
    let lines: Vec<String> = lines.iter().map(|(_, text)| plain(&String::from_utf8_lossy(text))).collect();
    lines.join("\n")
}

/// The time stamp of the first stamped line with `text`, as it is written.
pub fn stamp_of(raw: &[u8], text: &str) -> Option<String> {
    let raw = String::from_utf8_lossy(raw);
    let line = raw.lines().find(|line| line.contains(text) && stamped(line.as_bytes()).is_some())?;
    line.get(..27).map(str::to_owned)
}

/// Stream, whether the entry continues the one before, and text of a stamped line.
fn stamped(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (stamp, text) = line.split_at_checked(STAMP)?;
    let is_stamp = stamp[4] == b'-' && stamp[10] == b'T' && stamp[26] == b'Z' && matches!(stamp[30], b'O' | b'E');
    let is_stamp = is_stamp && stamp[..4].iter().all(u8::is_ascii_digit) && matches!(stamp[31], b' ' | b'+');
    is_stamp.then(|| (&stamp[28..31], stamp[31] == b'+', text))
}

/// Drops section markers and colours of a line.
fn plain(line: &str) -> String {
    let mut rest = line;
    let mut out = String::new();
    loop {
        let marker = ["section_start:", "section_end:"].iter().filter_map(|word| rest.find(word)).min();
        let colour = rest.find('\x1b');
        match (marker, colour) {
            (Some(at), colour) if colour.is_none_or(|other| at < other) => {
                out.push_str(&rest[..at]);
                rest = match rest[at..].split_once('\r') {
                    Some((_, after)) => after,
                    None => "",
                };
            }
            (_, Some(at)) => {
                out.push_str(&rest[..at]);
                let code = &rest[at + 1..];
                let end = code.find(|c: char| c.is_ascii_alphabetic());
                rest = match end {
                    Some(end) if code.starts_with('[') => &code[end + 1..],
                    _ => code,
                };
            }
            _ => {
                out.push_str(rest);
                return out;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn stamps_markers_and_colours_go() {
        let raw = b"2026-01-02T03:04:05.678901Z 00O section_start:1:prepare\r\x1b[0K\n\
            2026-01-02T03:04:05.678901Z 00O+\x1b[36;1mTitle\x1b[0;m\n\
            2026-01-02T03:04:05.678901Z 01O a\r\n\
            2026-01-02T03:04:05.678901Z 01E err\n\
            2026-01-02T03:04:05.678901Z 01O+b\n\
            plain\n";
        assert_eq!(text(raw), "Title\na\rb\nerr\nplain");
    }
}
