//! Any bytes as a tar archive below its compression, which mutations rarely survive.

/// The target.
pub fn target(archive: &[u8]) {
    if let Ok(archive) = zstd::bulk::compress(archive, 1) {
        gantry_helper::fuzzing::unpack(&archive);
    }
}
