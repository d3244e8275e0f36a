//! Any bytes as an archive: whatever they are, nothing outside of the directory is touched, and
//! nothing panics.

/// The target.
pub fn target(archive: &[u8]) {
    gantry_helper::fuzzing::unpack(archive);
}
