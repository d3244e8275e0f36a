//! Random names and ids, in the shapes that Kubernetes uses.

/// The letters and digits of generated names: no vowels, so that no words come out, and nothing
/// easily confused.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The longest name that is kept of a `generateName`; five random characters follow.
const LONGEST_BASE: usize = 58;

/// A new uid (UUID version 4).
pub(crate) fn uid() -> String {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let number = u128::from_be_bytes(bytes);
    let text = format!("{number:032x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// Five random characters.
pub(crate) fn suffix() -> String {
    rand::random::<[u8; 5]>().iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

/// A name made from a `generateName`.
pub(crate) fn generated(base: &str) -> String {
    let kept: String = base.chars().take(LONGEST_BASE).collect();
    kept + &suffix()
}

/// The id of a container: 64 hexadecimal digits.
pub(crate) fn container_id() -> String {
    let (high, low) = (rand::random::<u128>(), rand::random::<u128>());
    format!("{high:032x}{low:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_shapes() {
        let uid = uid();
        assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'));
        assert_eq!(container_id().len(), 64);
        assert_eq!(generated(&"x".repeat(70)).len(), 63);
    }
}
