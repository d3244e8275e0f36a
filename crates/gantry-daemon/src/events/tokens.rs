//! What is said about the tokens of runners: how long they live, and what becomes of new ones.

use std::path::Path;
use std::time::Duration;

use gantry_core::error_chain::chain;
use jiff::Timestamp;

use crate::config_write::KeepError;
use crate::events::Said;
use crate::metrics::Metrics;

/// What operators do about a token that nobody renews.
const REMEDY: &str = "make another one (in GitLab, or by `gantry reset-token`) and put it where this one comes from";

/// A token ends soon, and nobody renews it.
pub(crate) struct TokenEndsSoon<'a> {
    /// The entry's name.
    pub(crate) runner: &'a str,
    pub(crate) at: Timestamp,
    /// Why nobody does.
    pub(crate) why: &'a str,
}

impl Said for TokenEndsSoon<'_> {
    fn log(&self) {
        let Self { runner, at, why } = self;
        tracing::warn!("the token of runner {runner:?} ends at {at}, and {why}: {REMEDY}");
    }
}

/// A token has ended.
pub(crate) struct TokenEnded<'a> {
    /// The entry's name.
    pub(crate) runner: &'a str,
    pub(crate) at: Timestamp,
    /// Why nobody has renewed it.
    pub(crate) why: &'a str,
}

impl Said for TokenEnded<'_> {
    fn log(&self) {
        let Self { runner, at, why } = self;
        tracing::error!("the token of runner {runner:?} has ended at {at}: {why}; {REMEDY}");
    }
}

/// GitLab has given a new token.
pub(crate) struct TokenRenewed<'a> {
    /// The entry's name.
    pub(crate) runner: &'a str,
    pub(crate) until: Option<Timestamp>,
}

impl Said for TokenRenewed<'_> {
    fn log(&self) {
        let Self { runner, until } = self;
        let until = until.map(|until| format!(", until {until}")).unwrap_or_default();
        tracing::info!("the token of runner {runner:?} was renewed{until}");
    }
}

/// GitLab could not be asked for a new token.
pub(crate) struct TokenNotRenewed<'a> {
    /// The entry's name.
    pub(crate) runner: &'a str,
    /// When it is asked again.
    pub(crate) pause: Duration,
    pub(crate) why: &'a str,
}

impl Said for TokenNotRenewed<'_> {
    fn log(&self) {
        let Self { runner, pause, why } = self;
        tracing::error!(
            "the token of runner {runner:?} could not be renewed and is tried again in {} s: {why}",
            pause.as_secs()
        );
    }
}

/// The file holds a new token that it did not take at first.
pub(crate) struct TokenKeptLate<'a>(pub(crate) &'a Path);

impl Said for TokenKeptLate<'_> {
    fn log(&self) {
        tracing::info!("{} holds the renewed token now", self.0.display());
    }
}

/// The file had an old token again, and holds the new one now.
pub(crate) struct TokenKeptAgain<'a>(pub(crate) &'a Path);

impl Said for TokenKeptAgain<'_> {
    fn log(&self) {
        tracing::warn!(
            "{} had a token again that was renewed, and is void: the new one was written there; put it into whatever \
             writes this file",
            self.0.display()
        );
    }
}

/// The process ends while a token is exchanged.
pub(crate) struct TokenLeft;

impl Said for TokenLeft {
    fn log(&self) {
        tracing::error!(
            "this process ends before GitLab has answered for a token that is being renewed: if its runner is refused \
             (`gantry verify`), it needs a new one: {REMEDY}"
        );
    }
}

/// What became of a new token that was to be written to the file.
pub(crate) struct TokenWritten<'a> {
    pub(crate) file: &'a Path,
    pub(crate) result: &'a Result<usize, KeepError>,
}

impl TokenWritten<'_> {
    /// Says it, in the log and as a count of changes of the file.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        match self.result {
            Ok(_) => metrics.config_saved.inc(),
            Err(KeepError::Gone { .. }) => {
                let file = self.file.display();
                tracing::warn!("{file} was changed while a token was renewed: the new one is in no file");
            }
            Err(error) => {
                metrics.config_save_errors.inc();
                tracing::error!(
                    "a renewed token could not be written and is tried again; if this process ends before, its runner \
                     needs a new token: {}",
                    chain(error)
                );
            }
        }
    }
}
