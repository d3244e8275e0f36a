//! The mirror of a project's repository that a node keeps (`git_mirror`). The helper container
//! alone mounts it, and of the volume only the directory of the job's own project: the kubelet, and
//! not what runs in the pod, keeps projects apart.

use gantry_config::RunnerSettings;
use gantry_config::settings::GitMirror;
use gantry_core::job::JobSpec;
use gantry_wire::layout::MIRROR_DIR;
use gantry_wire::plan::GitStrategy;
use k8s_openapi::api::core::v1 as api;

/// Name of the volume.
pub(crate) const VOLUME: &str = "gantry-mirror";

/// The mirror that a job may use.
pub(crate) struct Mirror<'a> {
    place: &'a GitMirror,
    /// The directory of the project in it.
    directory: String,
}

impl<'a> Mirror<'a> {
    /// That of a job which gets its sources, if its runner keeps one.
    pub(crate) fn of(job: &JobSpec, runner: &'a RunnerSettings, strategy: GitStrategy) -> Option<Self> {
        let place = runner.git_mirror.as_ref()?;
        let project = job.job_info.project_id;
        let has_git = matches!(strategy, GitStrategy::Clone | GitStrategy::Fetch);
        // Without a number nothing says whose objects these are.
        (has_git && project > 0).then(|| Self { place, directory: format!("{}/{project}", server(&runner.url)) })
    }

    /// The volume, and how the helper container mounts it.
    pub(crate) fn volume(&self) -> (api::Volume, api::VolumeMount) {
        let mut volume = api::Volume { name: VOLUME.to_owned(), ..Default::default() };
        match self.place {
            GitMirror::HostPath(path) => {
                let kind = Some("DirectoryOrCreate".to_owned());
                volume.host_path = Some(api::HostPathVolumeSource { path: path.clone(), type_: kind });
            }
            GitMirror::Claim(name) => {
                let source = api::PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
                volume.persistent_volume_claim = Some(source);
            }
        }
        let mount = api::VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: MIRROR_DIR.to_owned(),
            sub_path: Some(self.directory.clone()),
            ..Default::default()
        };
        (volume, mount)
    }
}

/// A directory for each GitLab: numbers of projects are its own.
fn server(url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, place)| place).trim_end_matches('/');
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let part = place.chars().map(|c| match c {
        // A colon separates directories in lists of them.
        ':' => '+',
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') => c.to_ascii_lowercase(),
        _ => '_',
    });
    // None is hidden, or leads elsewhere.
    let part: String = part.collect();
    if part.trim_start_matches('.').is_empty() { "_".to_owned() } else { part }
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn every_gitlab_has_a_directory() {
        for (url, directory) in [
            ("https://gitlab.example.com/", "gitlab.example.com"),
            ("http://user:pass@Host:8080/gitlab", "host+8080_gitlab"),
            ("https://[::1]:80", "_++1_+80"),
            ("https://..", "_"),
            ("", "_"),
        ] {
            assert_eq!(server(url), directory, "{url}");
        }
    }
}
