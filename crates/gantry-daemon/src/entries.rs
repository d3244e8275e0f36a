//! The `[[runners]]` entries that the daemon works with, and what of them is watched over time: the
//! ends of their tokens.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gantry_config::{RunnerSettings, Settings};
use gantry_core::Secret;
use gantry_wire::plan::Alone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::events::{Said as _, TokenEnded, TokenEndsSoon};
use crate::poller::Polling;
use crate::wiring;

/// What tells entries apart. Those that a file has twice are counted, so that both are kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    url: String,
    token: Secret,
    name: String,
    nth: usize,
}

/// What the file says outside of an entry and a runner must be started anew for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Basis {
    pub(crate) check_interval: Duration,
    pub(crate) connection_max_age: Duration,
    pub(crate) alone: Alone,
    pub(crate) fleet: Option<String>,
    pub(crate) fleet_concurrent: Option<NonZeroU32>,
    pub(crate) ticket_key: Option<Secret>,
}

impl Basis {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            check_interval: settings.check_interval,
            fleet: settings.gantry.fleet.clone(),
            fleet_concurrent: settings.gantry.fleet_concurrent,
            ticket_key: settings.gantry.ticket_key.clone(),
            connection_max_age: settings.connection_max_age,
            alone: wiring::alone(settings),
        }
    }
}

/// A configured runner.
pub(crate) struct Entry {
    pub(crate) settings: Arc<RunnerSettings>,
    pub(crate) basis: Basis,
    /// Absent while the runner could not be started.
    pub(crate) stop: Option<CancellationToken>,
    pub(crate) problem: Option<String>,
    /// As long as it asks for jobs.
    pub(crate) polling: Weak<Polling>,
    token: TokenWatch,
}

impl Entry {
    pub(crate) fn new(settings: Arc<RunnerSettings>, basis: Basis) -> Self {
        Self { settings, basis, stop: None, problem: None, polling: Weak::new(), token: TokenWatch::default() }
    }

    /// Why it does not work, in one line.
    pub(crate) fn why_not(&self) -> Option<String> {
        let problem = self.problem.as_ref().filter(|_| self.stop.is_none())?;
        Some(format!("runner {:?} cannot work: {problem}", self.settings.name))
    }

    /// How far the life of its token is.
    pub(crate) fn token_life(&self, now: Timestamp) -> TokenLife {
        let settings = &self.settings;
        settings.token_expires_at.map_or(TokenLife::Good, |ends| TokenLife::at(now, settings.token_obtained_at, ends))
    }

    /// Says that the token ends soon or has ended, where that is so and was not said lately. `why`
    /// says why nobody does something about it.
    pub(crate) fn say_token_life(&mut self, now: Timestamp, why: &str) {
        let Some(expires) = self.settings.token_expires_at else { return };
        let life = self.token_life(now);
        if !self.token.is_to_be_said(now, life) {
            return;
        }
        let (runner, at) = (self.settings.name.as_str(), expires);
        match life {
            TokenLife::Good => {}
            TokenLife::EndsSoon => TokenEndsSoon { runner, at, why }.say(),
            TokenLife::Ended => TokenEnded { runner, at, why }.say(),
        }
    }
}

/// The entries of a file, each under its key.
pub(crate) fn wanted(settings: &Settings) -> BTreeMap<Key, Arc<RunnerSettings>> {
    let mut wanted = BTreeMap::new();
    for runner in &settings.runners {
        let (url, token, name) = (runner.url.clone(), runner.token.clone(), runner.name.clone());
        let mut key = Key { url, token, name, nth: 0 };
        while wanted.contains_key(&key) {
            key.nth += 1;
        }
        wanted.insert(key, Arc::new(runner.clone()));
    }
    wanted
}

/// How far the life of a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TokenLife {
    #[default]
    Good,
    EndsSoon,
    Ended,
}

impl TokenLife {
    fn at(now: Timestamp, obtained: Option<Timestamp>, expires: Timestamp) -> Self {
        match now {
            now if now >= expires => Self::Ended,
            now if now >= token_renewal(obtained, expires) => Self::EndsSoon,
            _ => Self::Good,
        }
    }
}

/// When a token is to be renewed: three quarters of its life are over then (GitLab Runner 19.4).
pub(crate) fn token_renewal(obtained: Option<Timestamp>, expires: Timestamp) -> Timestamp {
    /// Before the end, where the beginning is not known.
    const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);
    match obtained {
        Some(obtained) if obtained < expires => expires - expires.duration_since(obtained) / 4,
        _ => expires.checked_sub(SOON).unwrap_or(expires),
    }
}

/// What was said of a token, and when.
#[derive(Debug, Default)]
struct TokenWatch {
    said: TokenLife,
    at: Option<Timestamp>,
}

impl TokenWatch {
    /// Once when it becomes true, and then once a day.
    fn is_to_be_said(&mut self, now: Timestamp, life: TokenLife) -> bool {
        const AGAIN: i64 = 24 * 60 * 60;
        let is_fresh = self.at.is_some_and(|at| now.as_second() - at.as_second() < AGAIN);
        if life == TokenLife::Good || (life == self.said && is_fresh) {
            return false;
        }
        *self = Self { said: life, at: Some(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_life_of_a_token() {
        let life = |now, obtained: Option<i64>| TokenLife::at(at(now), obtained.map(at), at(1_000_000));
        assert_eq!([life(0, Some(0)), life(749_999, Some(0))], [TokenLife::Good; 2]);
        assert_eq!([life(750_000, Some(0)), life(999_999, Some(0))], [TokenLife::EndsSoon; 2]);
        assert_eq!([life(1_000_000, Some(0)), life(2_000_000, None)], [TokenLife::Ended; 2]);
        assert_eq!(life(395_199, None), TokenLife::Good);
        assert_eq!([life(395_200, None), life(395_200, Some(2_000_000))], [TokenLife::EndsSoon; 2]);
    }

    #[test]
    fn it_is_said_once_a_day_and_at_every_change() {
        let mut watch = TokenWatch::default();
        assert!(!watch.is_to_be_said(at(0), TokenLife::Good));
        assert!(watch.is_to_be_said(at(1), TokenLife::EndsSoon));
        assert!(!watch.is_to_be_said(at(86_400), TokenLife::EndsSoon));
        assert!(watch.is_to_be_said(at(86_401), TokenLife::EndsSoon));
        assert!(watch.is_to_be_said(at(86_402), TokenLife::Ended));
        assert!(!watch.is_to_be_said(at(86_403), TokenLife::Ended));
    }

    #[test]
    fn entries_that_a_file_has_twice_are_both_kept() {
        let entry = "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n";
        let text = format!("{entry}limit = 1\n{entry}limit = 2\n");
        let settings = gantry_config::load(&text, &|_| None).unwrap().settings;
        let limits: Vec<u32> = wanted(&settings).values().filter_map(|runner| Some(runner.limit?.get())).collect();
        assert_eq!(limits, [1, 2]);
    }
}
