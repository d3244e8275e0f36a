//! The file as it changes: what it says is put in force, each entry has a runner or a reason why
//! not, and a token that was renewed stays in force whatever the file says.

use std::sync::{Arc, Weak};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use gantry_config::{Loaded, RunnerSettings};
use gantry_core::error_chain::chain;
use gantry_core::short_token::short_token;
use gantry_wire::ticket::TicketKey;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{App, fleet_concurrent, ticket_secret};
use crate::config_file::{ConfigError, log_problems, system_id, why_unusable};
use crate::entries::{self, Basis, Entry, Key, wanted};
use crate::events::{ConfigLoaded, ConfigRefused, PollingBegins, PollingEnds, RunnerUnusable, Said as _};
use crate::member::Shared;
use crate::metrics::RunnerLabels;
use crate::poller::{Polling, PollingEnd};
use crate::renewals::Exchange;
use crate::runner::{Runner, RunnerError};
use crate::slots::{Numbers, Slots};
use crate::{boot, pause, session};

impl App {
    /// Reads the file again. What cannot be used changes nothing.
    pub(super) async fn reload(&mut self) {
        let loaded = self.file.load().and_then(|loaded| {
            if self.waits {
                Arc::make_mut(&mut self.shared).system_id = system_id(self.file.path())?;
            }
            Ok(loaded)
        });
        let path = self.file.path();
        match loaded {
            Ok(Loaded { settings, unusable, warnings }) => {
                (self.on_log_settings)(settings.log);
                log_problems(path, unusable.iter().flat_map(|entry| &entry.errors).chain(&warnings));
                self.unusable = unusable.iter().map(|entry| why_unusable(path, entry)).collect();
                session::follow(self.session_server.as_ref(), &self.settings.session_server, &settings.session_server);
                (self.settings, self.waits) = (settings, false);
                let shown = self.shown();
                self.listening.follow(self.shared.outside.as_ref(), &self.settings, shown).await;
                self.apply().await;
            }
            Err(error) => {
                if let ConfigError::Invalid { problems, .. } = &error {
                    log_problems(path, &problems.list);
                }
                ConfigRefused { waits: self.waits, error: &error }.tell(&self.shared.metrics);
            }
        }
    }

    /// Makes the settings true: bounds, and a set of polling runners.
    pub(super) async fn apply(&mut self) {
        let concurrent = self.settings.concurrent.get();
        self.shared.slots.resize(usize::try_from(concurrent).unwrap_or(usize::MAX));
        self.take_renewed_tokens();
        let (wanted, basis) = (wanted(&self.settings), Basis::of(&self.settings));
        let ticket_secret = ticket_secret(&self.settings, self.registration_token.as_ref());
        let most = fleet_concurrent(&self.settings);
        let Shared { connection_max_age, alone, fleet, fleet_concurrent, ticket_secret: secret, .. } = &*self.shared;
        let was = (*connection_max_age, alone, fleet, *fleet_concurrent, secret);
        if was != (basis.connection_max_age, &basis.alone, &basis.fleet, most, &ticket_secret) {
            let shared = Arc::make_mut(&mut self.shared);
            (shared.connection_max_age, shared.alone) = (basis.connection_max_age, basis.alone.clone());
            (shared.fleet, shared.ticket_secret) = (basis.fleet.clone(), ticket_secret);
            shared.fleet_concurrent = most;
        }
        self.entries.retain(|key, entry| {
            let stays = wanted.get(key) == Some(&entry.settings) && entry.basis == basis;
            if let (false, Some(stop)) = (stays, &entry.stop) {
                let runner = short_token(entry.settings.token.expose());
                PollingEnds { runner, name: &entry.settings.name }.say();
                stop.cancel();
            }
            if let Some(polling) = entry.polling.upgrade().filter(|_| stays) {
                polling.revive();
            }
            stays
        });
        for (key, settings) in wanted {
            self.entries.entry(key).or_insert_with(|| Entry::new(settings, basis.clone()));
        }
        let (waits, runners, unusable) = (self.waits, self.entries.len(), self.unusable.len());
        ConfigLoaded { waits, runners, unusable, concurrent }.tell(&self.shared.metrics);
        pause::expect(&self.shared, self.entries.values().map(|entry| &*entry.settings));
        self.retry().await;
    }

