//! Tokens of runners that end: each is exchanged for a new one when three quarters of its life are
//! over (GitLab Runner 19.4), and the new one is written into the file. The old one stops working
//! at once, so nothing is exchanged that could not be kept: a file that cannot be written, or a
//! token that comes from elsewhere at the next start, is left alone, with a word in time. A process
//! that ends waits for an exchange that is under way, and a file that somebody puts back to an old
//! token gets the new one again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_config::edit::Editor;
use gantry_core::Secret;
use gantry_core::backoff;
use gantry_core::error_chain::chain;
use gantry_gitlab::Client;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::config_write::{self, KeepError, NewToken};
use crate::entries::{Entry, TokenLife};
use crate::events::{Said as _, TokenKeptAgain, TokenKeptLate, TokenLeft, TokenNotRenewed, TokenRenewed, TokenWritten};
use crate::member::Shared;
use crate::metrics::Metrics;
use crate::redaction::{self, Guard};
use crate::tasks;

/// Pauses after failed exchanges: the first, and the longest, which is short beside the quarter of
/// a life that is left.
const PAUSE_FIRST: Duration = Duration::from_mins(1);
const PAUSE_MOST: Duration = Duration::from_hours(1);

/// Pause between two tries to write a token that the file does not hold yet.
const SAVE_PAUSE: Duration = Duration::from_secs(30);

/// The switch for who renews tokens by other means, read of the runner only (GitLab Runner 19.4).
const OFF: &str = "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION";

/// Variables from which a deployment registers its runner at each start, with the same token again.
const GIVEN_BY: [&str; 2] = ["CI_SERVER_TOKEN", "REGISTRATION_TOKEN"];

/// The exchanges that are under way or to be tried again. Clones share them.
#[derive(Clone)]
pub(crate) struct Renewals {
    file: PathBuf,
    state: Arc<Mutex<State>>,
    done: Arc<Notify>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// One exchange at a time: each changes the file.
    is_busy: bool,
    /// GitLab may have exchanged a token already, and has not said for which.
    awaits_answer: bool,
    /// Failed exchanges in a row and when the next may be tried, by token.
    failures: BTreeMap<Secret, (u32, Instant)>,
    /// Exchanged tokens, by the old one. Those that the file does not hold yet are in force all the
    /// same.
    new: BTreeMap<Secret, Renewed>,
}

impl State {
    /// The token that came of `old`, also over several exchanges.
    fn newest(&self, old: &Secret) -> Option<&NewToken> {
        let next = |renewed: &&Renewed| self.new.get(&renewed.token.token);
        // Each exchange is passed once at most, even if GitLab gave a token twice.
        std::iter::successors(self.new.get(old), next).take(self.new.len()).last().map(|renewed| &renewed.token)
    }
}

/// A token, and the one that GitLab has given for it.
pub(crate) struct Exchange {
    pub(crate) old: Secret,
    pub(crate) new: Secret,
}

struct Renewed {
    token: NewToken,
    /// When it is to be written again; nothing once the file holds it.
    save_at: Option<Instant>,
    /// The file has held it, and then the old one again.
    is_back: bool,
    _guard: Arc<Guard>,
}

/// A token that is to be written again.
struct Due {
    /// What the file has.
    old: Secret,
    new: NewToken,
    /// As in [`Renewed`].
    is_back: bool,
}

