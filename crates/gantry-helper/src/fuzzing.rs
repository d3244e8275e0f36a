//! Ways to the archive readers for the targets in `fuzz/`, which no other build has.

use std::fs;

use crate::archive::unpack_anything;

/// Unpacks any bytes into a directory of their own, and looks whether that was all that they did.
///
/// # Panics
/// Something beside that directory was touched, or there is no room for one.
pub fn unpack(archive: &[u8]) {
    let base = tempfile::tempdir().expect("a temporary directory");
    let (project, victim) = (base.path().join("project"), base.path().join("victim"));
    fs::create_dir(&project).expect("a directory");
    fs::write(&victim, "untouched").expect("a file");
    unpack_anything(archive, &project);
    assert_eq!(fs::read(&victim).expect("the file"), b"untouched", "a file outside was written to");
    assert_eq!(fs::read_dir(base.path()).expect("the directory").count(), 2, "something outside was made or removed");
}
