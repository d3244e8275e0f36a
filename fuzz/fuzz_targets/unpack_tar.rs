//! Any bytes as a tar archive below its compression, which mutations rarely survive.

#![no_main]

libfuzzer_sys::fuzz_target!(|archive: &[u8]| {
    if let Ok(archive) = zstd::bulk::compress(archive, 1) {
        gantry_helper::fuzzing::unpack(&archive);
    }
});
