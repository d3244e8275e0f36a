//! A line of a job log with time stamps, as GitLab keeps it (`FF_TIMESTAMPS`).

use jiff::Timestamp;

/// Bytes of the stamp alone.
const STAMP: usize = 27;

/// Bytes before the text: the stamp, the stream, and whether the line goes on with the one before.
const HEAD: usize = 32;

/// What such a line says.
pub(crate) struct StampedLine<'a> {
    pub(crate) at: Timestamp,
    /// Whether it goes on with the line before.
    pub(crate) continues: bool,
    pub(crate) text: &'a str,
}

impl<'a> StampedLine<'a> {
    /// `None`: the line has no stamp.
    pub(crate) fn read(line: &'a str) -> Option<Self> {
        let at = line.get(..STAMP)?.parse().ok()?;
        let text = line.get(HEAD..)?;
        Some(Self { at, continues: line.as_bytes().get(HEAD - 1) == Some(&b'+'), text })
    }
}
