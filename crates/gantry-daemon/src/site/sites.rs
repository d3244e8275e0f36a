//! The sites of a process.

use std::sync::Arc;

use gantry_core::chance;
use gantry_kube::{Access, ConnectError};
use gantry_wire::ticket::TicketKey;

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
    list: Arc<tokio::sync::Mutex<KnownSites>>,
}

/// By access and namespace.
type KnownSites = Vec<(Access, Arc<Site>)>;

impl Sites {
    pub(crate) fn new() -> Self {
        Self { owner: format!("{:016x}", chance::bits()).into(), list: Arc::default() }
    }

    /// The site of a namespace. Its watch and its keeper run as long as somebody has it.
    pub(crate) async fn get(
        &self,
        outside: &dyn Outside,
        access: Access,
        namespace: &str,
    ) -> Result<Arc<Site>, ConnectError> {
        let mut list = self.list.lock().await;
        let known = list.iter().find(|(other, site)| *other == access && site.cluster().namespace() == namespace);
        if let Some((_, site)) = known {
            return Ok(Arc::clone(site));
        }
        let selector = format!("{}=true", gantry_plan::LABEL_MANAGED);
        let (cluster, driver) = outside.cluster(access.clone(), namespace.to_owned(), selector).await?;
        tasks::spawn(driver);
        cluster.watch_all();
        let site = Arc::new(Site::new(cluster, Arc::clone(&self.owner)));
        tasks::spawn(keeper::run(Arc::downgrade(&site)));
        list.push((access, Arc::clone(&site)));
        Ok(site)
    }

    /// Lets go of those that no runner and no job has any more. A runner that is made anew has a
    /// moment to find its site again.
    pub(crate) async fn forget_unused(&self) {
        self.list.lock().await.retain(|(_, site)| Arc::strong_count(site) > 1);
    }

    /// A token was exchanged for a new one: jobs of this process stay those that the next manager
    /// can go on with.
    pub(crate) fn reseal(&self, old: TicketKey, new: TicketKey) {
        let sites = self.clone();
        tasks::spawn(async move {
            let all: Vec<Arc<Site>> = sites.list.lock().await.iter().map(|(_, site)| Arc::clone(site)).collect();
            futures::future::join_all(all.iter().map(|site| resealing::reseal(site, &old, &new))).await;
        });
    }

    /// Tells other managers that this one is gone, so that they need not wait until it is silent.
    pub(crate) async fn announce_end(&self) {
        let sites: Vec<Arc<Site>> = self.list.lock().await.iter().map(|(_, site)| Arc::clone(site)).collect();
        futures::future::join_all(sites.iter().map(|site| heart::announce_end(site))).await;
    }
}
