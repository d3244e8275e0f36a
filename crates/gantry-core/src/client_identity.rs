//! What proves to a server who calls it, beside tokens.

use crate::Secret;

/// A client's certificate and its key (`tls-cert-file`, `tls-key-file`), as PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, and those between it and its authority.
    pub cert_pem: String,
    /// The key.
    pub key_pem: Secret,
}
