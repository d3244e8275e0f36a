//! Puts another text in the place of the configuration: for the commands that change it, and for
//! tokens that the daemon renews. Nobody sees half a file where files can be replaced, and who
//! changes it holds it meanwhile, so that no change undoes another. It never writes an expanded
//! `$VAR`, and never touches what it was not asked to change.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_config::edit::{EditError, Editor, RunnerRef, Value};
use gantry_core::Secret;
use jiff::Timestamp;

/// Only its owner may read a file with tokens.
const FILE_MODE: u32 = 0o600;

/// How often a change tries to hold the file, and the pause between: five seconds, where another
/// change takes as long as a file takes to be written.
const HELD_TRIES: usize = 250;
const HELD_PAUSE: Duration = Duration::from_millis(20);

/// The first second of the year 1: the zero time of Go, which the reference writes for tokens that
/// do not end.
const NEVER: i64 = -62_135_596_800;

/// What the file says of a token that does not end.
pub fn never() -> Timestamp {
    Timestamp::from_second(NEVER).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The text of a configuration.
///
/// # Errors
/// It cannot be read, or is not in UTF-8: the error says where that shows.
pub fn read(path: &Path) -> io::Result<String> {
    gantry_config::text_of(fs::read(path)?).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Why a file does not hold a new token.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which one.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be changed.
    #[error("{path} cannot be changed")]
    Edit {
        /// Which one.
        path: String,
        /// Why not.
        #[source]
        source: EditError,
    },
    /// It cannot be written.
    #[error("{path} cannot be written")]
    Write {
        /// Which one.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The entry is not there any more.
    #[error("{path} has no entry with the old token any more")]
    Gone {
        /// Which one.
        path: String,
    },
}

/// A token that GitLab has given in exchange for another.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The token.
    pub token: Secret,
    /// When it was given.
    pub obtained: Timestamp,
    /// When it ends; nothing for never.
    pub expires: Option<Timestamp>,
}

/// Puts `new` in the place of the token `old` in every entry of the file that has it, as the file
/// is now, and says how many they were: none where the file holds the new one already.
///
/// # Errors
/// The file does not hold the new token.
pub fn keep_token(path: &Path, old: &Secret, new: &NewToken) -> Result<usize, KeepError> {
    let shown = path.display().to_string();
    let _held = hold(path).map_err(|source| KeepError::Write { path: shown.clone(), source })?;
    let text = read(path).map_err(|source| KeepError::Read { path: shown.clone(), source })?;
    let edit = |source| KeepError::Edit { path: shown.clone(), source };
    let mut editor = Editor::parse(&text).map_err(edit)?;
    let env = |name: &str| std::env::var(name).ok();
    let runners = editor.runners(&env);
    let holds_new = runners.iter().any(|runner| runner.token == new.token);
    let entries: Vec<RunnerRef> = runners.into_iter().filter(|runner| runner.token == *old).collect();
    if entries.is_empty() {
        return if holds_new { Ok(0) } else { Err(KeepError::Gone { path: shown }) };
    }
    for entry in &entries {
        let values = [
            ("token", Value::Secret(new.token.clone())),
            ("token_obtained_at", Value::Time(new.obtained)),
            ("token_expires_at", Value::Time(new.expires.unwrap_or_else(never))),
        ];
        for (key, value) in values {
            editor.set_runner(entry.index, &[key.to_owned()], &value).map_err(edit)?;
        }
    }
    save(path, &editor.text()).map_err(|source| KeepError::Write { path: shown.clone(), source })?;
    Ok(entries.len())
}

/// A file that nobody else changes, until this is dropped.
#[derive(Debug)]
pub struct Held {
    _directory: Option<File>,
}

/// Holds a file from before it is read until its new text is written. The lock is that of its
/// directory, because the file itself is replaced; where there are no locks nothing is held.
///
/// # Errors
/// Another process has held it for too long.
pub fn hold(path: &Path) -> io::Result<Held> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Ok(directory) = File::open(directory(&target)) else { return Ok(Held { _directory: None }) };
    for _ in 0..HELD_TRIES {
        match directory.try_lock() {
            Ok(()) => return Ok(Held { _directory: Some(directory) }),
            Err(TryLockError::WouldBlock) => pause(),
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "the configuration cannot be locked while it is changed");
                return Ok(Held { _directory: None });
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process is changing it"))
}

#[expect(clippy::disallowed_methods, reason = "files are changed by what may block, also by commands without a clock")]
fn pause() {
    std::thread::sleep(HELD_PAUSE);
}

/// Makes sure that the file can be changed, before something is done that has to be written to it.
///
/// # Errors
/// It cannot.
pub fn ensure_writable(path: &Path) -> io::Result<()> {
    // Nothing is written to a file that is not there.
    let Ok(target) = fs::canonicalize(path) else { return Ok(()) };
    // Either is enough: the file is replaced, or where that is impossible written to in place.
    let Err(error) = OpenOptions::new().write(true).open(&target) else { return Ok(()) };
    match tempfile::tempfile_in(directory(&target)) {
        Ok(_) => Ok(()),
        Err(_) => Err(error),
    }
}

/// Puts `text` in the place of the file at once: a reader sees the old text or the new one. The
/// owner stays, the mode becomes 0600. Where files cannot be replaced, as when one is mounted by
/// itself, it is written in place, and a reader may see the beginning of the new text with the rest
/// of the old one.
///
/// # Errors
/// Neither is possible.
pub fn save(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match replace(&target, text) {
        Ok(()) => Ok(()),
        Err(error) if !target.exists() || !is_about_names(&error) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "the configuration cannot be replaced and is written in place");
            write_in_place(&target, text)
        }
    }
}

