//! What the user sees. Writing never holds up the run: a terminal that is stopped, or a pager that nobody pages on, must not keep Ctrl-C
//! from being heard.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write as _};

use tokio::task::JoinHandle;

use super::world::blocking;

/// Both outputs of the process.
pub(super) struct Screen {
    /// A write that may still be under way, because nobody waited for its end.
    writing: Option<JoinHandle<io::Result<()>>>,
    pub(super) style: Style,
    error_style: Style,
}

/// Where a text goes.
#[derive(Clone, Copy)]
enum To {
    Output,
    Errors,
}

/// Whether output may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Colours,
    Plain,
}

/// Output that is lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// Nobody reads it any more: the terminal is closed, or the program behind the pipe has ended.
    #[error("nobody reads the output any more")]
    Unread(#[source] io::Error),
    /// It cannot be written: a full disk, for instance.
    #[error("the output cannot be written")]
    Unwritable(#[source] io::Error),
}

impl Lost {
    /// What a write to a terminal says that is not there any more.
    const NO_TERMINAL: i32 = 5;

    fn new(error: io::Error) -> Self {
        let is_unread = error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(Self::NO_TERMINAL);
        if is_unread { Self::Unread(error) } else { Self::Unwritable(error) }
    }
}

impl Screen {
    pub(super) fn new() -> Self {
        let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
        let style = |is_terminal| Style::choose(is_terminal, no_color.as_deref(), term.as_deref());
        Self { writing: None, style: style(io::stdout().is_terminal()), error_style: style(io::stderr().is_terminal()) }
    }

    /// Writes whole lines of output.
    pub(super) async fn print(&mut self, text: &str) -> Result<(), Lost> {
        self.write(To::Output, text.to_owned()).await.map_err(Lost::new)
    }

    /// Writes a line about the run itself. Nobody needs it so much that its loss would end something.
    pub(super) async fn say(&mut self, line: &str) {
        let _ = self.write(To::Errors, format!("{line}\n")).await;
    }

    /// Writes on a thread of its own. Whoever stops waiting loses nothing: the text is written, and the next one comes behind it.
    async fn write(&mut self, to: To, text: String) -> io::Result<()> {
        self.written().await?;
        self.writing = Some(blocking(move || match to {
            To::Output => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            To::Errors => io::stderr().write_all(text.as_bytes()),
        }));
        self.written().await
    }

    async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let done = writing.await;
        self.writing = None;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The same for something that the user should look at.
    pub(super) async fn warn(&mut self, line: &str) {
        let line = self.error_style.paint("\x1b[0;33m", &format!("WARNING: {line}"));
        self.say(&line).await;
    }
}

impl Style {
    /// Colours are for terminals that know them and for people who want them (<https://no-color.org>).
    fn choose(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let unwanted = no_color.is_some_and(|value| !value.is_empty());
        let unknown = term.is_none_or(|term| term.is_empty() || term == "dumb");
        if is_terminal && !unwanted && !unknown { Self::Colours } else { Self::Plain }
    }

    /// The text in a colour.
    pub(super) fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Colours => format!("{colour}{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    /// A line of a log as it may be shown: plain output has no escape sequences, and of a line that was written over only what was left.
    pub(super) fn line(self, line: &str) -> String {
        match self {
            Self::Colours => line.to_owned(),
            Self::Plain => plain(line),
        }
    }
}

/// Takes the escape sequences of terminals out of a line (ECMA-48: CSI, OSC and the short ones), and what carriage returns wrote over.
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
    fn colours_are_for_terminals_that_want_them() {
        let choose = |terminal, no_color: Option<&str>, term: Option<&str>| {
            Style::choose(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert_eq!(choose(true, None, Some("xterm")), Style::Colours);
        assert_eq!(choose(true, Some(""), Some("xterm")), Style::Colours);
        for (terminal, no_color, term) in [
            (false, None, Some("xterm")),
            (true, Some("1"), Some("xterm")),
            (true, None, Some("dumb")),
            (true, None, None),
        ] {
            assert_eq!(choose(terminal, no_color, term), Style::Plain, "{terminal} {no_color:?} {term:?}");
        }
    }

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
