//! A job's log as its reader sees it: without time stamps, continued entries joined. Written from
//! GitLab's description of stamped logs.

/// Bytes before the text of a stamped line: `2026-01-02T03:04:05.678901Z 01O ` or with `+` as the
/// last one.
const STAMP: usize = 32;

/// The text of a log. Entries of one stream that continue each other are joined where the first of
/// them is.
pub(crate) fn unstamped(raw: &[u8]) -> Vec<u8> {
    let mut entries: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for line in raw.strip_suffix(b"\n").unwrap_or(raw).split(|byte| *byte == b'\n') {
        let Some((stream, continues, text)) = stamped(line) else {
            entries.push((b"", line.to_vec()));
            continue;
        };
        let open = entries.iter_mut().rev().find(|(other, _)| *other == stream).filter(|_| continues);
        match open {
            Some((_, entry)) => entry.extend_from_slice(text),
            None => entries.push((stream, text.to_vec())),
        }
    }
    let mut text = Vec::new();
    for (_, entry) in entries {
        // Section markers end with a carriage return and stand in the line before which they come.
        let visible = entry.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        text.extend_from_slice(visible.strip_prefix(b"\x1b[0K").unwrap_or(visible));
        text.push(b'\n');
    }
    text
}

/// Stream, whether the entry continues the one before, and text of a stamped line.
fn stamped(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (stamp, text) = line.split_at_checked(STAMP)?;
    let is_stamp = stamp[4] == b'-' && stamp[10] == b'T' && stamp[26] == b'Z' && matches!(stamp[30], b'O' | b'E');
    is_stamp.then(|| (&stamp[28..31], stamp[31] == b'+', text))
}
