//! Keys out of secrets.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// 32 bytes that follow from `key` and `parts`, each with its length before it.
pub(crate) fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
