//! Faults that a test asks for, and which requests they meet. Pure: what a fault does to a request
//! and its answer is done in `api/faults.rs` and `connection.rs`. The dice of a fault have a seed,
//! so that a run can be repeated.

use std::time::Duration;

use globset::GlobMatcher;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use crate::limits;

/// A request as far as faults look at it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Its name, see [`endpoint`].
    pub(crate) endpoint: &'static str,
    pub(crate) job: Option<u64>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// It waits before it goes on.
    Delay(Duration),
    /// It is answered so.
    Status { status: u16, headers: Map<String, Value>, body: Option<Value> },
    /// The connection ends without an answer, after so many bytes of the request's body, or at
    /// once.
    Drop { after: Option<u64> },
    /// No answer ever comes, and the connection stays open.
    Hang,
    /// The connection ends after so many bytes of the answer's body.
    Cut { after: u64 },
    /// Nothing comes after so many bytes of the answer's body, and the connection stays open.
    Stall { after: u64 },
}

impl Act {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Status { .. } => "status",
            Self::Drop { .. } => "drop",
            Self::Hang => "hang",
            Self::Cut { .. } => "cut",
            Self::Stall { .. } => "stall",
        }
    }
}

/// Which requests a fault meets; everything given must fit.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// An endpoint's name, or the part of it before a slash.
    pub(crate) endpoint: Option<String>,
    pub(crate) method: Option<String>,
    /// A pattern of paths and its text.
    pub(crate) path: Option<(String, GlobMatcher)>,
    pub(crate) job: Option<u64>,
}

impl Target {
    fn meets(&self, call: &Call<'_>) -> bool {
        let named = |wanted: &String| {
            call.endpoint.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.endpoint.as_ref().is_none_or(named)
            && self.method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(call.method))
            && self.path.as_ref().is_none_or(|(_, path)| path.is_match(call.path))
            && self.job.is_none_or(|job| call.job == Some(job))
    }
}

/// How often a fault strikes.
#[derive(Debug)]
pub(crate) struct Odds {
    /// The first so many requests are let through.
    pub(crate) skip: u64,
    /// At most so often.
    pub(crate) count: Option<u64>,
    pub(crate) probability: f64,
    pub(crate) seed: u64,
}

/// A fault that is set.
#[derive(Debug)]
pub(crate) struct Fault {
    id: u64,
    target: Target,
    act: Act,
    /// The request is carried out first; only its answer is lost.
    processed: bool,
    odds: Odds,
    dice: StdRng,
    seen: u64,
    applied: u64,
}

/// What one request has to endure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Strike {
    /// The fault's number.
    pub(crate) id: u64,
    pub(crate) act: Act,
    pub(crate) processed: bool,
}

impl Fault {
    fn strikes(&mut self, call: &Call<'_>) -> bool {
        if !self.target.meets(call) {
            return false;
        }
        self.seen += 1;
        if self.seen <= self.odds.skip || self.is_spent() {
            return false;
        }
        if self.odds.probability < 1.0 && self.dice.random::<f64>() >= self.odds.probability {
            return false;
        }
        self.applied += 1;
        true
    }

    fn is_spent(&self) -> bool {
        self.odds.count.is_some_and(|count| self.applied >= count)
    }

    pub(crate) fn view(&self) -> Value {
        let mut view = json!({
            "id": self.id,
            "endpoint": self.target.endpoint,
            "method": self.target.method,
            "path": self.target.path.as_ref().map(|(text, _)| text),
            "job": self.target.job,
            "fault": self.act.word(),
            "processed": self.processed,
            "skip": self.odds.skip,
            "count": self.odds.count,
            "probability": self.odds.probability,
            "seed": self.odds.seed,
            "seen": self.seen,
            "applied": self.applied,
        });
        if let Some(view) = view.as_object_mut() {
            match &self.act {
                Act::Delay(delay) => drop(view.insert("seconds".to_owned(), json!(delay.as_secs_f64()))),
                Act::Status { status, headers, body } => {
                    view.insert("status".to_owned(), json!(status));
                    view.insert("headers".to_owned(), json!(headers));
                    view.insert("body".to_owned(), json!(body));
                }
                Act::Drop { after } => drop(view.insert("bytes".to_owned(), json!(after))),
                Act::Hang => {}
                Act::Cut { after } | Act::Stall { after } => drop(view.insert("bytes".to_owned(), json!(after))),
            }
        }
        view
    }
}

