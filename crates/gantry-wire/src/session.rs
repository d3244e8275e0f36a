//! The session of a job: the address at which GitLab enters it for people, and the word that opens
//! that. GitLab learns both once, with the request that brings the job, and keeps them for as long
//! as the job lives; so they travel in the pod's ticket, and whoever goes on with the job serves
//! the same.

use gantry_core::Secret;
use serde::{Deserialize, Serialize};

use crate::keyed::keyed;
use crate::secret_text;

/// How a job is entered, and what people may look at there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSession {
    /// The part of the address that tells sessions apart.
    pub id: String,
    /// The word that opens it.
    #[serde(with = "secret_text")]
    pub authorization: Secret,
    /// Where a shell begins.
    #[serde(default)]
    pub directory: String,
    /// Ports that may be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<SessionPort>,
    /// The key of the authority that GitLab was told with this address. Who goes on with the job
    /// may have another, after a token was renewed, and has itself vouched for with this one.
    #[serde(default, skip_serializing_if = "Secret::is_empty", with = "secret_text")]
    pub authority: Secret,
}

/// A port of one of the job's containers that people may look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPort {
    /// Names of its container.
    pub services: Vec<String>,
    /// The TCP port.
    pub number: u16,
    /// A name to address it by; empty where there is none.
    #[serde(default)]
    pub name: String,
    /// `http` or `https`.
    #[serde(default)]
    pub protocol: String,
}

/// Bytes of the key with which the managers of a fleet sign the certificates of their session
/// servers. It follows from the secret that they share, as the key of tickets does: GitLab trusts
/// the next manager by what it has learnt from the first. Not every number is a key: `round` gives
/// another one.
pub fn authority_key(secret: &Secret, round: u8) -> [u8; 32] {
    keyed(b"gantry.dev/session authority", &[secret.expose().as_bytes(), &[round]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_the_secret_and_from_nothing_else() {
        let key = |secret: &str, round| authority_key(&secret.into(), round);
        assert_eq!(key("hunter2", 0), key("hunter2", 0));
        assert_ne!(key("hunter2", 0), key("hunter2", 1));
        assert_ne!(key("hunter2", 0), key("hunter3", 0));
    }
}
