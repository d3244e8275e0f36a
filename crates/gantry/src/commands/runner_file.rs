//! The configuration as the commands that change it see it: its runners, and a way to put another
//! text in its place that can never leave half a file. It never writes an expanded `$VAR`, and
//! never touches what it was not asked to change.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gantry_config::edit::{Editor, RunnerRef};
use gantry_config::{Loaded, RunnerSettings, Settings};
use gantry_daemon::config_write::{self, Held};
use gantry_daemon::wiring;

use crate::commands::coordinator::TlsFiles;

/// Only its owner may look into a directory that is made for tokens.
const DIRECTORY_MODE: u32 = 0o700;

/// What the process's environment says about a variable.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A configuration file, or the place of one that is not there yet.
#[derive(Debug)]
pub(crate) struct RunnerFile {
    path: PathBuf,
    /// The whole text; `None` where there is no file.
    text: Option<String>,
    editor: Editor,
}

/// A runner of the file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What identifies it.
    pub(crate) runner: RunnerRef,
    /// Its settings; `None` if it cannot be used, or nothing of the file can.
    pub(crate) settings: Option<RunnerSettings>,
}

impl Entry {
    /// The files for TLS towards GitLab.
    pub(crate) fn tls(&self) -> TlsFiles {
        self.settings.as_ref().map(wiring::tls_files).unwrap_or_default()
    }
}

impl RunnerFile {
    /// Reads the file. A missing one has no runners.
    ///
    /// # Errors
    /// It cannot be read, or is not TOML.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = match config_write::read(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let editor = Editor::parse(text.as_deref().unwrap_or_default())
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self { path: path.to_owned(), text, editor })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the file can be changed, before something is done that has to be written to
    /// it.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn ensure_writable(&self) -> anyhow::Result<()> {
        config_write::ensure_writable(&self.path)
            .with_context(|| format!("{} cannot be changed, so nothing was done", self.path.display()))
    }

    pub(crate) fn exists(&self) -> bool {
        self.text.is_some()
    }

    /// The text in a form to which a `[[runners]]` entry can be appended.
    pub(crate) fn text(&self) -> String {
        self.editor.text()
    }

    /// The checked settings of the whole file, or its errors as one text.
    pub(crate) fn settings(&self) -> Result<Settings, String> {
        self.load().map(|loaded| loaded.settings)
    }

    fn load(&self) -> Result<Loaded, String> {
        match gantry_config::load(self.text.as_deref().unwrap_or_default(), &env) {
            Ok(loaded) => Ok(loaded),
            Err(problems) => {
                let file = self.path.display().to_string();
                let errors: Vec<String> = problems.errors().map(|problem| problem.in_file(&file).to_string()).collect();
                Err(errors.join("; "))
            }
        }
    }

    /// Its runners, in order. Problems of the file are a warning here: a runner must be removable
    /// from a file that the daemon refuses.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let runners = self.editor.runners(&env);
        let loaded = match self.load() {
            Ok(loaded) => loaded,
            Err(problems) => {
                tracing::warn!("the configuration has errors: {problems}");
                return runners.into_iter().map(|runner| Entry { settings: None, runner }).collect();
            }
        };
        let file = self.path.display().to_string();
        for error in loaded.unusable.iter().flat_map(|entry| &entry.errors) {
            tracing::warn!("{}", error.in_file(&file));
        }
        let mut usable = loaded.settings.runners.into_iter();
        let is_usable = |runner: &RunnerRef| loaded.unusable.iter().all(|entry| entry.index != runner.index);
        let entry = |runner| Entry { settings: if is_usable(&runner) { usable.next() } else { None }, runner };
        runners.into_iter().map(entry).collect()
    }

    /// Removes runners from the file as it is now, which may have changed since it was opened, and
    /// says how many they were.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn forget(&self, runners: &[&RunnerRef]) -> anyhow::Result<usize> {
        if runners.is_empty() {
            return Ok(0);
        }
        let _held = hold(&self.path)?;
        let mut now = Self::open(&self.path)?;
        let mut left: Vec<&RunnerRef> = runners.to_vec();
        let is_same = |a: &RunnerRef, b: &RunnerRef| (&a.name, &a.url, &a.token) == (&b.name, &b.url, &b.token);
        let removed = now.editor.remove_runners(
            |runner| match left.iter().position(|wanted| is_same(wanted, runner)) {
                Some(at) => {
                    left.remove(at);
                    true
                }
                None => false,
            },
            &env,
        );
        if removed > 0 {
            save(&self.path, &now.editor.text())?;
            tracing::info!("Updated {}", self.path.display());
        }
        Ok(removed)
    }
}

