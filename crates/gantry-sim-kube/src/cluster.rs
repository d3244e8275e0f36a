//! The parts of one cluster, shared by all that serves or runs it. It holds things together and
//! decides nothing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crate::{
    auth::tokens::Tokens, clock::Clock, config::Config, counters::Counters, faults::Faults, kubelet_state::Kubelet,
    store::Store, tasks::Tasks,
};

/// One simulated cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) counters: Counters,
    pub(crate) faults: Faults,
    pub(crate) tasks: Tasks,
    pub(crate) kubelet: Kubelet,
    /// Held while an object is checked against quotas and stored.
    pub(crate) creating: Mutex<()>,
    /// The certificate authority that pods and clients trust, PEM.
    pub(crate) ca_pem: String,
    /// Where the API server really listens.
    pub(crate) address: SocketAddr,
}

impl Cluster {
    /// A cluster without any object; nothing runs yet.
    pub(crate) fn new(config: Config, kubelet: Kubelet, ca_pem: String, address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::start(),
            store: Store::new(config.watch_history),
            config,
            tokens: Tokens::new(),
            counters: Counters::default(),
            faults: Faults::default(),
            tasks: Tasks::default(),
            kubelet,
            creating: Mutex::default(),
            ca_pem,
            address,
        })
    }
}
