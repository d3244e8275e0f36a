//! The configuration file: reading it, noticing that it has changed, and the id of this manager
//! beside it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gantry_config::settings::LogSettings;
use gantry_config::{Loaded, Problem, Problems, Severity, UnusableRunner};
use gantry_gitlab::system_id;
use gantry_http::Stamp;

use crate::config_write;

/// Files that hold a machine's id.
const MACHINE_IDS: [&str; 2] = ["/var/lib/dbus/machine-id", "/etc/machine-id"];

/// Name of the file with the manager's id (GitLab Runner 19.4).
pub const SYSTEM_ID_FILE: &str = ".runner_system_id";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {path} cannot be read{}", by_whom(Path::new(path), source))]
    Read {
        /// Which one.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no such file.
    #[error("config file {path} does not exist")]
    Missing {
        /// Which one.
        path: String,
    },
    /// The file is invalid.
    #[error("config file {path} cannot be used: it has {}", errors(problems.errors().count()))]
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

/// What an operator needs to know whose service is another user than the file's.
fn by_whom(path: &Path, error: &io::Error) -> String {
    let own = std::fs::metadata("/proc/self").map(|process| process.uid());
    // A closed directory does not even show whose its files are.
    let owner = path.ancestors().find_map(|path| std::fs::metadata(path).ok()).map(|file| file.uid());
    match (error.kind(), own, owner) {
        (io::ErrorKind::PermissionDenied, Ok(own), Some(owner)) if own != owner => {
            let directory = config_write::directory(path);
            let directory = directory.display();
            format!(" by user {own}, as it belongs to user {owner} (it is given away by: chown -R {own} {directory})")
        }
        _ => String::new(),
    }
}

fn errors(count: usize) -> String {
    if count == 1 { "an error".to_owned() } else { format!("{count} errors") }
}

/// Logs problems of a file, each at its level.
pub(crate) fn log_problems<'p>(path: &Path, problems: impl IntoIterator<Item = &'p Problem>) {
    let path = path.display().to_string();
    for problem in problems {
        match problem.severity {
            Severity::Error => tracing::error!("{}", problem.in_file(&path)),
            Severity::Warning => tracing::warn!("{}", problem.in_file(&path)),
        }
    }
}

/// Why an entry of a file cannot work, in one line.
pub(crate) fn why_unusable(path: &Path, entry: &UnusableRunner) -> String {
    let path = path.display().to_string();
    let first = entry.errors.first().map(|error| error.in_file(&path).to_string()).unwrap_or_default();
    let more = match entry.errors.len().saturating_sub(1) {
        0 => String::new(),
        1 => ", and one more error".to_owned(),
        more => format!(", and {more} more errors"),
    };
    format!("runner {:?} cannot work: {first}{more}", entry.name)
}

/// The file, and what it was like when it was last read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    seen: Option<Stamp>,
    /// Looks in a row that did not find it, although it was there before.
    misses: u32,
}

/// What became of the file since it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing that needs to be done or said.
    Same,
    /// It is another one than was last read.
    Changed,
    /// It is not there any more. Said once.
    Gone,
    /// It is there again as it was last read.
    Back,
}

/// A file that is not found once may be just being replaced; twice in a row it is gone.
const MISSES_OF_A_GONE_FILE: u32 = 2;

impl ConfigFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: None, misses: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks the file.
    pub(crate) fn load(&mut self) -> Result<Loaded, ConfigError> {
        let path = self.path.display().to_string();
        self.seen = Stamp::of(&self.path);
        let text = config_write::read(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing { path: path.clone() },
            _ => ConfigError::Read { path: path.clone(), source },
        })?;
        self.parse(&text)
    }

    /// Reads it for the first time; `true` where there is no such file yet, which is as if it said
    /// nothing. How to log is told first, to `set_log`, so that what is wrong is logged as the file
    /// wants it.
    pub(crate) fn load_first(&mut self, set_log: &dyn Fn(LogSettings)) -> Result<(Loaded, bool), ConfigError> {
        match self.load() {
            Ok(loaded) => {
                set_log(loaded.settings.log);
                Ok((loaded, false))
            }
            Err(ConfigError::Missing { .. }) => Ok((self.empty()?, true)),
            Err(error) => {
                if let ConfigError::Invalid { problems, .. } = &error {
                    set_log(problems.log);
                    log_problems(self.path(), &problems.list);
                }
                Err(error)
            }
        }
    }

    /// What a file says that says nothing.
    fn empty(&self) -> Result<Loaded, ConfigError> {
        self.parse("")
    }

    fn parse(&self, text: &str) -> Result<Loaded, ConfigError> {
        let path = self.path.display().to_string();
        gantry_config::load(text, &|name| std::env::var(name).ok())
            .map_err(|problems| ConfigError::Invalid { path, problems })
    }

    /// Looks whether the file is another one than was last read.
    pub(crate) fn look(&mut self) -> Look {
        let Some(now) = Stamp::of(&self.path) else {
            self.misses = self.misses.saturating_add(u32::from(self.seen.is_some()));
            return if self.misses == MISSES_OF_A_GONE_FILE { Look::Gone } else { Look::Same };
        };
        let misses = std::mem::take(&mut self.misses);
        if Some(now) != self.seen {
            Look::Changed
        } else if misses >= MISSES_OF_A_GONE_FILE {
            Look::Back
        } else {
            Look::Same
        }
    }
}

