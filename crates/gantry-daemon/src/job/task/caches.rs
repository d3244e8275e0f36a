//! Requests that save the job's caches, where those in its plan end before the job has to. The
//! agent saves with the newest that it has: it needs nobody at that moment.

use gantry_wire::cache::ObjectRequests;
use gantry_wire::frame::Frame;

use crate::job::cache_signer::{CacheSigner, Signed};
use crate::job::task::Task;
use crate::notices::{CachesNotRenewed, Notice as _};

/// What is signed again while the job runs.
pub(super) struct FreshCaches {
    /// Until the agent has its plan.
    signer: Option<CacheSigner>,
    /// For a connection that comes: the one before it may not have brought it.
    newest: Vec<ObjectRequests>,
}

impl FreshCaches {
    pub(super) fn new(signer: CacheSigner) -> Self {
        Self { signer: Some(signer), newest: Vec::new() }
    }
}

impl Task {
    /// The agent has its plan, and is there.
    pub(super) fn keep_caches_fresh(&mut self) {
        let Some(caches) = &mut self.caches else { return };
        let newest = caches.newest.clone();
        if let Some(signer) = caches.signer.take() {
            self.background.sign_caches(signer);
        }
        if !newest.is_empty() {
            self.send(Frame::CacheRequests(newest));
        }
    }

    pub(super) fn caches_signed(&mut self, signed: Signed) {
        match signed.requests {
            Ok(requests) => {
                if let Some(caches) = &mut self.caches {
                    caches.newest.clone_from(&requests);
                }
                self.send(Frame::CacheRequests(requests));
            }
            Err(problem) => CachesNotRenewed { problem: &problem }.say(),
        }
        if let Some(signer) = signed.next {
            self.background.sign_caches(signer);
        }
    }
}