impl Renewals {
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), state: Arc::default(), done: Arc::default(), tasks: TaskTracker::new() }
    }

    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ready when a token has been exchanged: the entries are to be read anew.
    pub(crate) async fn exchanged(&self) {
        self.done.notified().await;
    }

    /// The token that is in force instead of `old`, which the file has. It is to hold the new one:
    /// at the next start there is nobody who knows it.
    pub(crate) fn in_force(&self, old: &Secret) -> Option<NewToken> {
        self.with(|state| {
            let newest = state.newest(old).cloned();
            if let Some(renewed) = state.new.get_mut(old).filter(|renewed| renewed.save_at.is_none()) {
                (renewed.save_at, renewed.is_back) = (Some(Instant::now()), true);
            }
            newest
        })
    }

    /// Every exchange of this process.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        let exchange =
            |(old, renewed): (&Secret, &Renewed)| Exchange { old: old.clone(), new: renewed.token.token.clone() };
        self.with(|state| state.new.iter().map(exchange).collect())
    }

    /// Exchanges what is due, and says what will not be exchanged.
    pub(crate) fn look<'e>(&self, shared: &Arc<Shared>, entries: impl Iterator<Item = &'e mut Entry>, now: Timestamp) {
        self.save_again(&shared.metrics);
        for entry in entries {
            match entry.token_life(now) {
                TokenLife::Good => {}
                TokenLife::Ended => entry.say_token_life(now, "it has not been renewed in time"),
                TokenLife::EndsSoon => match self.why_not(&entry.settings) {
                    Some(why) => entry.say_token_life(now, &why),
                    None => self.exchange(shared, &entry.settings),
                },
            }
        }
    }

    /// Why a token is not exchanged although it is due.
    fn why_not(&self, settings: &RunnerSettings) -> Option<String> {
        let is_off = settings.feature_flags.get(OFF) == Some(&true);
        let given_by = || GIVEN_BY.into_iter().find(|name| is_value_of(name, &settings.token));
        if is_off {
            return Some(format!("it is not renewed, because {OFF} is on"));
        }
        if let Some(name) = given_by() {
            return Some(format!("it is not renewed, because {name} would bring the old one back at the next start"));
        }
        if !self.is_in_file(&settings.token) {
            return Some(format!("it is not renewed, because it is not written out in {}", self.file.display()));
        }
        let error = config_write::ensure_writable(&self.file).err()?;
        Some(format!("it is not renewed, because {} cannot be written: {error}", self.file.display()))
    }

    /// Whether the file itself holds the token, and not the name of a variable that does.
    fn is_in_file(&self, token: &Secret) -> bool {
        let Ok(text) = std::fs::read_to_string(&self.file) else { return false };
        let Ok(editor) = Editor::parse(&text) else { return false };
        editor.runners(&|_| None).iter().any(|runner| runner.token == *token)
    }

    fn exchange(&self, shared: &Arc<Shared>, settings: &Arc<RunnerSettings>) {
        let token = &settings.token;
        let is_due = self.with(|state| {
            let rests = state.failures.get(token).is_some_and(|(_, next)| Instant::now() < *next);
            let is_due = !state.is_busy && !rests && !state.new.contains_key(token);
            state.is_busy |= is_due;
            is_due
        });
        if !is_due {
            return;
        }
        let client = shared.gitlab(settings);
        let (renewals, settings, metrics) = (self.clone(), Arc::clone(settings), Arc::clone(&shared.metrics));
        let exchange = async move {
            let result = match client {
                Ok((client, _)) => renewals.ask(&client, &settings, &metrics).await,
                Err(error) => Err(chain(&error)),
            };
            renewals.finished(&settings, result);
        };
        tasks::spawn(self.tasks.track_future(exchange));
    }

    /// Waits for the exchange that is under way. Nothing begins any more.
    pub(crate) async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Writes what the file does not hold yet, whenever it was tried last: this process ends, and
    /// is the only one that knows it.
    pub(crate) async fn leave(&self, metrics: &Metrics) {
        self.save(self.due(Instant::now() + SAVE_PAUSE), metrics).await;
        if self.with(|state| state.awaits_answer) {
            TokenLeft.say();
        }
    }

    /// Has the token exchanged and written. An error says why there is no new one.
    async fn ask(&self, client: &Client, settings: &RunnerSettings, metrics: &Metrics) -> Result<(), String> {
        self.with(|state| state.awaits_answer = true);
        let given = client.reset_token(&settings.token).await.map_err(|error| chain(&error))?;
        let guard = redaction::guard(None, [&given.token]);
        let expires = given.token_expires_at.as_deref().and_then(|text| text.parse().ok());
        let new = NewToken { token: given.token, obtained: Timestamp::now(), expires };
        TokenRenewed { runner: &settings.name, until: expires }.say();
        // Known from now on: whoever reads the file while it is written, or ends the process, must
        // not take the old one for good.
        let renewed =
            Renewed { token: new.clone(), save_at: Some(Instant::now() + SAVE_PAUSE), is_back: false, _guard: guard };
        self.with(|state| {
            state.new.insert(settings.token.clone(), renewed);
            state.awaits_answer = false;
        });
        let saved = self.keep(&settings.token, &new).await;
        self.write_again_at(&settings.token, self.save_at(&saved, metrics));
        Ok(())
    }

    /// When a token is to be written again, after a try.
    fn save_at(&self, saved: &Result<usize, KeepError>, metrics: &Metrics) -> Option<Instant> {
        TokenWritten { file: &self.file, result: saved }.tell(metrics);
        match saved {
            Ok(_) | Err(KeepError::Gone { .. }) => None,
            Err(_) => Some(Instant::now() + SAVE_PAUSE),
        }
    }

    /// Writes again what is due, beside everything else: another process may hold the file.
    fn save_again(&self, metrics: &Arc<Metrics>) {
        let due = self.due(Instant::now());
        if due.is_empty() {
            return;
        }
        let (renewals, metrics) = (self.clone(), Arc::clone(metrics));
        tasks::spawn(self.tasks.track_future(async move { renewals.save(due, &metrics).await }));
    }

    /// What is to be written again by then. It is not due again while that is done.
    fn due(&self, by: Instant) -> Vec<Due> {
        self.with(|state| {
            let is_due = |renewed: &Renewed| renewed.save_at.is_some_and(|at| at <= by);
            let due = state.new.iter().filter(|(_, renewed)| is_due(renewed));
            let due: Vec<Due> = due
                .filter_map(|(old, renewed)| {
                    Some(Due { old: old.clone(), new: state.newest(old)?.clone(), is_back: renewed.is_back })
                })
                .collect();
            for Due { old, .. } in &due {
                if let Some(renewed) = state.new.get_mut(old) {
                    renewed.save_at = Some(Instant::now() + SAVE_PAUSE);
                }
            }
            due
        })
    }

    async fn save(&self, due: Vec<Due>, metrics: &Metrics) {
        for Due { old, new, is_back } in due {
            let saved = self.keep(&old, &new).await;
            // The file may have the new token by now, or be back only in what was read of it.
            let is_gone = matches!(saved, Err(KeepError::Gone { .. }));
            let is_there = matches!(saved, Ok(0)) || (is_back && is_gone);
            let save_at = if is_there { None } else { self.save_at(&saved, metrics) };
            match &saved {
                Ok(0) => {}
                Ok(_) if is_back => TokenKeptAgain(&self.file).say(),
                _ if save_at.is_none() && !is_gone => TokenKeptLate(&self.file).say(),
                _ => {}
            }
            self.write_again_at(&old, save_at);
        }
    }

    /// Says when the token that came of `old` is to be written again, if it is.
    fn write_again_at(&self, old: &Secret, save_at: Option<Instant>) {
        self.with(|state| {
            if let Some(renewed) = state.new.get_mut(old) {
                renewed.save_at = save_at;
            }
        });
    }

    /// Writes a token into the file. Whoever else changes that is waited for.
    async fn keep(&self, old: &Secret, new: &NewToken) -> Result<usize, KeepError> {
        let (file, old, new) = (self.file.clone(), old.clone(), new.clone());
        let kept = tasks::blocking(move || config_write::keep_token(&file, &old, &new)).await;
        kept.unwrap_or_else(|source| Err(KeepError::Write { path: self.file.display().to_string(), source }))
    }

    fn finished(&self, settings: &RunnerSettings, result: Result<(), String>) {
        let token = settings.token.clone();
        self.with(|state| {
            (state.is_busy, state.awaits_answer) = (false, false);
            let Err(why) = result else {
                state.failures.remove(&token);
                return;
            };
            let (count, next) = state.failures.entry(token).or_insert((0, Instant::now()));
            *count = count.saturating_add(1);
            let pause = backoff::doubled(PAUSE_FIRST, PAUSE_MOST, *count);
            *next = Instant::now() + pause;
            TokenNotRenewed { runner: &settings.name, pause, why: &why }.say();
        });
        self.done.notify_one();
    }
}

