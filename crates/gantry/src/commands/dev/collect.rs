//! `--artifacts`: the files of the jobs' artifacts, in a directory of each job.

use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use super::api::{Api, Job, Pipeline};

/// What a directory has that git is to leave alone: else the next run would see it in the work
/// tree, and `--watch` run for ever.
const UNSEEN_BY_GIT: (&str, &[u8]) = (".gitignore", b"*\n");

/// Copies everything that the jobs of a pipeline have left; how many files that are.
pub(super) async fn artifacts(api: &Api, pipeline: &Pipeline, to: &Path) -> anyhow::Result<usize> {
    let (mut count, is_new) = (0, !to.exists());
    for job in pipeline.jobs.iter().filter(|job| !job.retried) {
        if job.artifacts.is_empty() {
            continue;
        }
        let directory = to.join(directory_name(job));
        for artifact in &job.artifacts {
            count += if artifact.kind == "archive" {
                archive(api, job, &directory).await?
            } else {
                let bytes = api.artifact(job.id, &artifact.filename).await?;
                let name = PathBuf::from(&artifact.filename);
                write(&directory.join("reports").join(name.file_name().unwrap_or_default()), &bytes)?;
                1
            };
        }
    }
    let (name, content) = UNSEEN_BY_GIT;
    if is_new && count > 0 {
        write(&to.join(name), content)?;
    }
    Ok(count)
}

async fn archive(api: &Api, job: &Job, directory: &Path) -> anyhow::Result<usize> {
    let files = api.files(job.id).await?;
    for path in &files {
        // What an archive says of a path is not trusted.
        let inside = PathBuf::from(path);
        anyhow::ensure!(
            inside.components().all(|part| matches!(part, Component::Normal(_))),
            "the artifacts of {} have a file {path:?}, which leads elsewhere",
            job.name
        );
        write(&directory.join(inside), &api.file(job.id, path).await?)?;
    }
    Ok(files.len())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(path);
    let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(path, bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A job's name as that of a directory.
fn directory_name(job: &Job) -> String {
    let name: String = job.name.chars().map(|c| if c == '/' || c.is_control() { '-' } else { c }).collect();
    let name = name.trim().trim_start_matches('.');
    if name.is_empty() { format!("job-{}", job.id) } else { name.to_owned() }
}
