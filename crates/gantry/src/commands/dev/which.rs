//! Which repository is run: the one that was named, the one around the current directory, or the
//! sample.

use std::path::{Path, PathBuf};

use super::BadInput;
use super::args::DevArgs;
use super::git::git;

/// Where GitLab looks for the pipeline.
pub(crate) const CI_FILE: &str = ".gitlab-ci.yml";

/// What is run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Which {
    Own(PathBuf),
    /// With the reason, where it is not what was asked for.
    Sample(Option<String>),
}

impl Which {
    /// Decides. `here`: the current directory.
    pub(super) fn choose(args: &DevArgs, here: &Path) -> Result<Self, BadInput> {
        if args.sample {
            return Ok(Self::Sample(None));
        }
        if let Some(dir) = &args.repo {
            return Ok(Self::Own(dir.clone()));
        }
        let Ok(top) = git(here, &["rev-parse", "--show-toplevel"]).map(PathBuf::from) else {
            let asks = args.git_ref.is_some() || args.committed || args.failed || args.watch;
            if asks {
                let here = here.display();
                return Err(BadInput(format!("{here} is in no git repository: name one with --repo")));
            }
            return Ok(Self::Sample(None));
        };
        let has_file = top.join(CI_FILE).is_file()
            || git(&top, &["cat-file", "-e", &format!("{}:{CI_FILE}", args.git_ref.as_deref().unwrap_or("HEAD"))])
                .is_ok();
        if has_file {
            return Ok(Self::Own(top));
        }
        Ok(Self::Sample(Some(format!("{} has no {CI_FILE}, so the sample project is run", top.display()))))
    }
}
