//! Programs of others that `tests/cluster/program` builds.

use std::path::{Path, PathBuf};

/// Where a program is, if it was built.
pub fn built(name: &str) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let program = cache.join("gantry/programs").join(name);
    program.exists().then_some(program)
}
