//! The statement of an archive's provenance: what its files are, and which job of which project has
//! made them, in the form of in-toto and SLSA (GitLab Runner 19.4; documented with GitLab's
//! artifacts). It is a file beside the others in the archive.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gantry_wire::provenance::Provenance;
use jiff::Timestamp;
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::pack::files;
use super::root::Root;
use super::say;

/// How much of a file is read at once.
const READ: usize = 64 * 1024;

/// Writes the statement about `found` into the project, and adds it to them. `name` is that of the
/// archive, without its ending.
///
/// # Errors
/// A file cannot be read, or the statement not be written.
pub(super) fn add(
    root: &Root,
    found: &mut BTreeSet<PathBuf>,
    name: &str,
    job_id: i64,
    about: &Provenance,
) -> io::Result<()> {
    let path = PathBuf::from(format!("{name}-metadata.json"));
    say("Generating artifacts statement");
    // What an earlier try has left is no file of the job.
    found.remove(&path);
    let subjects: io::Result<Vec<Value>> = files(root, found).map(|file| subject(root, file)).collect();
    let text = indented(&statement(&subjects?, job_id, about))?;
    let full = root.path().join(&path);
    match fs::remove_file(&full) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().write(true).create_new(true).mode(0o644).open(&full)?.write_all(&text)?;
    found.insert(path);
    Ok(())
}

fn subject(root: &Root, path: &Path) -> io::Result<Value> {
    let mut digest = Sha256::new();
    let mut file = root.open_file(path)?;
    let mut buffer = vec![0; READ];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(buffer.get(..count).unwrap_or_default());
    }
    let mut hex = String::new();
    for byte in digest.finalize() {
        // Writing to memory cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(json!({"name": path.to_string_lossy(), "digest": {"sha256": hex}}))
}

fn statement(subjects: &[Value], job_id: i64, about: &Provenance) -> Value {
    let Provenance { repo_url, sha, job_name, runner_id, runner_name, executor, version, revision, .. } = about;
    let mut external: Map<String, Value> = about.parameters.iter().map(|name| (name.clone(), json!(""))).collect();
    external.insert("entryPoint".to_owned(), json!(job_name));
    external.insert("source".to_owned(), json!(repo_url));
    let started = i64::try_from(about.started_unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let second = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": subjects,
        "predicate": {
            "buildDefinition": {
                "buildType": format!("https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v{version}/PROVENANCE.md"),
                "externalParameters": external,
                "internalParameters": {
                    "architecture": gantry_gitlab::architecture(),
                    "executor": executor,
                    "job": job_id.to_string(),
                    "name": runner_name,
                },
                "resolvedDependencies": [{"uri": repo_url, "digest": {"sha256": sha}}],
            },
            "runDetails": {
                "builder": {
                    "id": format!("{repo_url}/-/runners/{runner_id}"),
                    "version": {"gitlab-runner": version, "gantry": revision},
                },
                "metadata": {
                    "invocationId": job_id.to_string(),
                    "startedOn": second(started.unwrap_or_else(Timestamp::now)),
                    "finishedOn": second(Timestamp::now()),
                },
            },
        },
    })
}

/// One blank for each level (GitLab Runner 19.4).
fn indented(value: &Value) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, form))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::root::root;

    #[test]
    fn the_statement_names_the_files_and_the_job() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join("out")).unwrap();
        fs::write(project.path().join("out/a"), "one\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", project.path().join("x-metadata.json")).unwrap();
        let about = Provenance {
            repo_url: "https://gitlab.example.com/g/p".into(),
            sha: "0123".into(),
            job_name: "build".into(),
            runner_id: "7".into(),
            runner_name: "cluster".into(),
            executor: "kubernetes".into(),
            version: "19.4.0".into(),
            revision: "0.1.0".into(),
            started_unix_ms: 1_700_000_000_000,
            parameters: vec!["CI".into()],
        };
        let mut found = BTreeSet::from(["out", "out/a"].map(PathBuf::from));
        for _ in 0..2 {
            add(&root(project.path()), &mut found, "x", 42, &about).unwrap();
        }
        assert_eq!(found.len(), 3);
        let text = fs::read_to_string(project.path().join("x-metadata.json")).unwrap();
        assert!(text.starts_with("{\n \"_type\": \"https://in-toto.io/Statement/v0.1\",\n \"predicate"), "{text}");
        let statement: Value = serde_json::from_str(&text).unwrap();
        let digest = "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806";
        assert_eq!(statement["subject"], json!([{"name": "out/a", "digest": {"sha256": digest}}]));
        let build = &statement["predicate"]["buildDefinition"];
        assert_eq!(build["externalParameters"], json!({"CI": "", "entryPoint": "build", "source": about.repo_url}));
        assert_eq!(build["internalParameters"]["job"], "42");
        let run = &statement["predicate"]["runDetails"];
        assert_eq!(run["builder"]["id"], "https://gitlab.example.com/g/p/-/runners/7");
        assert_eq!(run["metadata"]["startedOn"], "2023-11-14T22:13:20Z");
    }
}
