//! What the user sees. Writing never holds up the run: a terminal that is stopped, or a pager that
//! nobody pages on, must not keep Ctrl-C from being heard.

use std::io::{self, Write as _};

use tokio::task::JoinHandle;

use super::world::blocking;
use crate::style::Style;

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
        Self { writing: None, style: Style::of(&io::stdout()), error_style: Style::of(&io::stderr()) }
    }

    /// Writes whole lines of output.
    pub(super) async fn print(&mut self, text: &str) -> Result<(), Lost> {
        self.write(To::Output, text.to_owned()).await.map_err(Lost::new)
    }

    /// Writes a line about the run itself. Nobody needs it so much that its loss would end
    /// something.
    pub(super) async fn say(&mut self, line: &str) {
        let _ = self.write(To::Errors, format!("{line}\n")).await;
    }

    /// Writes on a thread of its own. Whoever stops waiting loses nothing: the text is written, and
    /// the next one comes behind it.
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