/// Whether the directory is the obstacle, and not the writing. A full disk must not cost the old
/// text.
fn is_about_names(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), CrossesDevices | PermissionDenied | ReadOnlyFilesystem | ResourceBusy)
}

fn replace(target: &Path, text: &str) -> io::Result<()> {
    let directory = directory(target);
    let mut file = tempfile::Builder::new()
        .prefix(".config-")
        .permissions(Permissions::from_mode(FILE_MODE))
        .tempfile_in(&directory)?;
    file.write_all(text.as_bytes())?;
    match fs::metadata(target) {
        Ok(old) => give(file.as_file(), &old)?,
        Err(_) => give_to_owner_of(&directory, file.as_file()),
    }
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    // So that the new name survives a power cut too. Not all file systems can do it, and then
    // nothing is lost but that.
    if let Ok(directory) = File::open(&directory) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// Gives a file to the owner of another.
fn give(file: &File, like: &fs::Metadata) -> io::Result<()> {
    let now = file.metadata()?;
    if (like.uid(), like.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))
}

/// Gives a new file to the owner of its directory: what root writes there, as by `sudo gantry
/// register`, must be readable for the user of the service. Only root can do that, and nobody else
/// has to.
pub(crate) fn give_to_owner_of(directory: &Path, file: &File) {
    if let Err(error) = fs::metadata(directory).and_then(|like| give(file, &like)) {
        tracing::debug!(%error, directory = %directory.display(), "a new file stays with this user");
    }
}

/// The file is never empty meanwhile, which would be a configuration without runners.
fn write_in_place(target: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(false).create(true).mode(FILE_MODE).open(target)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    if let Err(error) = file.set_permissions(Permissions::from_mode(FILE_MODE)) {
        tracing::debug!(%error, "the configuration keeps its mode: it is another user's");
    }
    file.sync_all()
}

/// The directory of a file.
pub fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_link_stays_and_another_mode_is_narrowed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("config.toml"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        save(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&target), 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_has_the_new_text_alone_and_a_narrow_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for text in ["concurrent = 1\n", "concurrent = 10\n", "\n", "concurrent = 2\n"] {
            fs::write(&path, "concurrent = 111\n").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            write_in_place(&path, text).unwrap();
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), (text, 0o600));
        }
    }

    #[test]
    fn changes_at_the_same_time_do_not_undo_each_other() {
        const EACH: usize = 20;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let change = |line: &str| {
            for _ in 0..EACH {
                let _held = hold(&path).unwrap();
                let text = fs::read_to_string(&path).unwrap();
                save(&path, &(text + line)).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for line in ["# a\n", "# b\n", "# c\n"] {
                scope.spawn(move || change(line));
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3 * EACH);
    }

    /// Only root can give files away.
    #[test]
    fn a_new_file_belongs_to_whom_its_directory_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let own = fs::metadata(dir.path()).unwrap();
        let is_root = std::os::unix::fs::chown(dir.path(), Some(4711), Some(4712)).is_ok();
        let wanted = if is_root { (4711, 4712) } else { (own.uid(), own.gid()) };
        let path = dir.path().join("config.toml");
        save(&path, "text").unwrap();
        crate::config_file::system_id(&path).unwrap();
        for name in ["config.toml", ".runner_system_id"] {
            let file = fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (wanted.0, wanted.1, 0o600), "{name}");
        }
    }

    #[test]
    fn a_new_token_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let text = "# ours\n[[runners]]\nname = \"a\" # first\ntoken = \"old\" # renewed\ntoken_expires_at = 2026-02-01T00:00:00Z\n\
                    [[runners]]\ntoken = \"other\"\n[[runners]]\ntoken = \"old\"\n";
        fs::write(&path, text).unwrap();
        let new = NewToken {
            token: "new".into(),
            obtained: "2026-01-01T10:00:00Z".parse().unwrap(),
            expires: Some("2026-03-01T00:00:00Z".parse().unwrap()),
        };
        assert_eq!(keep_token(&path, &"old".into(), &new).unwrap(), 2);
        let kept = fs::read_to_string(&path).unwrap();
        for line in [
            "# ours\n",
            "token = \"new\" # renewed\n",
            "token_expires_at = 2026-03-01T00:00:00Z\n",
            "token = \"other\"\n",
            "token_obtained_at = 2026-01-01T10:00:00Z\n",
        ] {
            assert!(kept.contains(line), "{line:?} is not in:\n{kept}");
        }
        assert!(!kept.contains("\"old\""), "{kept}");
        assert_eq!(keep_token(&path, &"old".into(), &new).unwrap(), 0, "the file holds it already");
        let lost = NewToken { token: "lost".into(), ..new.clone() };
        assert!(matches!(keep_token(&path, &"old".into(), &lost), Err(KeepError::Gone { .. })));
        let endless = NewToken { token: "newer".into(), expires: None, ..new };
        keep_token(&path, &"new".into(), &endless).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("token_expires_at = 0001-01-01T00:00:00Z"));
    }
}
