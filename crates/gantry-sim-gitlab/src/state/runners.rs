//! The runners GitLab knows, with their tokens and managers (system ids). No IO.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::Now;
use crate::limits;

/// A runner as GitLab stores it.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) token: String,
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    pub(crate) run_untagged: bool,
    /// The preset runner: takes jobs of any tag, so that a project's tags need no set-up here.
    pub(crate) any_tags: bool,
    pub(crate) paused: bool,
    pub(crate) locked: bool,
    pub(crate) access_level: Option<String>,
    /// Seconds; caps the time-out of the runner's jobs.
    pub(crate) maximum_timeout: Option<u64>,
    pub(crate) created_at: Timestamp,
    /// When the token stops working; `None` is never.
    pub(crate) token_expires: Option<Now>,
    pub(crate) managers: BTreeMap<String, Manager>,
}

/// One process of a runner, by its system id.
#[derive(Debug)]
pub(crate) struct Manager {
    pub(crate) info: Value,
    pub(crate) contacted_at: Timestamp,
}

/// Requests without a system id are counted for this one (GitLab server).
pub(crate) const LEGACY_SYSTEM_ID: &str = "<legacy>";

impl Runner {
    pub(crate) fn new(id: u64, token: String, now: Timestamp) -> Self {
        Self {
            id,
            token,
            description: String::new(),
            tags: Vec::new(),
            run_untagged: true,
            any_tags: false,
            paused: false,
            locked: true,
            access_level: None,
            maximum_timeout: None,
            created_at: now,
            token_expires: None,
            managers: BTreeMap::new(),
        }
    }

    /// Does the runner take jobs with these tags?
    pub(crate) fn takes(&self, tags: &[String]) -> bool {
        self.any_tags
            || if tags.is_empty() { self.run_untagged } else { tags.iter().all(|tag| self.tags.contains(tag)) }
    }

    /// Notes a contact of one of the runner's managers. Without `info`, as older runners verify,
    /// what is known stays.
    pub(crate) fn contact(&mut self, system_id: &str, info: Option<Value>, now: Timestamp) {
        if self.managers.len() >= limits::MANAGERS_PER_RUNNER && !self.managers.contains_key(system_id) {
            let oldest = self.managers.iter().min_by_key(|(_, manager)| manager.contacted_at);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.managers.remove(&oldest);
            }
        }
        let manager = self
            .managers
            .entry(system_id.to_owned())
            .or_insert_with(|| Manager { info: Value::Null, contacted_at: now });
        manager.contacted_at = now;
        if let Some(info) = info {
            manager.info = info;
        }
    }

    /// Has the token stopped working?
    pub(crate) fn token_expired(&self, now: Now) -> bool {
        self.token_expires.is_some_and(|expires| now.at >= expires.at)
    }

    /// `token_expires_at` as GitLab writes it: ISO 8601 with milliseconds.
    pub(crate) fn token_expires_at(&self) -> Option<String> {
        self.token_expires.map(|expires| expires.wall.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
    }

    pub(crate) fn view(&self) -> Value {
        let managers = self.managers.iter().map(|(system_id, manager)| {
            json!({"system_id": system_id, "contacted_at": manager.contacted_at, "info": manager.info})
        });
        json!({
            "id": self.id,
            "description": self.description,
            "tags": self.tags,
            "run_untagged": self.run_untagged,
            "takes_any_tags": self.any_tags,
            "paused": self.paused,
            "locked": self.locked,
            "access_level": self.access_level,
            "maximum_timeout": self.maximum_timeout,
            "created_at": self.created_at,
            "token_expires_at": self.token_expires_at(),
            "managers": managers.collect::<Value>(),
        })
    }
}

/// All runners.
#[derive(Debug, Default)]
pub(crate) struct Runners {
    list: BTreeMap<u64, Runner>,
    last_id: u64,
}

impl Runners {
    /// Adds a runner; `None` when there are too many.
    pub(crate) fn add(&mut self, token: String, now: Timestamp) -> Option<&mut Runner> {
        if self.list.len() >= limits::RUNNERS {
            return None;
        }
        self.last_id += 1;
        let id = self.last_id;
        Some(self.list.entry(id).or_insert_with(|| Runner::new(id, token, now)))
    }

    /// The runner of a token that works.
    pub(crate) fn by_token(&mut self, token: &str, now: Now) -> Option<&mut Runner> {
        self.list.values_mut().find(|runner| runner.token == token && !runner.token_expired(now))
    }

    /// Could any runner take a job with these tags?
    pub(crate) fn any_takes(&self, tags: &[String]) -> bool {
        self.list.values().any(|runner| !runner.paused && runner.takes(tags))
    }

    pub(crate) fn by_id_mut(&mut self, id: u64) -> Option<&mut Runner> {
        self.list.get_mut(&id)
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<&Runner> {
        self.list.get(&id)
    }

    /// `false` if there is none.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        self.list.remove(&id).is_some()
    }

    pub(crate) fn view(&self) -> Value {
        self.list.values().map(Runner::view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_without_info_keeps_what_is_known() {
        let mut runner = Runner::new(1, "t".to_owned(), Timestamp::UNIX_EPOCH);
        runner.contact("s_1", None, Timestamp::UNIX_EPOCH);
        assert_eq!(runner.view()["managers"][0]["info"], Value::Null);
        runner.contact("s_1", Some(json!({"name": "n"})), Timestamp::UNIX_EPOCH);
        runner.contact("s_1", None, Timestamp::UNIX_EPOCH);
        assert_eq!(runner.view()["managers"][0]["info"]["name"], "n");
    }

    #[test]
    fn tags_decide_which_jobs_a_runner_takes() {
        let mut runner = Runner::new(1, "t".to_owned(), Timestamp::UNIX_EPOCH);
        runner.tags = vec!["a".to_owned(), "b".to_owned()];
        assert!(runner.takes(&[]));
        assert!(runner.takes(&["b".to_owned()]));
        assert!(!runner.takes(&["b".to_owned(), "c".to_owned()]));
        runner.run_untagged = false;
        assert!(!runner.takes(&[]));
        runner.any_tags = true;
        assert!(runner.takes(&["c".to_owned()]));
    }
}