/// The directory of certificates by host: `<host>.crt` for what is trusted, `<host>.auth.crt` and
/// `<host>.auth.key` for who we are.
pub const CERTIFICATES: &str = "certs";

/// Where certificates by host are looked for: in `certs` beside the configuration, then where
/// GitLab Runner 19.4 looks, which follows the user and not the configuration.
pub fn certificate_directories(config: &Path) -> Vec<PathBuf> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let usual = match (is_root, home) {
        (true, _) => PathBuf::from("/etc/gitlab-runner/certs"),
        (false, Some(home)) => Path::new(&home).join(".gitlab-runner/certs"),
        (false, None) => PathBuf::from(CERTIFICATES),
    };
    let beside = config.parent().unwrap_or(Path::new(".")).join(CERTIFICATES);
    if beside == usual { vec![usual] } else { vec![beside, usual] }
}

/// The id of this manager as it is kept beside the config, if one is. Makes none.
pub fn kept_system_id(config: &Path) -> Option<String> {
    let file = config.parent().unwrap_or(Path::new(".")).join(SYSTEM_ID_FILE);
    std::fs::read_to_string(file).ok().and_then(|content| system_id::parse(&content))
}

/// The id of this manager: kept beside the config, else made from the machine's id, else random.
///
/// # Errors
/// The file that keeps it is there and cannot be read. One that cannot be written is only a
/// warning.
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
    file.write_all(text.as_bytes())?;
    config_write::give_to_owner_of(&config_write::directory(path), &file);
    Ok(())
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

    /// Root can read every file, so that the case is made of what it would hear.
    #[test]
    fn who_cannot_read_a_file_of_another_user_is_told_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let read = |kind: io::ErrorKind| {
            let source = io::Error::from(kind);
            ConfigError::Read { path: path.display().to_string(), source }.to_string()
        };
        let plain = format!("config file {} cannot be read", path.display());
        assert_eq!(read(io::ErrorKind::PermissionDenied), plain, "it is this user's own");
        if std::os::unix::fs::chown(dir.path(), Some(4711), None).is_ok() {
            let said = read(io::ErrorKind::PermissionDenied);
            let advice =
                format!("as it belongs to user 4711 (it is given away by: chown -R 0 {})", dir.path().display());
            assert!(said.starts_with(&plain) && said.ends_with(&advice), "{said}");
            assert_eq!(read(io::ErrorKind::InvalidData), plain);
        }
    }

    #[test]
    fn replaced_files_are_noticed_and_gone_ones_once() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("config.toml"), dir.path().join("aside"));
        let mut file = ConfigFile::new(path.clone());
        assert!(matches!(file.load(), Err(ConfigError::Missing { .. })));
        assert_eq!([file.look(), file.look(), file.look()], [Look::Same; 3], "it is waited for");
        std::fs::write(&path, "concurrent = 1\n").unwrap();
        assert_eq!(file.look(), Look::Changed);
        file.load().unwrap();
        assert_eq!(file.look(), Look::Same);
        std::fs::write(&path, "concurrent = 10\n").unwrap();
        assert_eq!(file.look(), Look::Changed);
        file.load().unwrap();
        std::fs::rename(&path, &aside).unwrap();
        assert_eq!([file.look(), file.look(), file.look()], [Look::Same, Look::Gone, Look::Same]);
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!([file.look(), file.look()], [Look::Back, Look::Same]);
    }

    #[test]
    fn unusable_entries_in_one_line() {
        let text =
            "[[runners]]\nname = \"empty\"\n[[runners]]\nurl = \"x\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n";
        let unusable = gantry_config::load(text, &|_| None).unwrap().unusable;
        let lines: Vec<String> = unusable.iter().map(|entry| why_unusable(Path::new("/c.toml"), entry)).collect();
        let first = "runner \"empty\" cannot work: /c.toml:1: runners[0].url: is missing: without the address of GitLab the runner can do nothing, and 2 more errors";
        assert_eq!(
            lines,
            [first, "runner \"\" cannot work: /c.toml:4: runners[1].url: must begin with http:// or https://"]
        );
    }
}