/// All faults that are set.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
    last_id: u64,
}

impl Faults {
    /// Sets a fault; `None` when there are too many. Spent ones make room.
    pub(crate) fn add(&mut self, target: Target, act: Act, processed: bool, odds: Odds) -> Option<&Fault> {
        if self.list.len() >= limits::FAULTS {
            self.list.retain(|fault| !fault.is_spent());
        }
        if self.list.len() >= limits::FAULTS {
            return None;
        }
        self.last_id += 1;
        let dice = StdRng::seed_from_u64(odds.seed);
        self.list.push(Fault { id: self.last_id, target, act, processed, odds, dice, seen: 0, applied: 0 });
        self.list.last()
    }

    pub(crate) fn view(&self) -> Value {
        self.list.iter().map(Fault::view).collect()
    }

    /// How many of them can still strike.
    pub(crate) fn count(&self) -> usize {
        self.list.iter().filter(|fault| !fault.is_spent()).count()
    }

    /// Removes one fault, or all; how many there were.
    pub(crate) fn remove(&mut self, id: Option<u64>) -> usize {
        let before = self.list.len();
        self.list.retain(|fault| id.is_some_and(|id| fault.id != id));
        before - self.list.len()
    }

    /// What a request has to endure: delays, and at most one other fault, the first that strikes.
    pub(crate) fn strike(&mut self, call: &Call<'_>) -> Vec<Strike> {
        let mut strikes = Vec::new();
        for fault in &mut self.list {
            if fault.strikes(call) {
                strikes.push(Strike { id: fault.id, act: fault.act.clone(), processed: fault.processed });
                if !matches!(fault.act, Act::Delay(_)) {
                    break;
                }
            }
        }
        strikes
    }
}

/// The names of endpoints, as faults and people use them.
pub(crate) const ENDPOINTS: [&str; 14] = [
    "jobs/request",
    "update",
    "trace",
    "artifacts/upload",
    "artifacts/download",
    "artifacts/storage",
    "runners/register",
    "runners/verify",
    "runners/unregister",
    "runners/reset",
    "runners/discovery",
    "git/refs",
    "git/upload-pack",
    "other",
];

