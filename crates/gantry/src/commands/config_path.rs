//! Where the configuration is when nobody says otherwise. Shared by all commands, so that
//! `register` writes what `run` reads.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use gantry_core::Secret;

use crate::arguments::path_parser;
use crate::go_arguments;

/// Where GitLab Runner 19.4 looks as root, and where images and packages have their configuration.
pub(crate) const SYSTEM: &str = "/etc/gitlab-runner/config.toml";

/// Where it looks for others, in their home.
pub(crate) const OWN: &str = ".gitlab-runner/config.toml";

/// Where it looks for those who have no home: where they are.
pub(crate) const HERE: &str = "config.toml";

/// What `--config` is for.
pub(crate) const HELP: &str = "The configuration. Default: /etc/gitlab-runner/config.toml for root; for others \
                               ~/.gitlab-runner/config.toml, or the one in /etc where it is the only one they can use";

/// `--config`, which every command about the configuration has.
#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    #[arg(long, short = 'c', help = HELP, env = "CONFIG_FILE", hide_env_values = true, value_name = "FILE", value_parser = path_parser())]
    config: Option<PathBuf>,
    #[arg(hide = true, trailing_var_arg = true, num_args = 0.., value_name = "WORDS")]
    words: Vec<Secret>,
}

impl ConfigArg {
    /// The path, with the default filled in. Says what of the command line is left out.
    pub(crate) fn resolve(&self) -> PathBuf {
        self.warn();
        self.path()
    }

    /// The path alone.
    pub(crate) fn path(&self) -> PathBuf {
        or_default(self.config.clone())
    }

    /// Says what of the command line is left out.
    pub(crate) fn warn(&self) {
        go_arguments::warn_about_words(&self.words);
    }
}

/// `given`, or the default where it is absent or empty: an empty variable of a `ConfigMap` names no
/// file.
pub(crate) fn or_default(given: Option<PathBuf>) -> PathBuf {
    given.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(default_config)
}

/// The path of GitLab Runner 19.4; but a user other than root takes the one in /etc as well, if it
/// is all that there is. Containers have it there, whoever they run as.
fn default_config() -> PathBuf {
    if is_root() {
        return PathBuf::from(SYSTEM);
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    choose(home.as_deref(), Path::new(SYSTEM))
}

fn choose(home: Option<&Path>, system: &Path) -> PathBuf {
    let own = home.map_or_else(|| PathBuf::from(HERE), |home| home.join(OWN));
    // A file without a name leaves no trace where it could be made.
    let can_be_made = || system.parent().is_some_and(|directory| tempfile::tempfile_in(directory).is_ok());
    let has_own_place = own.parent().is_some_and(|directory| directory != Path::new("") && directory.is_dir());
    let is_usable = File::open(system).is_ok() || (!system.exists() && !has_own_place && can_be_made());
    if !own.exists() && is_usable { system.to_owned() } else { own }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_etc_is_found_by_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let (home, system) = (dir.path().join("home"), dir.path().join("etc/config.toml"));
        let own = home.join(".gitlab-runner/config.toml");
        assert_eq!(choose(Some(&home), &system), own, "neither is there, and only the first can be made");
        assert_eq!(choose(None, &system), Path::new("config.toml"));
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        assert_eq!(choose(Some(&home), &system), system, "it can be made");
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).unwrap().count(), 0, "asking makes nothing");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        assert_eq!(choose(Some(&home), &system), own, "a volume is mounted there for it");
        std::fs::write(&system, "").unwrap();
        assert_eq!(choose(Some(&home), &system), system, "the only file that there is");
        std::fs::write(&own, "").unwrap();
        assert_eq!(choose(Some(&home), &system), own);
    }
}
