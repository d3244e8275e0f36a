//! Which managers live, as far as pods show it. Pure: it is told the time, which is our own and
//! never goes back, and no other clock counts.
//!
//! A manager that may write on pods renews a counter on one of its job pods every [`BEAT`]. A
//! counter that moves, or a new pod, is a sign of life; that a counter has not moved for
//! [`SILENCE`] while everything was shown is the sign of death. A manager that never writes says
//! nothing by its silence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_kube::PodFacts;
use tokio::time::Instant;

/// Which manager made a pod or has adopted it.
pub(crate) use gantry_plan::{ANNOTATION_HEARTBEAT, ANNOTATION_OWNER};

/// How often a manager says that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(10);

/// Silence after which it counts as gone: one missed beat, and half of another for a slow API
/// server.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// Instead of a counter: the manager has gone in order, and its jobs need somebody else.
pub(crate) const LEFT: &str = "left";

/// Longest name of a manager; ours have 16 characters.
const NAME: usize = 64;

/// What is known of the manager of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This process.
    Us,
    /// Another, which has shown that it lives.
    Lives,
    /// Another, which would show that it lives, and has not had the time yet.
    Presumed,
    /// Another, which would show that it lives, and has not for so long that it does not; or it has
    /// said that it goes.
    Silent,
    /// Another, which never says whether it lives.
    Unheard,
    /// None is named.
    Nobody,
}

/// What has been seen of all managers.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    lives: BTreeMap<String, Life>,
    /// The counter on each pod, by uid.
    pods: BTreeMap<String, Option<String>>,
    /// There was a look before.
    looked: bool,
}

#[derive(Debug)]
struct Life {
    /// It writes counters.
    beats: bool,
    left: bool,
    /// The last sign of life, or the first look.
    at: Instant,
    /// There was a sign of life.
    heard: bool,
}

impl Owners {
    /// Takes in all pods as they are now.
    pub(crate) fn look(&mut self, pods: &[Arc<PodFacts>], now: Instant) {
        let mut counters = BTreeMap::new();
        for facts in pods {
            let known = self.pods.get(&facts.uid);
            let counter = facts.mark(ANNOTATION_HEARTBEAT).map(str::to_owned);
            let is_new = known.is_none() && self.looked;
            let moved = known.is_some_and(|known| *known != counter);
            if let Some(owner) = name(facts) {
                self.sign(owner, is_new, now);
            }
            if let Some((owner, word)) = counter.as_deref().and_then(beat) {
                let life = self.sign(owner, moved && word != LEFT, now);
                life.beats = true;
                life.left |= word == LEFT;
            }
            counters.insert(facts.uid.clone(), counter);
        }
        self.pods = counters;
        self.looked = true;
        let named = |owner: &str| pods.iter().any(|facts| name(facts) == Some(owner));
        self.lives.retain(|owner, _| named(owner));
    }

    fn sign(&mut self, owner: &str, is_sign: bool, now: Instant) -> &mut Life {
        let life =
            self.lives.entry(owner.to_owned()).or_insert(Life { beats: false, left: false, at: now, heard: false });
        if is_sign {
            (life.at, life.heard) = (now, true);
        }
        life
    }

    /// Something may have been missed until now, or nobody could write: no silence counts that
    /// began before.
    pub(crate) fn doubt(&mut self, now: Instant) {
        self.lives.values_mut().for_each(|life| life.at = now);
    }

    /// What is known of a pod's manager; `us` is our own name.
    pub(crate) fn of(&self, facts: &PodFacts, us: &str, now: Instant) -> Owner {
        let Some(owner) = name(facts) else { return Owner::Nobody };
        if owner == us {
            return Owner::Us;
        }
        match self.lives.get(owner) {
            Some(life) if life.left => Owner::Silent,
            Some(life) if !life.beats => Owner::Unheard,
            Some(life) if now.saturating_duration_since(life.at) >= SILENCE => Owner::Silent,
            Some(life) if life.heard => Owner::Lives,
            Some(_) => Owner::Presumed,
            None => Owner::Unheard,
        }
    }
}

/// The manager that a pod names, if it is a name.
pub(crate) fn name(facts: &PodFacts) -> Option<&str> {
    facts.mark(ANNOTATION_OWNER).filter(|text| is_name(text))
}

/// Whether somebody else than a manager has written what should be a manager's name.
pub(crate) fn has_strange_owner(facts: &PodFacts) -> bool {
    facts.mark(ANNOTATION_OWNER).is_some_and(|text| !is_name(text))
}

