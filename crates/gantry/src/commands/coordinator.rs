//! GitLab as the commands about runners call it: with the files of one entry, and failures as
//! sentences that say what to change.

use std::path::Path;

use gantry_core::Secret;
pub(crate) use gantry_gitlab::TlsFiles;
use gantry_gitlab::{CallError, Client, ClientOptions};
use jiff::Timestamp;

/// Tokens of runners that were created in GitLab (GitLab Runner 19.4: this prefix and no other).
const CREATED: &str = "glrt-";

/// Whether the runner of this token was created in GitLab, and not by a registration token.
pub(crate) fn is_created(token: &Secret) -> bool {
    token.expose().starts_with(CREATED)
}

/// A client for the GitLab at `url`, with the files of one entry of the configuration at `config`.
/// The bundled certificates are trusted in addition to the system's, so none of those are needed.
///
/// # Errors
/// The address or one of the files cannot be used.
pub(crate) fn client(url: &str, tls: &TlsFiles, config: &Path) -> anyhow::Result<Client> {
    let directories = gantry_daemon::certificate_directories(config);
    let files = TlsFiles { directories, ..tls.clone() };
    Ok(Client::new(ClientOptions { files, ..ClientOptions::new(url) })?)
}

/// When a token ends, as GitLab says it; a date that cannot be read is no reason to lose the token.
pub(crate) fn expiry(text: Option<&str>) -> Option<Timestamp> {
    let text = text?;
    let time = text.parse().ok();
    if time.is_none() {
        tracing::warn!("GitLab's date {text:?} for the end of the token is not understood and is left out");
    }
    time
}

/// Removes a runner from GitLab: this manager of a runner that was created there, the whole runner
/// otherwise.
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
