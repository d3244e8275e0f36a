//! Where caches are kept: names of objects in a store, and files on a volume (GitLab Runner 19.4).

use gantry_config::RunnerSettings;
use gantry_core::job::JobSpec;
use gantry_core::short_token::short_token;
use gantry_core::variables::Variables;
use gantry_wire::cache::CacheFile;

use super::key::Name;
use crate::clean_path::clean;
use crate::{PlanError, names, volumes};

/// The archive in the directory of a key, whatever its format.
const ARCHIVE: &str = "cache.zip";

/// A directory on a volume that outlives the pod.
pub(crate) struct Directory {
    volume: String,
    /// The project's caches, relative to the volume.
    project: String,
}

impl Directory {
    /// `cache_dir`, if it lies on a volume that outlives the pod.
    ///
    /// # Errors
    /// It is no absolute path.
    pub(crate) fn find(
        job: &JobSpec,
        runner: &RunnerSettings,
        variables: &Variables,
    ) -> Result<Option<Self>, PlanError> {
        let Some(directory) = clean(&runner.cache_dir) else {
            let message = format!("cache_dir is {:?}: it must be an absolute path, such as /cache", runner.cache_dir);
            return Err(PlanError::Configuration(message));
        };
        let Some(volume) = volumes::kept_above(&runner.kubernetes.volumes, variables, &directory) else {
            return Ok(None);
        };
        let below = directory.strip_prefix(&volume).unwrap_or_default().trim_matches('/');
        let slug = names::project_slug(job.git_info.repo_url.expose(), job.job_info.project_id);
        let project = if below.is_empty() { slug } else { format!("{below}/{slug}") };
        Ok(Some(Self { volume, project }))
    }

    pub(crate) fn file(&self, name: &Name) -> CacheFile {
        let (Name::Readable(name) | Name::Hashed(name)) = name;
        CacheFile { volume: self.volume.clone(), path: format!("{}/{name}/{ARCHIVE}", self.project) }
    }
}

/// The name of a cache's object. That of a hashed key is sharded by its first two characters.
pub(crate) fn object_name(job: &JobSpec, runner: &RunnerSettings, name: &Name) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in runner.cache.path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part.to_owned()),
        }
    }
    if !runner.cache.shared {
        parts.extend(["runner".to_owned(), short_token(runner.token.expose()).to_owned()]);
    }
    parts.extend(["project".to_owned(), job.job_info.project_id.to_string()]);
    match name {
        Name::Readable(name) => parts.push(name.clone()),
        Name::Hashed(hash) => parts.extend([hash.chars().take(2).collect(), hash.clone()]),
    }
    parts.join("/")
}
