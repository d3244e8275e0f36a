//! Any bytes as an archive: whatever they are, nothing outside of the directory is touched, and
//! nothing panics.

#![no_main]

libfuzzer_sys::fuzz_target!(|archive: &[u8]| gantry_helper::fuzzing::unpack(archive));
