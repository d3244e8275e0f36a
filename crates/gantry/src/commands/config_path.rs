//! Where the configuration is when nobody says otherwise. Shared by all commands, so that `register` writes what `run` reads.

use std::path::PathBuf;

use clap::Args;

/// `--config`, which every command about the configuration has.
#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    /// The configuration; default /etc/gitlab-runner/config.toml for root, ~/.gitlab-runner/config.toml for others
    #[arg(long, short = 'c', env = "CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArg {
    /// The path, with the default filled in.
    pub(crate) fn path(&self) -> PathBuf {
        or_default(self.config.clone())
    }
}

/// `given`, or the default where it is absent or empty: an empty variable of a `ConfigMap` names no file.
pub(crate) fn or_default(given: Option<PathBuf>) -> PathBuf {
    given.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(default_config)
}

/// The path of GitLab Runner 19.4.
fn default_config() -> PathBuf {
    if is_root() {
        return PathBuf::from("/etc/gitlab-runner/config.toml");
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join(".gitlab-runner/config.toml"),
        None => PathBuf::from("config.toml"),
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
