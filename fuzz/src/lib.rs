//! What reads from outside, each as a function that any input may be given to: it panics where
//! something is wrong. `fuzz_targets/` has libFuzzer look for such input, `tests/mutations.rs`
//! changes the examples of `seeds/` by chance.

pub mod answers;
pub mod config;
pub mod payload;
pub mod plan;
pub mod unpack;
pub mod unpack_tar;
