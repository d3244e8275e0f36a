//! Gives every build of the helper a fingerprint of its sources. A manager pushes the
//! `gantry-helper` file beside it only if that is of the same build: the version alone does not
//! tell one state of the sources from another.

mod relocations;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;

/// The crates that the helper is made of.
const CRATES: [&str; 8] = ["core", "wire", "trace", "http", "gitlab", "storage", "relay", "helper"];

fn main() {
    let mut hasher = DefaultHasher::new();
    for name in CRATES {
        let dir = format!("../gantry-{name}/src");
        println!("cargo::rerun-if-changed={dir}");
        hash(Path::new(&dir), &mut hasher);
    }
    println!("cargo::rustc-env=GANTRY_HELPER_BUILD={:016x}", hasher.finish());
    relocations::pack();
}

/// Hashes all files below `path` in the order of their names. What cannot be read is left out: it
/// would not compile either.
fn hash(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(path) else {
        fs::read(path).unwrap_or_default().hash(hasher);
        return;
    };
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        entry.hash(hasher);
        hash(&entry, hasher);
    }
}