fn is_name(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= NAME && text.bytes().all(is_fine)
}

/// Whose counter it is, and how far.
fn beat(text: &str) -> Option<(&str, &str)> {
    let (owner, word) = text.split_once(' ')?;
    let is_count = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    (is_name(owner) && (is_count || word == LEFT)).then_some((owner, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, owner: &str, beat: &str) -> Arc<PodFacts> {
        let marks = [(ANNOTATION_OWNER, owner), (ANNOTATION_HEARTBEAT, beat)];
        let marks = marks.iter().filter(|(_, value)| !value.is_empty());
        let marks = marks.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Arc::new(PodFacts { name: uid.to_owned(), uid: uid.to_owned(), marks, ..PodFacts::default() })
    }

    fn after(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn a_counter_that_stops_is_a_death_and_one_that_moves_is_a_life() {
        let begun = Instant::now();
        let mut owners = Owners::default();
        let of = |owners: &Owners, seconds| {
            ["a", "b", "us", ""].map(|owner| owners.of(&pod("x", owner, ""), "us", after(begun, seconds)))
        };
        let seen = |count: u64| [pod("1", "a", &format!("a {count}")), pod("2", "a", ""), pod("3", "b", "")];
        owners.look(&seen(1), begun);
        assert_eq!(of(&owners, 0), [Owner::Presumed, Owner::Unheard, Owner::Us, Owner::Nobody]);
        owners.look(&seen(2), after(begun, 10));
        assert_eq!(of(&owners, 10)[0], Owner::Lives);
        owners.look(&seen(2), after(begun, 24));
        assert_eq!(of(&owners, 24)[0], Owner::Lives);
        assert_eq!(of(&owners, 25)[..2], [Owner::Silent, Owner::Unheard]);
        // It sleeps no more.
        owners.look(&seen(3), after(begun, 40));
        assert_eq!(of(&owners, 40)[0], Owner::Lives);
    }

    #[test]
    fn who_could_not_be_seen_is_not_silent() {
        let begun = Instant::now();
        let mut owners = Owners::default();
        let seen = [pod("1", "a", "a 1")];
        owners.look(&seen, begun);
        owners.doubt(after(begun, 300));
        assert_eq!(owners.of(&seen[0], "us", after(begun, 314)), Owner::Presumed);
        assert_eq!(owners.of(&seen[0], "us", after(begun, 315)), Owner::Silent);
    }

    #[test]
    fn a_new_pod_is_a_sign_of_life_and_a_counter_that_went_with_its_pod_is_remembered() {
        let begun = Instant::now();
        let mut owners = Owners::default();
        owners.look(&[pod("1", "a", "a 7"), pod("2", "a", "")], begun);
        owners.look(&[pod("2", "a", "")], after(begun, 5));
        assert_eq!(owners.of(&pod("2", "a", ""), "us", after(begun, 14)), Owner::Presumed);
        owners.look(&[pod("2", "a", ""), pod("3", "a", "")], after(begun, 14));
        assert_eq!(owners.of(&pod("2", "a", ""), "us", after(begun, 28)), Owner::Lives);
        assert_eq!(owners.of(&pod("2", "a", ""), "us", after(begun, 29)), Owner::Silent);
    }

    #[test]
    fn who_says_that_it_goes_is_gone_at_once() {
        let now = Instant::now();
        let mut owners = Owners::default();
        owners.look(&[pod("1", "a", "a left"), pod("2", "a", "")], now);
        assert_eq!(owners.of(&pod("2", "a", ""), "us", now), Owner::Silent);
        // The pod has another owner since, and what is left on it is old.
        let adopted = pod("1", "b", "a left");
        owners.look(std::slice::from_ref(&adopted), now);
        assert_eq!(owners.of(&adopted, "us", now), Owner::Unheard);
    }

    #[test]
    fn what_no_manager_has_written_counts_for_nothing() {
        let now = Instant::now();
        let mut owners = Owners::default();
        for text in ["x", "a", "a ", "a -1", "a gone", " 1", "A 1", "a 1 2", &format!("{} 1", "a".repeat(65))] {
            owners.look(&[pod("1", "a", text)], now);
            assert_eq!(owners.of(&pod("1", "a", text), "us", now), Owner::Unheard, "{text:?}");
        }
        for name in ["Upper", "sp ace", "ünïcode", &"a".repeat(65)] {
            assert_eq!(owners.of(&pod("1", name, ""), "us", now), Owner::Nobody, "{name:?}");
            assert!(has_strange_owner(&pod("1", name, "")));
        }
    }
}
