//! What a job needs of a cache store, and what it got. Between the two lie a clock and the network,
//! which a plan has not.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_wire::cache::{CacheObject, SignedRequest};

/// What must be fetched or signed before there can be a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Objects of the configured cache store, each once.
    pub objects: Vec<ObjectWant>,
    /// How long the job may use them: its time-out.
    pub valid_for: Duration,
}

/// One use of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectWant {
    /// The object's name in its bucket.
    pub name: String,
    /// What is done with it.
    pub access: Access,
    /// The key of the cache as people write it, which goes with the object.
    pub key: String,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// It is downloaded.
    Read,
    /// It is replaced.
    Write,
}

/// What was fetched and signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The store in words, for the job log.
    pub store: String,
    /// Roots of trust for the store beside the usual ones, PEM.
    pub ca_pem: Option<String>,
    /// A request for each object that was wanted.
    pub requests: BTreeMap<ObjectWant, SignedRequest>,
    /// How long all of them are good for, where that is shorter than was wanted: the keys that they
    /// were signed with end.
    pub life: Option<Duration>,
    /// Why there are none, if there are none.
    pub problem: Option<String>,
}

/// What has to be signed again while a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRenewal {
    /// The objects, each once.
    pub objects: Vec<CacheObject>,
    /// How long what was signed is good for.
    pub life: Duration,
    /// How long the job may use it: its time-out.
    pub valid_for: Duration,
}

impl Links {
    /// Stands for what would be fetched, in a plan that nobody carries out.
    pub fn unsigned(wants: &Wants) -> Self {
        let request = |want: &ObjectWant| {
            let url = format!("unsigned:{}", want.name).into();
            (want.clone(), SignedRequest { url, ..SignedRequest::default() })
        };
        Self { requests: wants.objects.iter().map(request).collect(), ..Self::default() }
    }
}
