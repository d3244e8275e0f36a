//! Lines with a time stamp: `2026-01-02T03:04:05.678901Z 01O text` (GitLab Runner 19.4,
//! `FF_TIMESTAMPS`). GitLab recognises the form by itself, so not a byte of a header may differ.
//! `+` before the text marks an entry that continues the one before: the newline between them is
//! ours.

use jiff::Timestamp;

use crate::Stream;

/// Text of one entry after which a newline is made up (GitLab Runner 19.4: 8 KiB).
pub(crate) const MAX_ENTRY: usize = 8 * 1024;

/// Length of `2026-01-02T03:04:05.678901Z 01O+`.
pub(crate) const HEADER: usize = 32;

/// Length of the time and the blank after it.
const TIME: usize = 28;

/// Where a stream stands.
#[derive(Debug)]
pub(crate) struct Stamping {
    /// Of the entry that is being collected.
    header: [u8; HEADER],
    /// What `header` says, so that a burst of lines formats its time once.
    time: Option<Timestamp>,
    /// Text of the entry so far; holds masked text only.
    text: Vec<u8>,
    /// The next entry continues the last one.
    continues: bool,
}

impl Stamping {
    /// The beginning of `stream`.
    pub(crate) fn new(stream: Stream) -> Self {
        let mut header = [b' '; HEADER];
        let number = stream.number();
        for (slot, nibble) in [(28, number >> 4), (29, number & 15)] {
            header[slot] = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        header[30] = stream.letter();
        Self { header, time: None, text: Vec::new(), continues: false }
    }

    /// Takes valid UTF-8 and appends the entries that are complete to `out`.
    pub(crate) fn push(&mut self, now: Timestamp, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.collect(now, &rest[..end], out);
            self.begin(now);
            self.end(false, out);
            rest = &rest[end + 1..];
        }
        if rest.is_empty() {
            return;
        }
        self.collect(now, rest, out);
        if rest.contains(&b'\r') {
            // A progress display or a section marker: shown now, not when a newline comes.
            self.end(true, out);
        }
    }

    /// The end of a stage: a line that has begun is ended. `keep` says whether a mark for
    /// continuation outlives it: section markers of the runner end without a newline, and the line
    /// after them belongs to them.
    pub(crate) fn flush(&mut self, keep: bool, out: &mut Vec<u8>) {
        if !self.text.is_empty() {
            self.end(false, out);
        }
        self.continues &= keep;
    }

    /// Emits a line that has begun; what follows continues it.
    pub(crate) fn flush_partial(&mut self, out: &mut Vec<u8>) {
        if self.has_partial() {
            self.end(true, out);
        }
    }

    /// Whether a line has begun.
    pub(crate) fn has_partial(&self) -> bool {
        !self.text.is_empty()
    }

    /// Adds text without a newline, and emits what is too long for one entry.
    fn collect(&mut self, now: Timestamp, text: &[u8], out: &mut Vec<u8>) {
        let mut rest = text;
        while !rest.is_empty() {
            self.begin(now);
            let room = char_boundary(rest, MAX_ENTRY - self.text.len().min(MAX_ENTRY));
            if room == 0 {
                self.end(true, out);
                continue;
            }
            self.text.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
        }
    }

    /// The time of an entry is that of its first byte.
    fn begin(&mut self, now: Timestamp) {
        if self.text.is_empty() && self.time != Some(now) {
            write_time(now, &mut self.header);
            self.time = Some(now);
        }
    }

    fn end(&mut self, continues: bool, out: &mut Vec<u8>) {
        self.header[HEADER - 1] = if self.continues { b'+' } else { b' ' };
        out.extend_from_slice(&self.header);
        out.extend_from_slice(&self.text);
        out.push(b'\n');
        self.text.clear();
        self.continues = continues;
    }
}

/// The largest cut of valid UTF-8 at or before `at` that is not inside a character.
pub(crate) fn char_boundary(text: &[u8], at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|at| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80)).unwrap_or(0)
}

