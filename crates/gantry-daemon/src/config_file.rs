//! The configuration file: reading it, noticing that it has changed, and the id of this manager beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gantry_config::{Loaded, Problems};
use gantry_gitlab::system_id;

/// Files that hold a machine's id.
const MACHINE_IDS: [&str; 2] = ["/var/lib/dbus/machine-id", "/etc/machine-id"];

/// Name of the file with the manager's id (GitLab Runner 19.4).
const SYSTEM_ID_FILE: &str = ".runner_system_id";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {path} cannot be read")]
    Read {
        /// Which one.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is invalid; every problem is listed.
    #[error("{}", list(path, problems))]
    Invalid {
        /// Which one.
        path: String,
        /// What is wrong with it.
        problems: Problems,
    },
    /// The file beside it that holds the manager's id cannot be read.
    #[error("{path} cannot be read: it holds the id of this runner manager")]
    SystemId {
        /// Which one.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn list(path: &str, problems: &Problems) -> String {
    let lines: Vec<String> = problems.list.iter().map(|problem| problem.in_file(path).to_string()).collect();
    lines.join("\n")
}

/// The file, and what it was like when it was last read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl ConfigFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks the file.
    pub(crate) fn load(&mut self) -> Result<Loaded, ConfigError> {
        let path = self.path.display().to_string();
        self.seen = stamp(&self.path);
        let text =
            std::fs::read_to_string(&self.path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        gantry_config::load(&text, &|name| std::env::var(name).ok())
            .map_err(|problems| ConfigError::Invalid { path, problems })
    }

    /// Whether the file is another one than was last read. A file that has vanished has not changed: it is being replaced.
    pub(crate) fn has_changed(&self) -> bool {
        stamp(&self.path).is_some_and(|now| Some(now) != self.seen)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: meta.modified().ok(), size: meta.len(), inode: meta.ino() })
}

/// Where certificates by host are looked for: in `certs` beside the configuration, then where GitLab Runner 19.4 looks, which follows the user
/// and not the configuration.
pub fn certificate_directories(config: &Path) -> Vec<PathBuf> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let usual = match (is_root, home) {
        (true, _) => PathBuf::from("/etc/gitlab-runner/certs"),
        (false, Some(home)) => Path::new(&home).join(".gitlab-runner/certs"),
        (false, None) => PathBuf::from("certs"),
    };
    let beside = config.parent().unwrap_or(Path::new(".")).join("certs");
    if beside == usual { vec![usual] } else { vec![beside, usual] }
}

/// The id of this manager: kept beside the config, else made from the machine's id, else random.
///
/// # Errors
/// The file that keeps it is there and cannot be read. One that cannot be written is only a warning.
pub fn system_id(config: &Path) -> Result<String, ConfigError> {
    let file = config.parent().unwrap_or(Path::new(".")).join(SYSTEM_ID_FILE);
    match std::fs::read_to_string(&file) {
        Ok(content) => {
            if let Some(id) = system_id::parse(&content) {
                return Ok(id);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(ConfigError::SystemId { path: file.display().to_string(), source }),
    }
    let machine = MACHINE_IDS.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let id = machine.and_then(|machine| system_id::from_machine_id(machine.trim())).unwrap_or_else(system_id::random);
    if let Err(error) = write_private(&file, &id) {
        tracing::warn!(path = %file.display(), %error, "the id of this runner manager cannot be kept; GitLab will show a new one after a restart");
    }
    Ok(id)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_survives_and_garbage_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let id = system_id(&config).unwrap();
        assert_eq!(system_id(&config).unwrap(), id);
        std::fs::write(dir.path().join(SYSTEM_ID_FILE), "garbage").unwrap();
        assert!(gantry_gitlab::system_id::is_valid(&system_id(&config).unwrap()));
    }

    #[test]
    fn replaced_files_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "concurrent = 1\n").unwrap();
        let mut file = ConfigFile::new(path.clone());
        file.load().unwrap();
        assert!(!file.has_changed());
        std::fs::write(&path, "concurrent = 10\n").unwrap();
        assert!(file.has_changed());
        file.load().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!file.has_changed());
    }
}
