//! Files for TLS towards a server: where they are, what they hold, and whether they have changed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::files::FileStamps;
use crate::setup_error::SetupError;
use crate::tls::{Identity, Pem};

/// Files for TLS towards a server. Each that is not named is looked for in the directories (GitLab
/// Runner 19.4: `<host>.crt`, `<host>.auth.crt`, `<host>.auth.key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates to trust beside the system's and the bundled ones (`tls-ca-file`).
    pub ca: Option<PathBuf>,
    /// The client's certificate chain (`tls-cert-file`).
    pub cert: Option<PathBuf>,
    /// The client's key (`tls-key-file`).
    pub key: Option<PathBuf>,
    /// Directories with certificates by host, the first that has one counts.
    pub directories: Vec<PathBuf>,
}

impl TlsFiles {
    /// These files, and those of `other` where there is none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let directories = if self.directories.is_empty() { other.directories } else { self.directories };
        Self { ca: self.ca.or(other.ca), cert: self.cert.or(other.cert), key: self.key.or(other.key), directories }
    }

    /// Reads what there is for `host`.
    pub(crate) fn read(&self, host: &str) -> Result<FilesNow, SetupError> {
        let kinds = [
            (&self.ca, "tls-ca-file", "crt"),
            (&self.cert, "tls-cert-file", "auth.crt"),
            (&self.key, "tls-key-file", "auth.key"),
        ];
        let mut seen = FileStamps::default();
        let mut found = Vec::new();
        for (named, key, ending) in kinds {
            let pem = match named {
                Some(path) => Some(read(path, key, &mut seen)?.ok_or_else(|| missing(path, key))?),
                None => self.search(&format!("{host}.{ending}"), key, &mut seen)?,
            };
            found.push(pem);
        }
        let mut found = found.into_iter();
        let mut next = || found.next().flatten();
        Ok(FilesNow { identity: Identity { ca: next(), cert: next(), key: next() }, seen })
    }

    fn search(&self, name: &str, key: &'static str, seen: &mut FileStamps) -> Result<Option<Pem>, SetupError> {
        for directory in &self.directories {
            if let Some(pem) = read(&directory.join(name), key, seen)? {
                return Ok(Some(pem));
            }
        }
        Ok(None)
    }

    /// Where a CA for `host` could be put, if anywhere.
    pub(crate) fn place_of_ca(&self, host: &str) -> Option<PathBuf> {
        self.directories.first().map(|directory| directory.join(format!("{host}.crt")))
    }
}

/// What the files hold, and what they were like then.
pub(crate) struct FilesNow {
    identity: Identity,
    seen: FileStamps,
}

impl FilesNow {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether a file is another one now. One that has vanished is being replaced.
    pub(crate) fn have_changed(&self) -> bool {
        self.seen.have_changed()
    }

    /// Takes the files as they are now for known.
    pub(crate) fn accept(&mut self) {
        self.seen.accept();
    }
}

/// Nothing if there is no such file.
fn read(path: &Path, key: &'static str, seen: &mut FileStamps) -> Result<Option<Pem>, SetupError> {
    seen.add(path.to_owned());
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Pem::new(text, format!("{key} {}", path.display())))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(SetupError::Tls {
            what: format!("{key} {} is not text: certificates and keys must be in PEM form", path.display()),
        }),
        Err(source) => Err(SetupError::File { key, path: path.to_owned(), source }),
    }
}

/// `ENOENT` of Linux, for its words.
const NO_SUCH_FILE: i32 = 2;

fn missing(path: &Path, key: &'static str) -> SetupError {
    SetupError::File { key, path: path.to_owned(), source: std::io::Error::from_raw_os_error(NO_SUCH_FILE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_looked_for_by_itself() {
        let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |directory: &Path, name: &str| std::fs::write(directory.join(name), name).unwrap();
        write(near.path(), "gitlab.test.crt");
        write(far.path(), "gitlab.test.crt");
        write(far.path(), "gitlab.test.auth.crt");
        write(near.path(), "other.test.auth.key");
        write(near.path(), "named");
        let directories = vec![near.path().to_owned(), far.path().to_owned()];
        let files = TlsFiles { directories, ..TlsFiles::default() };
        let names = |files: &TlsFiles| {
            let Identity { ca, cert, key } = files.read("gitlab.test").unwrap().identity;
            [ca, cert, key].map(|pem| pem.map(|pem| pem.name().to_owned()))
        };
        let at = |key: &str, directory: &Path, name: &str| Some(format!("{key} {}", directory.join(name).display()));
        let cert = at("tls-cert-file", far.path(), "gitlab.test.auth.crt");
        assert_eq!(names(&files), [at("tls-ca-file", near.path(), "gitlab.test.crt"), cert.clone(), None]);
        let named = TlsFiles { ca: Some(near.path().join("named")), ..files.clone() };
        assert_eq!(names(&named), [at("tls-ca-file", near.path(), "named"), cert, None], "what is named comes first");
        let nowhere = TlsFiles { key: Some("/nowhere/key".into()), ..files };
        assert!(matches!(nowhere.read("gitlab.test"), Err(SetupError::File { key: "tls-key-file", .. })));
    }

    #[test]
    fn files_that_come_and_change_are_noticed_and_those_that_go_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gitlab.test.crt");
        let files = TlsFiles { directories: vec![directory.path().to_owned()], ..TlsFiles::default() };
        let mut now = files.read("gitlab.test").unwrap();
        assert!(!now.have_changed());
        std::fs::write(&path, "a").unwrap();
        assert!(now.have_changed());
        now.accept();
        assert!(!now.have_changed());
        std::fs::write(&path, "longer").unwrap();
        assert!(now.have_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!now.have_changed());
    }
}
