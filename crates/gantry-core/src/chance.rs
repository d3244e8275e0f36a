//! Chance where it only has to differ: pauses that spread many clients, names that must not
//! collide. Never for secrets. One place, so that a simulation can begin a thread's sequence at a
//! seed and have everything happen again.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

thread_local! {
    /// The standard library's keys for hash maps are random for each thread.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u64));
}

/// Begins this thread's sequence anew.
pub fn seed(seed: u64) {
    STATE.set(seed);
}

/// The next 64 bits of this thread's sequence (`SplitMix64`).
pub fn bits() -> u64 {
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number from 0 up to, but not including, 1.
pub fn fraction() -> f64 {
    // The most significant 32 bits: enough for a pause, and exact in this type.
    f64::from(u32::try_from(bits() >> 32).unwrap_or(0)) / f64::from(u32::MAX).next_up()
}

/// Lower-case letters and digits that tell one name from others; at most 12 of them differ freely.
pub fn letters(count: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bits = bits();
    let draw = || {
        let drawn = ALPHABET.get(usize::try_from(bits % 36).unwrap_or(0)).copied().unwrap_or(b'0');
        bits /= 36;
        char::from(drawn)
    };
    std::iter::repeat_with(draw).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_sequence_and_threads_differ() {
        seed(7);
        let first = [bits(), bits()];
        seed(7);
        assert_eq!(first, [bits(), bits()]);
        let other = || std::thread::spawn(bits).join().unwrap();
        assert_ne!(other(), other());
    }

    #[test]
    fn letters_are_as_many_as_asked_for_and_fit_into_names() {
        let drawn = [letters(8), letters(8)];
        assert_ne!(drawn[0], drawn[1]);
        assert!(drawn.iter().all(|name| name.len() == 8));
        assert!(drawn.concat().bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit()));
    }

    #[test]
    fn fractions_are_below_one_and_spread() {
        seed(0);
        let drawn: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        assert!(drawn.iter().any(|x| *x < 0.01) && drawn.iter().any(|x| *x > 0.99));
    }
}