fn is_value_of(variable: &str, token: &Secret) -> bool {
    std::env::var(variable).is_ok_and(|value| value == token.expose())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use gantry_gitlab::{Body, ByteStream, ClientOptions, Timeouts, Transport, TransportError};
    use http::{Request, Response};

    use super::*;

    fn settings(token: &str, more: &str) -> RunnerSettings {
        let text = format!(
            "[[runners]]\nname = \"a\"\nurl = \"http://gitlab.test\"\ntoken = \"{token}\"\nexecutor = \"kubernetes\"\n{more}"
        );
        gantry_config::load(&text, &|_| None).unwrap().settings.runners.remove(0)
    }

    #[test]
    fn what_could_not_be_kept_is_not_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let renewals = Renewals::new(&file);
        let why = |token: &str, more: &str| renewals.why_not(&settings(token, more)).unwrap_or_default();
        std::fs::write(&file, "[[runners]]\ntoken = \"glrt-here\"\n[[runners]]\ntoken = \"$TOKEN\"\n").unwrap();
        assert_eq!(why("glrt-here", ""), "");
        assert!(why("glrt-from-a-variable", "").contains("it is not written out in"));
        let off = format!("[runners.feature_flags]\n{OFF} = true\n");
        assert!(why("glrt-here", &off).contains("because FF_DISABLE_AUTOMATIC_TOKEN_ROTATION is on"));
    }

    /// Token `new` for `old`, which the file holds.
    fn renewed(renewals: &Renewals, old: &str, new: &str, save_at: Option<Instant>) {
        let new = Secret::new(new);
        let guard = redaction::guard(None, [&new]);
        let token = NewToken { token: new, obtained: Timestamp::now(), expires: None };
        let renewed = Renewed { token, save_at, is_back: false, _guard: guard };
        renewals.with(|state| state.new.insert(Secret::new(old), renewed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_with_an_old_token_again_gets_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let (renewals, metrics) = (Renewals::new(&file), Metrics::new().unwrap());
        renewed(&renewals, "glrt-first", "glrt-second", None);
        renewed(&renewals, "glrt-second", "glrt-third", None);
        let in_force = |old: &str| renewals.in_force(&Secret::new(old)).map(|new| new.token.expose().to_owned());
        for old in ["glrt-first", "glrt-second", "glrt-first"] {
            std::fs::write(&file, format!("[[runners]]\ntoken = \"{old}\"\n")).unwrap();
            assert_eq!(in_force(old).as_deref(), Some("glrt-third"));
            renewals.save(renewals.due(Instant::now()), &metrics).await;
            assert!(std::fs::read_to_string(&file).unwrap().contains("\"glrt-third\""), "{old} stays");
        }
        assert_eq!(in_force("glrt-third"), None);
        // It was back only in what was read before the new one was written.
        assert_eq!(in_force("glrt-first").as_deref(), Some("glrt-third"));
        renewals.save(renewals.due(Instant::now()), &metrics).await;
        assert!(renewals.with(|state| state.new.values().all(|renewed| renewed.save_at.is_none())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_ends_waits_for_an_exchange_and_writes_what_it_brings() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "[[runners]]\ntoken = \"glrt-old\"\n").unwrap();
        let (renewals, metrics) = (Renewals::new(&file), Metrics::new().unwrap());
        let exchange = renewals.tasks.track_future(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            // As if the disk had been full until now.
            renewed(&renewals, "glrt-old", "glrt-new", Some(Instant::now() + SAVE_PAUSE));
        });
        tokio::join!(exchange, renewals.end());
        renewals.leave(&metrics).await;
        assert!(std::fs::read_to_string(&file).unwrap().contains("\"glrt-new\""));
    }

    #[tokio::test(start_paused = true)]
    async fn others_who_change_the_file_are_waited_for_beside_everything_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "[[runners]]\ntoken = \"glrt-old\"\n").unwrap();
        let (renewals, metrics) = (Renewals::new(&file), Arc::new(Metrics::new().unwrap()));
        renewed(&renewals, "glrt-old", "glrt-new", Some(Instant::now()));
        let held = config_write::hold(&file).unwrap();
        renewals.save_again(&metrics);
        assert!(renewals.due(Instant::now()).is_empty(), "it is being written");
        drop(held);
        renewals.end().await;
        assert!(std::fs::read_to_string(&file).unwrap().contains("\"glrt-new\""));
    }

    /// Exchanges every token.
    struct Exchanging;

    impl Transport for Exchanging {
        fn send(&self, _: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
            let text = r#"{"id":1,"token":"glrt-new","token_expires_at":null}"#;
            let body: ByteStream = Box::pin(futures::stream::iter([Ok(bytes::Bytes::from_static(text.as_bytes()))]));
            let answer = Response::builder().status(201).header("content-type", "application/json");
            async move { Ok(answer.body(body).expect("an answer")) }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_is_known_before_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "[[runners]]\ntoken = \"glrt-old\"\n").unwrap();
        let (renewals, metrics) = (Renewals::new(&file), Metrics::new().unwrap());
        let client = Client::with_transport(ClientOptions::new("http://gitlab.test"), Arc::new(Exchanging)).unwrap();
        let settings = settings("glrt-old", "");
        // Somebody else changes the file meanwhile.
        let held = config_write::hold(&file).unwrap();
        let mut ask = pin!(renewals.ask(&client, &settings, &metrics));
        let in_force = || renewals.in_force(&Secret::new("glrt-old")).map(|new| new.token.expose().to_owned());
        while in_force().is_none() {
            assert!(futures::poll!(ask.as_mut()).is_pending(), "the token is written, and was not known");
            tokio::task::yield_now().await;
        }
        assert!(std::fs::read_to_string(&file).unwrap().contains("\"glrt-old\""));
        drop(held);
        renewals.leave(&metrics).await;
        ask.await.unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("\"glrt-new\""));
        assert!(renewals.with(|state| !state.awaits_answer && state.new.values().all(|new| new.save_at.is_none())));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_ever_more_rarely() {
        let renewals = Renewals::new(Path::new("/nowhere/config.toml"));
        let settings = settings("glrt-x", "");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            renewals.finished(&settings, Err("no answer".to_owned()));
            let next = renewals.with(|state| state.failures[&settings.token].1);
            pauses.push(next.saturating_duration_since(Instant::now()).as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        renewals.finished(&settings, Ok(()));
        assert!(renewals.with(|state| state.failures.is_empty()));
        renewals.exchanged().await;
    }
}
