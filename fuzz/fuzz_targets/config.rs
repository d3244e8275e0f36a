//! `src/config.rs`, driven by libFuzzer.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|text: &str| gantry_fuzz::config::target(text));

/// Without libFuzzer there is nothing to do: see `tests/mutations.rs`.
#[cfg(not(fuzzing))]
fn main() {}
