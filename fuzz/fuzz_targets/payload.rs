//! `src/payload.rs`, driven by libFuzzer.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gantry_fuzz::payload::target(bytes));

/// Without libFuzzer there is nothing to do: see `tests/mutations.rs`.
#[cfg(not(fuzzing))]
fn main() {}
