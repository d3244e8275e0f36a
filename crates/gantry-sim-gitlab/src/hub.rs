//! What all request handlers share: the state behind its lock, the repositories, the artifact
//! directory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;
use tokio::sync::{Notify, watch};

use crate::config::ProjectVariable;
use crate::copies::Copies;
use crate::repo::Repo;
use crate::state::World;

/// What is known of projects from the start.
pub(crate) struct Projects {
    pub(crate) repos: Vec<Repo>,
    pub(crate) variables: Vec<ProjectVariable>,
    pub(crate) copies: Copies,
}

pub(crate) struct Hub {
    world: Mutex<World>,
    pub(crate) repos: Vec<Repo>,
    pub(crate) variables: Vec<ProjectVariable>,
    /// What stands for other projects and for URLs.
    pub(crate) copies: Arc<Copies>,
    /// Artifact files; removed with the simulator.
    pub(crate) artifacts: TempDir,
    pub(crate) registration_token: Option<String>,
    /// Becomes true once the server is asked to stop: long polls end then.
    pub(crate) stopping: watch::Sender<bool>,
    /// Wakes the sweep.
    pub(crate) wake: Arc<Notify>,
}

pub(crate) type SharedHub = Arc<Hub>;

impl Hub {
    pub(crate) fn new(
        world: World,
        projects: Projects,
        artifacts: TempDir,
        registration_token: Option<String>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            world: Mutex::new(world),
            repos: projects.repos,
            variables: projects.variables,
            copies: Arc::new(projects.copies),
            artifacts,
            registration_token,
            stopping: watch::Sender::new(false),
            wake,
        }
    }

    /// The state. Never held across an await; a panic elsewhere leaves it usable, since every step
    /// is complete in itself.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository of a project path; the only one if no path is given.
    pub(crate) fn repo(&self, name: Option<&str>) -> Option<&Repo> {
        match (name, self.repos.as_slice()) {
            (Some(name), repos) => repos.iter().find(|repo| repo.name == name),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Runs the sweep at every deadline until the server stops.
    pub(crate) async fn sweep(&self) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let next = self.world().sweep();
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.wake.notified() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }
}
