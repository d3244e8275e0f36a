//! Words that nobody can guess.

/// Bytes of an id and of an authorization (GitLab Runner 19.4: 64 hexadecimal digits each).
const RANDOM: usize = 32;

/// A new one; nothing if the machine gives no random numbers.
pub(super) fn random() -> Option<String> {
    let mut bytes = [0; RANDOM];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes.iter().fold(String::with_capacity(2 * RANDOM), |text, byte| text + &format!("{byte:02x}")))
}
