//! What containers print: the end of it, or all of it as it comes. Needs `get` on `pods/log`, which
//! no job depends on.

use std::pin::Pin;

use futures::{AsyncBufRead, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource as _, api::LogParams, core::Request};
use tokio::time::timeout;

use crate::{
    Cluster,
    error::{ApiError, Fault},
    limits,
    pods::PodRef,
    retry,
};

/// What an escape sequence of a terminal begins with.
const ESCAPE: char = '\u{1b}';

/// A log that is followed.
pub struct LogStream {
    from: Pin<Box<dyn AsyncBufRead + Send>>,
    held: Vec<u8>,
    ended: bool,
}

impl Cluster {
    /// The last lines of what a container has printed, whether or not it still runs. Tried once.
    ///
    /// # Errors
    /// They cannot be read, for want of the right for instance.
    pub async fn last_lines(&self, pod: &PodRef, container: &str) -> Result<Vec<String>, ApiError> {
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(limits::LAST_LINES),
            limit_bytes: Some(limits::LAST_LINES_BYTES),
            ..LogParams::default()
        };
        let text = retry::once(async {
            let request = request(self.namespace(), pod, &params)?;
            self.client().request_text(request).await
        });
        Ok(text.await?.lines().map(plain).collect())
    }

    /// Everything that a container prints, with the time at which it did, from its start or only
    /// from `since` seconds ago.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn follow_log(&self, pod: &PodRef, container: &str, since: Option<u32>) -> Result<LogStream, ApiError> {
        let params = LogParams {
            container: Some(container.to_owned()),
            follow: true,
            timestamps: true,
            since_seconds: since.map(i64::from),
            ..LogParams::default()
        };
        let request = request(self.namespace(), pod, &params).map_err(ApiError::from)?;
        let opening = timeout(limits::REQUEST, self.client().request_stream(request));
        let stream = opening.await.map_err(|_| ApiError::timed_out(limits::REQUEST))??;
        Ok(LogStream { from: Box::pin(stream), held: Vec::new(), ended: false })
    }
}

fn request(namespace: &str, pod: &PodRef, params: &LogParams) -> kube::Result<http::Request<Vec<u8>>> {
    Request::new(Pod::url_path(&(), Some(namespace))).logs(&pod.name, params).map_err(kube::Error::BuildRequest)
}

impl LogStream {
    /// The next line, or a piece of one that is very long; nothing at the end. Safe to be dropped
    /// and called again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<String>, ApiError> {
        loop {
            let end = self.held.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let end = end.or_else(|| (self.held.len() >= limits::LOG_LINE || self.ended).then_some(self.held.len()));
            if let Some(end) = end {
                let line: Vec<u8> = self.held.drain(..end).collect();
                let line = plain(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
                return Ok((!line.is_empty() || !self.ended).then_some(line));
            }
            let mut buffer = [0; 4096];
            let count = self.from.read(&mut buffer).await;
            let count = count.map_err(|error| ApiError::without_answer(Fault::Broken, error.to_string()))?;
            self.ended = count == 0;
            self.held.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }
}

/// One line and nothing but text: colours stay, and other sequences of a terminal go, such as what
/// moves the cursor.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once(ESCAPE) {
        text.extend(before.chars().filter(|c| is_text(*c)));
        let (length, is_colour) = sequence(behind);
        let (sequence, after) = behind.split_at(length);
        if is_colour {
            text.push(ESCAPE);
            text.push_str(sequence);
        }
        rest = after;
    }
    text.extend(rest.chars().filter(|c| is_text(*c)));
    text
}

fn is_text(c: char) -> bool {
    !c.is_control() || c == '\t'
}

/// How long the rest of an escape sequence is, and whether it is a whole one that sets colours
/// (ECMA-48: `[`, parameters from `0` to `?`, others from ` ` to `/`, and a last byte). Of another
/// than such a control sequence only the escape itself goes.
fn sequence(behind: &str) -> (usize, bool) {
    let Some(parameters) = behind.strip_prefix('[') else { return (0, false) };
    let is_inside = |c: char| (' '..='?').contains(&c);
    let end = parameters.find(|c| !is_inside(c)).unwrap_or(parameters.len());
    match parameters.get(end..).and_then(|rest| rest.chars().next()) {
        Some(last) if ('@'..='~').contains(&last) => (1 + end + 1, last == 'm'),
        _ => (1 + end, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_other_sequences_go() {
        for (line, expected) in [
            ("\u{1b}[31mred\u{1b}[0;m\tand\u{7} plain", "\u{1b}[31mred\u{1b}[0;m\tand plain"),
            ("\u{1b}[2J\u{1b}[1;1Hover\u{1b}[K it\u{1b}[?25l", "over it"),
            ("\u{1b}[38;5;1mred\u{1b}[m", "\u{1b}[38;5;1mred\u{1b}[m"),
            ("\u{1b}cone\u{1b}7two\u{1b}", "cone7two"),
            ("cut\u{1b}[31", "cut"),
            ("\u{1b}[3\u{e4}m\u{1b}\u{1b}[1m", "\u{e4}m\u{1b}[1m"),
        ] {
            assert_eq!(plain(line), expected, "{line:?}");
        }
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        let text = format!("one\r\ntwo\u{7}\n{}\nlast", "x".repeat(limits::LOG_LINE + 5));
        let from = Box::pin(futures::io::Cursor::new(text.into_bytes()));
        let mut stream = LogStream { from, held: Vec::new(), ended: false };
        let mut lines = Vec::new();
        while let Some(line) = stream.next().await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines.first().map(String::as_str), Some("one"));
        assert_eq!(lines.get(1).map(String::as_str), Some("two"));
        assert_eq!(lines.last().map(String::as_str), Some("last"));
        let long: usize = lines[2..lines.len() - 1].iter().map(String::len).sum();
        assert_eq!(long, limits::LOG_LINE + 5);
    }
}