/// The name of a request's endpoint, and the job in its path.
pub(crate) fn endpoint(method: &str, path: &str) -> (&'static str, Option<u64>) {
    if path.starts_with("/-/storage/") {
        return ("artifacts/storage", None);
    }
    if let Some((_, service)) = path.split_once(".git/") {
        return (if service == "info/refs" { "git/refs" } else { "git/upload-pack" }, None);
    }
    let parts: Vec<&str> = path.strip_prefix("/api/v4/").unwrap_or_default().split('/').collect();
    let job = parts.get(1).and_then(|id| id.parse().ok());
    match (method, parts.as_slice()) {
        ("POST", ["jobs", "request"]) => ("jobs/request", None),
        ("PUT", ["jobs", _]) => ("update", job),
        ("PATCH", ["jobs", _, "trace"]) => ("trace", job),
        ("POST", ["jobs", _, "artifacts"]) => ("artifacts/upload", job),
        ("GET", ["jobs", _, "artifacts"]) => ("artifacts/download", job),
        ("POST", ["runners"]) => ("runners/register", None),
        ("POST", ["runners", "verify"]) => ("runners/verify", None),
        ("DELETE", ["runners"] | ["runners", "managers"]) => ("runners/unregister", None),
        ("POST", ["runners", .., "reset_authentication_token"]) => ("runners/reset", None),
        ("GET", ["runners", "router", "discovery"]) => ("runners/discovery", None),
        _ => ("other", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &'static str, path: &'static str) -> Call<'static> {
        let (endpoint, job) = endpoint(method, path);
        Call { method, path, endpoint, job }
    }

    fn always() -> Odds {
        Odds { skip: 0, count: None, probability: 1.0, seed: 1 }
    }

    #[test]
    fn endpoints_have_names() {
        for (method, path, name, job) in [
            ("POST", "/api/v4/jobs/request", "jobs/request", None),
            ("PUT", "/api/v4/jobs/7", "update", Some(7)),
            ("PATCH", "/api/v4/jobs/7/trace", "trace", Some(7)),
            ("POST", "/api/v4/jobs/7/artifacts", "artifacts/upload", Some(7)),
            ("GET", "/api/v4/jobs/7/artifacts", "artifacts/download", Some(7)),
            ("GET", "/-/storage/x/y.zip", "artifacts/storage", None),
            ("POST", "/api/v4/runners", "runners/register", None),
            ("DELETE", "/api/v4/runners/managers", "runners/unregister", None),
            ("POST", "/api/v4/runners/4/reset_authentication_token", "runners/reset", None),
            ("GET", "/g/p.git/info/refs", "git/refs", None),
            ("POST", "/g/p.git/git-upload-pack", "git/upload-pack", None),
            ("GET", "/nothing", "other", None),
        ] {
            assert_eq!(endpoint(method, path), (name, job), "{method} {path}");
            assert!(ENDPOINTS.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_fault_meets_what_fits_all_of_its_conditions() {
        let glob = |text: &str| (text.to_owned(), globset::Glob::new(text).expect("a pattern").compile_matcher());
        let trace = call("PATCH", "/api/v4/jobs/7/trace");
        let upload = call("POST", "/api/v4/jobs/7/artifacts");
        let target = Target { endpoint: Some("artifacts".to_owned()), ..Target::default() };
        assert!(target.meets(&upload) && !target.meets(&trace));
        let target = Target { endpoint: Some("art".to_owned()), ..Target::default() };
        assert!(!target.meets(&upload), "only whole parts of a name");
        let target = Target { method: Some("patch".to_owned()), job: Some(7), ..Target::default() };
        assert!(target.meets(&trace) && !target.meets(&upload));
        let target = Target { path: Some(glob("/api/v4/jobs/*/trace")), job: Some(8), ..Target::default() };
        assert!(!target.meets(&trace));
        assert!(Target::default().meets(&trace));
    }

    #[test]
    fn skip_and_count_make_a_window() {
        let mut faults = Faults::default();
        let odds = Odds { skip: 1, count: Some(2), ..always() };
        faults.add(Target::default(), Act::Hang, false, odds).expect("room");
        let struck: Vec<bool> = (0..5).map(|_| !faults.strike(&call("GET", "/x")).is_empty()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!((&faults.view()[0]["seen"], &faults.view()[0]["applied"]), (&json!(5), &json!(2)));
        assert_eq!((faults.remove(Some(9)), faults.remove(None)), (0, 1));
    }

    #[test]
    fn the_same_seed_throws_the_same_dice() {
        let throw = |seed: u64| -> Vec<bool> {
            let mut faults = Faults::default();
            let odds = Odds { probability: 0.5, seed, ..always() };
            faults.add(Target::default(), Act::Hang, false, odds).expect("room");
            (0..64).map(|_| !faults.strike(&call("GET", "/x")).is_empty()).collect()
        };
        assert_eq!(throw(3), throw(3));
        assert_ne!(throw(3), throw(4));
        let hits = throw(3).into_iter().filter(|hit| *hit).count();
        assert!((16..48).contains(&hits), "{hits} of 64");
    }

    #[test]
    fn delays_add_up_and_the_first_other_fault_decides() {
        let mut faults = Faults::default();
        let delay = || Act::Delay(Duration::from_secs(1));
        for act in [delay(), Act::Hang, delay(), Act::Cut { after: 1 }] {
            faults.add(Target::default(), act, false, always()).expect("room");
        }
        let acts: Vec<Act> = faults.strike(&call("GET", "/x")).into_iter().map(|strike| strike.act).collect();
        assert_eq!(acts, [delay(), Act::Hang]);
    }
}
