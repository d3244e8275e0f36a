//! The administrator's kubeconfig. It holds a token, so nobody else may read it, not even for a
//! moment.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::error::Error;

/// Name of cluster, context and user in the file.
const NAME: &str = "gantry-sim";

/// Writes the file, replacing an older one.
pub(crate) fn write(path: &Path, url: &str, ca_pem: &str, token: &str) -> Result<(), Error> {
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {
            "server": url, "certificate-authority-data": BASE64_STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
    });
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let _ = fs::remove_file(&fresh);
    // JSON is YAML, and needs no writer of its own.
    let text = format!("{document:#}\n");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}
