//! The id of a runner manager (`.runner_system_id`): how one looks and how one is made. Reading
//! machine id and file is the caller's part.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;

/// Characters after the prefix.
const LENGTH: usize = 12;

/// Whether `text` is an id: `s_` or `r_` and 12 letters or digits (GitLab Runner 19.4,
/// `system_id_state.go`).
pub fn is_valid(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("s_").or_else(|| text.strip_prefix("r_")) else { return false };
    rest.len() == LENGTH && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The content of an id file as an id; surrounding blanks are not part of it.
pub fn parse(content: &str) -> Option<String> {
    let trimmed = content.trim();
    is_valid(trimmed).then(|| trimmed.to_owned())
}

/// The id of a machine, made from the content of its machine-id file as the reference does, so that
/// a machine that changes from one to the other stays the same manager. Nothing for an empty
/// machine id.
pub fn from_machine_id(machine_id: &str) -> Option<String> {
    let machine_id = machine_id.trim();
    if machine_id.is_empty() {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(machine_id.as_bytes()).ok()?;
    mac.update(b"gitlab-runner");
    let digest = mac.finalize().into_bytes();
    let mut id = String::from("s_");
    for byte in digest.iter().take(LENGTH / 2) {
        let _ = write!(id, "{byte:02x}");
    }
    Some(id)
}

/// A new random id, for machines without a machine id: the usual case in a pod.
pub fn random() -> String {
    let characters = rand::rng().sample_iter(rand::distr::Alphanumeric).take(LENGTH).map(char::from);
    format!("r_{}", characters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid() {
        for good in ["s_0123456789ab", "r_AbC123xYz789"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["s_0123456789a", "x_0123456789ab", "s_0123-56789ab", "", "s_", "s_0123456789abc", "s_0123456789ü"]
        {
            assert!(!is_valid(bad), "{bad}");
        }
        assert_eq!(parse(" s_0123456789ab\n").as_deref(), Some("s_0123456789ab"));
    }

    #[test]
    fn made_ids_are_valid() {
        assert!(is_valid(&random()));
        assert_ne!(random(), random());
        // HMAC-SHA256 of "gitlab-runner" with this key, from `openssl dgst -sha256 -hmac`.
        assert_eq!(from_machine_id("0123456789abcdef0123456789abcdef\n").as_deref(), Some("s_ee3af03959fe"));
        assert_eq!(from_machine_id(" \n"), None);
    }
}
