//! The sites of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use gantry_core::chance;
use gantry_kube::{Access, ConnectError};
use gantry_wire::ticket::TicketKey;
use tokio::time::Instant;

use crate::outside::Outside;
use crate::site::shared::Site;
use crate::site::{heart, keeper, resealing};
use crate::tasks;

/// All sites of this process. Clones share them.
#[derive(Clone)]
pub(crate) struct Sites {
    /// What this process is called on pods and by agents: a name that no other process has, not
    /// even an earlier one of the same manager.
    owner: Arc<str>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// By access and namespace.
    sites: Vec<(Access, Arc<Site>)>,
    /// What somebody holds who connects to one, which may take long: others wait who want the same
    /// site, and nobody else.
    turns: Vec<(Access, String, Weak<tokio::sync::Mutex<()>>)>,
}

impl Known {
    fn find(&self, access: &Access, namespace: &str) -> Option<Arc<Site>> {
        let is_it = |(other, site): &&(Access, Arc<Site>)| other == access && site.cluster().namespace() == namespace;
        self.sites.iter().find(is_it).map(|(_, site)| Arc::clone(site))
    }

    /// What to hold while one connects.
    fn turn(&mut self, access: &Access, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.turns.retain(|(.., turn)| turn.strong_count() > 0);
        let mut same = self.turns.iter().filter(|(other, name, _)| other == access && name == namespace);
        if let Some(turn) = same.find_map(|(.., turn)| turn.upgrade()) {
            return turn;
        }
        let turn = Arc::default();
        self.turns.push((access.clone(), namespace.to_owned(), Arc::downgrade(&turn)));
        turn
    }
}

impl Sites {
    pub(crate) fn new() -> Self {
        Self { owner: format!("{:016x}", chance::bits()).into(), known: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The site of a namespace. Its watch and its keeper run as long as somebody has it.
    pub(crate) async fn get(
        &self,
        outside: &dyn Outside,
        access: Access,
        namespace: &str,
    ) -> Result<Arc<Site>, ConnectError> {
        let turn = self.lock().turn(&access, namespace);
        let _turn = turn.lock().await;
        if let Some(site) = self.lock().find(&access, namespace) {
            return Ok(site);
        }
        let selector = format!("{}=true", gantry_plan::LABEL_MANAGED);
        let (cluster, driver) = outside.cluster(access.clone(), namespace.to_owned(), selector).await?;
        tasks::spawn(driver);
        cluster.watch_all();
        let site = Arc::new(Site::new(cluster, Arc::clone(&self.owner)));
        tasks::spawn(keeper::run(Arc::downgrade(&site)));
        self.lock().sites.push((access, Arc::clone(&site)));
        Ok(site)
    }

    /// Lets go of those that no runner and no job has any more, but for those that are kept for
    /// other jobs. A runner that is made anew has a moment to find its site again.
    pub(crate) fn forget_unused(&self, now: Instant) {
        self.lock().sites.retain(|(_, site)| Arc::strong_count(site) > 1 || site.is_kept(now));
    }

    fn all(&self) -> Vec<Arc<Site>> {
        self.lock().sites.iter().map(|(_, site)| Arc::clone(site)).collect()
    }

    /// A token was exchanged for a new one: jobs of this process stay those that the next manager
    /// can go on with.
    pub(crate) fn reseal(&self, old: TicketKey, new: TicketKey) {
        let sites = self.clone();
        tasks::spawn(async move {
            let all = sites.all();
            futures::future::join_all(all.iter().map(|site| resealing::reseal(site, &old, &new))).await;
        });
    }

    /// Tells other managers that this one is gone, so that they need not wait until it is silent.
    pub(crate) async fn announce_end(&self) {
        let sites = self.all();
        futures::future::join_all(sites.iter().map(|site| heart::announce_end(site))).await;
    }
}

#[cfg(test)]
mod tests;
