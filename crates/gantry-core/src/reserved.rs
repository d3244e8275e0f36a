//! Names in job pods that the runner has taken for itself, so that neither settings nor jobs can.

/// Volumes of the runner's own. Each is mounted below `/` under its own name.
pub const VOLUMES: [&str; 4] = ["gantry", "gantry-agent", "gantry-tmp", "gantry-mirror"];

/// Volume of the builds directory, where no other one is mounted (GitLab Runner 19.4).
pub const BUILDS: &str = "repo";

/// Whether a path as somebody has written it is a directory of the runner's own, below one, or
/// hides them all.
pub fn is_own_path(path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    let first = path.split('/').find(|part| !part.is_empty() && *part != ".");
    first.is_none_or(|first| VOLUMES.contains(&first))
}

#[cfg(test)]
mod tests {
    use super::is_own_path;

    #[test]
    fn own_paths() {
        for own in ["/", "//", "/./", "/gantry", "/gantry/", "//gantry-tmp/x", "/gantry-mirror/a/b"] {
            assert!(is_own_path(own), "{own}");
        }
        for other in ["", "gantry", "/gantry-data", "/builds/gantry", "/a"] {
            assert!(!is_own_path(other), "{other}");
        }
    }
}
