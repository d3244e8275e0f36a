//! GitLab as the commands about runners call it: with the files of one entry, and failures as sentences that say what to change.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gantry_core::Secret;
use gantry_gitlab::{CallError, Client, ClientOptions};

/// Tokens of runners that were created in GitLab (GitLab Runner 19.4: this prefix and no other).
const CREATED: &str = "glrt-";

/// Whether the runner of this token was created in GitLab, and not by a registration token.
pub(crate) fn is_created(token: &Secret) -> bool {
    token.expose().starts_with(CREATED)
}

/// Files for TLS towards GitLab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl TlsFiles {
    /// These files, and those of `other` where there is none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { ca: self.ca.or(other.ca), cert: self.cert.or(other.cert), key: self.key.or(other.key) }
    }
}

/// A client for the GitLab at `url`. The bundled certificates are trusted in addition to the system's, so none of those are needed.
///
/// # Errors
/// The address or one of the files cannot be used.
pub(crate) fn client(url: &str, tls: &TlsFiles) -> anyhow::Result<Client> {
    let options = ClientOptions {
        ca_pem: read(tls.ca.as_deref(), "tls-ca-file")?,
        client_cert_pem: read(tls.cert.as_deref(), "tls-cert-file")?,
        client_key_pem: read(tls.key.as_deref(), "tls-key-file")?.map(Secret::new),
        ..ClientOptions::new(url)
    };
    Ok(Client::new(options)?)
}

fn read(path: Option<&Path>, key: &str) -> anyhow::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    text.map(Some).with_context(|| format!("{} ({key}) cannot be read", path.display()))
}

/// Removes a runner from GitLab: this manager of a runner that was created there, the whole runner otherwise.
///
/// # Errors
/// GitLab's answer.
pub(crate) async fn unregister(client: &Client, token: &Secret, system_id: &str) -> Result<(), CallError> {
    if is_created(token) {
        client.unregister_manager(token, system_id).await
    } else {
        client.unregister_runner(token).await
    }
}
