//! The ticket: what a manager must know to speak for a job whose pod cannot, sealed into an
//! annotation of the pod.
//!
//! Whoever may read pods sees it, so it is encrypted and authenticated, and bound to pod,
//! namespace, job and fleet: moved to another pod it opens no more. It holds no masked value of the
//! job, only what a report and the job's session need; so a reporter that has nothing but a ticket
//! must not quote what the job itself has named, such as an image.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use gantry_core::Secret;
use serde::{Deserialize, Serialize};

use crate::cache::CacheObject;
use crate::keyed::keyed;
use crate::secret_text;
use crate::session::JobSession;

/// First characters of a sealed ticket: the version of its form.
const FORM: &str = "g1.";

/// Bytes that tell keys apart, so that "another key" can be said instead of "changed".
const FINGERPRINT: usize = 4;

/// Bytes of the nonce (`XChaCha20`).
const NONCE: usize = 24;

/// Longest sealed ticket, in characters. All annotations of an object together have 256 KiB
/// (Kubernetes API).
pub const LONGEST_TICKET: usize = 64 * 1024;

/// Longest PEM of configured roots that goes into a ticket. A bundle of the whole Web's does not:
/// who adopts has it as a file of its own.
const LONGEST_CA: usize = 32 * 1024;

/// Longest session that goes into a ticket, in bytes of JSON: some hundred ports. A job that names
/// more is adopted without it.
const LONGEST_SESSION: usize = 8 * 1024;

/// Longest names of cache objects that go into a ticket, in bytes of JSON: GitLab allows a job four
/// caches. One that has more saves with the requests of its plan once it was adopted.
const LONGEST_CACHES: usize = 8 * 1024;

/// What a reporter of a job knows that has nothing but the job's pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The job's id in its GitLab.
    pub job_id: i64,
    /// The job token: reports are made with it and with nothing else.
    #[serde(with = "secret_text")]
    pub job_token: Secret,
    /// The project's id, for logs.
    #[serde(default)]
    pub project_id: i64,
    /// As configured, such as `https://gitlab.example.com`.
    pub gitlab_url: String,
    /// Configured roots of trust, PEM, where they are not too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The job's time-out as GitLab set it, in seconds.
    pub timeout_seconds: u64,
    /// When it is over by the clock of the manager that took the job, in milliseconds since 1970.
    /// Clocks differ: it bounds how long a report is tried, and proves nothing about the job.
    pub deadline_unix_ms: u64,
    /// Failure reasons that this GitLab knows.
    #[serde(default)]
    pub failure_reasons: Vec<String>,
    /// Whether each line of the log starts with time and stream (`FF_TIMESTAMPS`).
    #[serde(default)]
    pub timestamps: bool,
    /// Whether GitLab is told that the log may hold secrets (`CI_DEBUG_TRACE`).
    #[serde(default)]
    pub debug_trace: bool,
    /// How GitLab enters the job, where it was offered that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<JobSession>,
    /// What requests are signed for while the job runs, because those in its plan end before it has
    /// to. Only what stands here is: an agent runs what the job's project wants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_objects: Vec<CacheObject>,
}

/// What a ticket is good for: one job in one pod of one fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketBinding<'a> {
    /// Name of the pod.
    pub pod: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Id of the job, which the pod's label `gantry.dev/job` has too.
    pub job_id: i64,
    /// Name of the fleet, in full.
    pub fleet: &'a str,
}

/// Why a ticket cannot be used. None says what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It never was a ticket, or a part of it is missing.
    #[error("it is no ticket, or only a part of one")]
    Malformed,
    /// Of a newer version.
    #[error("it has the form {form:?}, which this version cannot read")]
    Form {
        /// What it begins with.
        form: String,
    },
    /// Sealed with another key.
    #[error("it was sealed with another key: give all managers of the fleet the same ticket_key in [gantry]")]
    OtherKey,
    /// Changed, or of another pod, job or fleet.
    #[error("it was changed, or made for another pod, job or fleet")]
    Altered,
    /// Sealed with our key, and yet without what a ticket has.
    #[error("it was sealed by a version whose tickets cannot be understood")]
    Content,
}