/// Writes time and blank without allocating: this runs for every line.
fn write_time(now: Timestamp, header: &mut [u8; HEADER]) {
    let time = jiff::tz::Offset::UTC.to_datetime(now);
    let micros = now.subsec_nanosecond().unsigned_abs() / 1000;
    let micros = if now.subsec_nanosecond() < 0 { 1_000_000 - micros } else { micros };
    let mut at = 0;
    let mut put = |value: u32, width: u32, after: &[u8]| {
        for place in (0..width).rev() {
            let digit = value / 10_u32.pow(place) % 10;
            header[at] = b'0' + u8::try_from(digit).unwrap_or(0);
            at += 1;
        }
        for byte in after {
            header[at] = *byte;
            at += 1;
        }
    };
    put(u32::from(time.year().unsigned_abs()), 4, b"-");
    put(u32::from(time.month().unsigned_abs()), 2, b"-");
    put(u32::from(time.day().unsigned_abs()), 2, b"T");
    put(u32::from(time.hour().unsigned_abs()), 2, b":");
    put(u32::from(time.minute().unsigned_abs()), 2, b":");
    put(u32::from(time.second().unsigned_abs()), 2, b".");
    put(micros % 1_000_000, 6, b"Z ");
    debug_assert_eq!(at, TIME);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(1_609_459_200 + seconds, 20_010_000).unwrap()
    }

    fn run(writes: &[&str]) -> String {
        let (mut stage, mut out) = (Stamping::new(Stream::JobOut), Vec::new());
        for write in writes {
            stage.push(at(0), write.as_bytes(), &mut out);
        }
        stage.flush(false, &mut out);
        String::from_utf8(out).unwrap().replace("2021-01-01T00:00:00.020010Z ", "")
    }

    #[test]
    fn a_progress_display_is_shown_as_it_comes() {
        let (mut stage, mut out) = (Stamping::new(Stream::ServiceErr(240)), Vec::new());
        for (second, text) in [(1, "Progress: "), (2, ".\r"), (3, ".\r"), (4, "Done.\r\n")] {
            stage.push(at(second * 3600), text.as_bytes(), &mut out);
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2021-01-01T01:00:00.020010Z ffE Progress: .\r\n2021-01-01T03:00:00.020010Z ffE+.\r\n\
             2021-01-01T04:00:00.020010Z ffE+Done.\r\n"
        );
    }

    #[test]
    fn entries() {
        assert_eq!(run(&["a\n\nb", "c\r\n"]), "01O a\n01O \n01O bc\r\n");
        assert_eq!(run(&["x\ry\n"]), "01O x\ry\n");
        assert_eq!(run(&["section\r\x1b[0K", "Title\n", "next\n"]), "01O section\r\x1b[0K\n01O+Title\n01O next\n");
        assert_eq!(run(&["no newline"]), "01O no newline\n");
        assert_eq!(run(&[]), "");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "x".to_owned() + &"ü".repeat(MAX_ENTRY / 2);
        let shown = run(&[&long, "\n"]);
        assert_eq!(shown, format!("01O x{}\n01O+ü\n", "ü".repeat(MAX_ENTRY / 2 - 1)));
        let full = "y".repeat(MAX_ENTRY);
        assert_eq!(run(&[&full, "\n"]), format!("01O {full}\n"));
    }

    #[test]
    fn stage_ends_close_lines_but_keep_section_markers_together() {
        for (keep, expected) in [(true, "00O a\r\n00O+b\n"), (false, "00O a\r\n00O b\n")] {
            let (mut stage, mut out) = (Stamping::new(Stream::RunnerOut), Vec::new());
            stage.push(at(0), b"a\r", &mut out);
            stage.flush(keep, &mut out);
            stage.push(at(0), b"b\n", &mut out);
            let text = String::from_utf8(out).unwrap().replace("2021-01-01T00:00:00.020010Z ", "");
            assert_eq!(text, expected);
        }
    }
}
