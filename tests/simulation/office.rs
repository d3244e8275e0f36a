//! Where managers are hired: each has a name, a way to GitLab of its own, and in some worlds a
//! runner of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use crate::cluster::Wire;
use crate::gitlab::{Desk, Line};
use crate::ledger::Ledger;
use crate::managers::{InMemory, Manager, configure};

/// What all managers of a world register with.
const REGISTRATION: &str = "registration-token-of-the-world";

/// How managers differ from each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Customs {
    /// Each registers anew, as in a Deployment that does so in its start command: no disk, no token
    /// is that of the one before.
    pub(crate) anew: bool,
}

/// Makes managers.
pub(crate) struct Office {
    pub(crate) directory: PathBuf,
    pub(crate) url: String,
    /// Of the runner that all managers are, where they do not register anew.
    pub(crate) token: String,
    pub(crate) concurrent: usize,
    pub(crate) customs: Customs,
    pub(crate) desk: Desk,
    pub(crate) line: Arc<Line>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) ledger: Ledger,
    /// When the world began.
    pub(crate) begun: Instant,
    /// How many were hired so far.
    pub(crate) hired: u32,
}

impl Office {
    /// The configuration of all managers that do not register anew.
    pub(crate) fn shared_config(&self) -> PathBuf {
        self.directory.join("config.toml")
    }

    /// Writes that configuration.
    pub(crate) fn open(&self) -> anyhow::Result<()> {
        configure(&self.shared_config(), &self.url, &self.token, self.concurrent)
    }

    /// Starts a manager.
    pub(crate) async fn hire(&mut self) -> anyhow::Result<Manager> {
        self.hired += 1;
        let name = format!("manager-{}", self.hired);
        self.ledger.tell(|| format!("{name} starts"));
        self.ledger.book().manager_lives(&name);
        let config = if self.customs.anew { self.register(&name).await? } else { self.shared_config() };
        let outside = InMemory { line: self.line.of(&name), wire: Arc::clone(&self.wire), begun: self.begun };
        Manager::start(name, config, Arc::new(outside), REGISTRATION).await
    }

    /// A runner and a disk of its own. Its token is random for GitLab, but not for a world that is
    /// to be repeated.
    async fn register(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory: &Path = &self.directory.join(name);
        std::fs::create_dir_all(directory)?;
        let token = format!("glrt-{:03}{}", self.hired, self.token.trim_start_matches("glrt-"));
        self.desk.post("/sim/runners", &json!({"description": name, "token": token})).await?;
        let config = directory.join("config.toml");
        configure(&config, &self.url, &token, self.concurrent)?;
        Ok(config)
    }
}