/// What tickets are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; 32]);

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey([MASKED])")
    }
}

impl TicketKey {
    /// The key that belongs to a secret that all managers of a fleet have.
    pub fn derive(secret: &Secret) -> Self {
        Self(keyed(b"gantry.dev/ticket key", &[secret.expose().as_bytes()]))
    }

    fn fingerprint(&self) -> [u8; FINGERPRINT] {
        first(&keyed(&self.0, &[b"fingerprint"]))
    }

    /// Made from all that is sealed: two tickets share a nonce only if they are the same, and
    /// nothing depends on chance.
    fn nonce(&self, associated: &[u8], content: &[u8]) -> [u8; NONCE] {
        first(&keyed(&self.0, &[b"nonce", associated, content]))
    }
}

impl Ticket {
    /// The text for the annotation.
    pub fn seal(&self, key: &TicketKey, binding: &TicketBinding<'_>) -> String {
        let fitting = self.fitting();
        // Serialising this type to memory cannot fail: string keys only, no custom errors.
        let content = serde_json::to_vec(&fitting).unwrap_or_default();
        let associated = binding.bytes();
        let nonce = key.nonce(&associated, &content);
        let payload = Payload { msg: &content, aad: &associated };
        // Nothing but gigabytes can make this fail; an empty ticket is one that opens for nobody.
        let sealed = XChaCha20Poly1305::new(&key.0.into()).encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        format!("{FORM}{}", URL_SAFE_NO_PAD.encode([&key.fingerprint()[..], &nonce, &sealed].concat()))
    }

    /// Opens what [`Ticket::seal`] made.
    ///
    /// # Errors
    /// It is no ticket, or not one for this pod and key.
    pub fn open(text: &str, key: &TicketKey, binding: &TicketBinding<'_>) -> Result<Self, TicketError> {
        let Some(body) = text.strip_prefix(FORM) else { return Err(other_form(text)) };
        if body.len() > LONGEST_TICKET {
            return Err(TicketError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TicketError::Malformed)?;
        let (fingerprint, bytes) = bytes.split_first_chunk::<FINGERPRINT>().ok_or(TicketError::Malformed)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or(TicketError::Malformed)?;
        if *fingerprint != key.fingerprint() {
            return Err(TicketError::OtherKey);
        }
        let payload = Payload { msg: sealed, aad: &binding.bytes() };
        let content = XChaCha20Poly1305::new(&key.0.into())
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| TicketError::Altered)?;
        let ticket: Self = serde_json::from_slice(&content).map_err(|_| TicketError::Content)?;
        if ticket.job_id == binding.job_id { Ok(ticket) } else { Err(TicketError::Altered) }
    }

    /// Without roots and a session that are too long for an annotation, and with as many names as
    /// fit.
    fn fitting(&self) -> Self {
        let ca_pem = self.ca_pem.clone().filter(|pem| pem.len() <= LONGEST_CA);
        let session = self.session.clone().filter(|session| json_bytes(session) <= LONGEST_SESSION);
        let mut left = LONGEST_CACHES;
        let fits = |object: &&CacheObject| {
            let room = left.checked_sub(json_bytes(object));
            left = room.unwrap_or(0);
            room.is_some()
        };
        let cache_objects = self.cache_objects.iter().take_while(fits).cloned().collect();
        Self { ca_pem, session, cache_objects, ..self.clone() }
    }
}

impl TicketBinding<'_> {
    /// Each part with its length before it: no two bindings have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let job = self.job_id.to_string();
        let parts = [FORM, self.pod, self.namespace, &job, self.fleet];
        parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes(), part.as_bytes()].concat()).collect()
    }
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

fn other_form(text: &str) -> TicketError {
    match text.split_once('.') {
        Some((form, _)) if form.len() <= 4 && form.starts_with('g') => TicketError::Form { form: form.to_owned() },
        _ => TicketError::Malformed,
    }
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|index| bytes.get(index).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests;