/// Makes the directory of a configuration that is to be written, and finds out whether it can be.
///
/// # Errors
/// Neither a file beside it nor the file itself can be written.
pub(crate) fn prepare(path: &Path) -> anyhow::Result<()> {
    let directory = config_write::directory(path);
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(&directory)
        .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
    let beside = tempfile::Builder::new().prefix(".config-").tempfile_in(&directory);
    if let Err(error) = beside
        && OpenOptions::new().append(true).open(path).is_err()
    {
        return Err(error).with_context(|| format!("{} cannot be written", path.display()));
    }
    Ok(())
}

/// Keeps others from changing the file until its new text is saved.
///
/// # Errors
/// Another process has kept it for too long.
pub(crate) fn hold(path: &Path) -> anyhow::Result<Held> {
    config_write::hold(path).with_context(|| format!("{} cannot be changed", path.display()))
}

/// Puts `text` in the place of the file at once. Held by who has read it ([`hold`]).
///
/// # Errors
/// It cannot be written.
pub(crate) fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    config_write::save(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// The one runner that `choose` picks.
///
/// # Errors
/// There is none; `what` says what was looked for.
pub(crate) fn find<'e>(
    file: &RunnerFile,
    entries: &'e [Entry],
    what: &str,
    choose: impl Fn(&RunnerRef) -> bool,
) -> anyhow::Result<&'e Entry> {
    match entries.iter().find(|entry| choose(&entry.runner)) {
        Some(entry) => Ok(entry),
        None if file.exists() => bail!("{what} is not in config {}", file.path().display()),
        None => bail!("{what} is not in config: there is no {}", file.path().display()),
    }
}

/// The text of a file with nothing but the entry of this name.
///
/// # Errors
/// The file cannot be read, or has no such entry.
pub(crate) fn entry_of(source: &Path, name: &str) -> anyhow::Result<String> {
    let file = RunnerFile::open(source)?;
    let entries = file.entries();
    let chosen = find(&file, &entries, &format!("runner {name:?}"), |runner| runner.name == name)?;
    let mut editor = Editor::parse(&file.text())?;
    editor.remove_runners(|runner| runner.index != chosen.runner.index, &env);
    Ok(editor.text())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TWO: &str = "# ours\n[[runners]]\nname = \"a\"\ntoken = \"1\"\n[[runners]]\nname = \"b\"\ntoken = \"$TWO\"\n";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/for/config.toml");
        prepare(&path).unwrap();
        save(&path, "concurrent = 1\n").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn runners_are_forgotten_in_the_file_as_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, TWO).unwrap();
        let file = RunnerFile::open(&path).unwrap();
        let entries = file.entries();
        assert_eq!(entries.len(), 2);
        fs::write(&path, format!("# newer\nconcurrent = 3\n{TWO}")).unwrap();
        assert_eq!(file.forget(&[&entries[0].runner]).unwrap(), 1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("concurrent = 3") && text.contains("$TWO") && !text.contains("\"a\""), "{text}");
        assert_eq!(file.forget(&[&entries[0].runner]).unwrap(), 0);
    }

    #[test]
    fn entries_keep_their_settings_beside_an_unusable_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let good = |name| {
            format!("[[runners]]\nname = \"{name}\"\nurl = \"http://x\"\ntoken = \"1\"\nexecutor = \"kubernetes\"\n")
        };
        fs::write(&path, good("a") + "[[runners]]\nname = \"empty\"\n" + &good("b")).unwrap();
        let entries = RunnerFile::open(&path).unwrap().entries();
        let names: Vec<_> = entries.iter().map(|entry| entry.settings.as_ref().map(|s| s.name.as_str())).collect();
        assert_eq!(names, [Some("a"), None, Some("b")]);
    }

    #[test]
    fn what_is_missing_is_not_in_config() {
        let dir = tempfile::tempdir().unwrap();
        let file = RunnerFile::open(&dir.path().join("config.toml")).unwrap();
        let error = find(&file, &file.entries(), "runner \"x\"", |runner| runner.name == "x").unwrap_err().to_string();
        assert!(error.starts_with("runner \"x\" is not in config: there is no "), "{error}");
    }
}