    /// A runner whose token was exchanged stays the same one, with the same places, also while the
    /// file does not hold the new token yet.
    fn take_renewed_tokens(&mut self) {
        for runner in &mut self.settings.runners {
            let Some(new) = self.renewals.in_force(&runner.token) else { continue };
            (runner.token_obtained_at, runner.token_expires_at) = (Some(new.obtained), new.expires);
            runner.token = new.token;
        }
        for Exchange { old, new } in self.renewals.exchanges() {
            let Some(places) = self.by_token.remove(&old) else { continue };
            if self.shared.ticket_secret.is_none() {
                self.sites.reseal(TicketKey::derive(&old), TicketKey::derive(&new));
            }
            self.by_token.entry(new).or_insert(places);
        }
    }

    /// Starts the runners that do not run yet, each as soon as its cluster can be reached: what
    /// gives one a token may take its time.
    pub(super) async fn retry(&mut self) {
        let waiting: Vec<(Key, Arc<RunnerSettings>)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.stop.is_none())
            .map(|(key, entry)| (key.clone(), Arc::clone(&entry.settings)))
            .collect();
        let mut making = FuturesUnordered::new();
        for (key, settings) in waiting {
            let made = self.make_runner(settings);
            making.push(async move { (key, made.await) });
        }
        while let Some((key, made)) = making.next().await {
            let started = made.map(|runner| self.start_runner(runner)).map_err(|error| chain(&error));
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            match started {
                Ok((stop, polling)) => {
                    (entry.stop, entry.problem, entry.polling) = (Some(stop), None, polling);
                }
                Err(problem) => {
                    if entry.problem.as_ref() != Some(&problem) {
                        RunnerUnusable { name: &entry.settings.name, problem: &problem }.say();
                    }
                    entry.problem = Some(problem);
                }
            }
            self.show_runners();
        }
        self.renewals.look(&self.shared, self.entries.values_mut(), Timestamp::now());
        self.show_runners();
    }

    /// Shows how many runners work, and why others do not.
    fn show_runners(&self) {
        let mut problems = self.unusable.clone();
        problems.extend(self.entries.values().filter_map(Entry::why_not));
        self.shared.metrics.unusable_runners.set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        if self.waits {
            problems.push(format!("config file {} does not exist: it is waited for", self.file.path().display()));
        }
        let runners = self.entries.values().map(|entry| RunnerLabels::of(&entry.settings, &self.shared.system_id));
        self.shared.health.keep_only(&runners.collect());
        let working = self.entries.values().filter(|entry| entry.stop.is_some()).count();
        self.shared.health.set_runners(working, problems);
    }

    /// A runner with the places that its token has, also from before a change of its entry.
    fn make_runner(
        &mut self,
        settings: Arc<RunnerSettings>,
    ) -> impl Future<Output = Result<Arc<Runner>, RunnerError>> + use<> {
        let limit = settings.limit.map(|limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        let (slots, numbers) = self
            .by_token
            .entry(settings.token.clone())
            .or_insert_with(|| (Slots::new(limit.unwrap_or(0)), Numbers::default()))
            .clone();
        if let Some(limit) = limit {
            slots.resize(limit);
        }
        let own = limit.map(|_| slots);
        Runner::new(settings, Arc::clone(&self.shared), self.sites.clone(), own, numbers)
    }

    fn start_runner(&self, runner: Arc<Runner>) -> (CancellationToken, Weak<Polling>) {
        let settings = &runner.settings;
        let workers = settings.request_concurrency.get();
        let RunnerLabels { runner: name, .. } = &runner.labels;
        PollingBegins { runner: name, url: &settings.url, workers }.say();
        let limit = settings.limit.map_or(0, |limit| i64::from(limit.get()));
        let known = self.shared.running.knows(&runner.labels, &self.shared.metrics);
        self.shared.metrics.seed(&runner.labels, limit, i64::from(workers));
        let end = settings.token_expires_at;
        let renewal = end.map(|end| entries::token_renewal(settings.token_obtained_at, end));
        self.shared.metrics.show_token_life(&runner.labels, renewal, end);
        let stop = self.stop_polling.child_token();
        let ends = PollingEnd { asks: stop.clone(), process: self.stop_polling.clone() };
        let polling = Arc::new(Polling::new(self.settings.check_interval, ends, known));
        pause::keep(&runner, &stop);
        let shown = Arc::downgrade(&polling);
        boot::begin(runner, polling, stop.clone());
        (stop, shown)
    }
}
