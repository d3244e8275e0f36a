//! Submodules whose URLs are relative to the project's: in GitLab they are neighbours of it, and
//! here the copies that the user has of them stand for those. Submodules with a full URL come from
//! there, as in GitLab.

use std::path::{Path, PathBuf};

use super::git::git;

/// How deep submodules have submodules. More is a circle.
const DEEPEST: usize = 8;

/// A project that is served beside the user's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its path in the simulated GitLab.
    pub(super) name: String,
    /// Its git directory.
    pub(super) git_dir: PathBuf,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Submodules {
    pub(super) neighbours: Vec<Neighbour>,
    /// Names of those that the user has no copy of.
    pub(super) missing: Vec<String>,
}

impl Submodules {
    /// Looks up the submodules that a commit of the project `name` has. `git_dir`: what all its
    /// work trees share.
    pub(super) fn find(git_dir: &Path, name: &str, sha: &str) -> Self {
        let mut found = Self::default();
        found.add(git_dir, name, sha, DEEPEST);
        found
    }

    fn add(&mut self, git_dir: &Path, project: &str, sha: &str, depth: usize) {
        let blob = format!("--blob={sha}:.gitmodules");
        let Ok(listed) = git(git_dir, &["config", &blob, "--get-regexp", r"^submodule\..*\.url$"]) else { return };
        for line in listed.lines() {
            let Some((key, url)) = line.split_once(' ') else { continue };
            let name = key.trim_start_matches("submodule.").trim_end_matches(".url");
            let Some(neighbour) = resolve(project, url) else { continue };
            let is_known = neighbour == project || self.neighbours.iter().any(|known| known.name == neighbour);
            if is_known {
                continue;
            }
            let copy = git_dir.join("modules").join(name);
            let Some(head) = is_safe(name).then(|| super::git::commit_of(&copy, "HEAD")).flatten() else {
                self.missing.push(name.to_owned());
                continue;
            };
            self.neighbours.push(Neighbour { name: neighbour.clone(), git_dir: copy.clone() });
            if depth > 0 {
                self.add(&copy, &neighbour, &head, depth - 1);
            }
        }
    }
}

/// Whether a name from a file of the repository leads to nowhere else.
fn is_safe(name: &str) -> bool {
    !name.starts_with('/') && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// The path of the project that a relative URL names.
fn resolve(project: &str, url: &str) -> Option<String> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return None;
    }
    let mut parts: Vec<&str> = project.split('/').collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let name = parts.join("/");
    let name = name.strip_suffix(".git").unwrap_or(&name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.+/".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_urls_name_neighbours() {
        for (url, name) in [
            ("../lib", Some("local/lib")),
            ("../lib.git/", Some("local/lib")),
            ("./inner", Some("local/app/inner")),
            ("../../group/deep/lib.git", Some("group/deep/lib")),
            ("../../../above", None),
            ("../..", None),
            ("https://example.com/lib.git", None),
            ("git@example.com:lib.git", None),
            ("/srv/lib", None),
            ("../with space", None),
        ] {
            assert_eq!(resolve("local/app", url).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn names_stay_below_the_modules() {
        assert!(is_safe("lib") && is_safe("third party/lib"));
        assert!(!is_safe("../x") && !is_safe("/x") && !is_safe("a/../x") && !is_safe(""));
    }

    fn run(dir: &Path, args: &[&str]) -> String {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"])
            .args(["-c", "protocol.file.allow=always"])
            .args(args)
            .current_dir(dir)
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn copies_of_the_user_stand_for_neighbours() {
        let base = tempfile::tempdir().unwrap();
        let path = |name: &str| base.path().join(name);
        for name in ["inner", "outer", "app"] {
            run(base.path(), &["init", "-q", "-b", "main", name]);
            run(&path(name), &["commit", "-q", "--allow-empty", "-m", name]);
        }
        run(&path("outer"), &["submodule", "--quiet", "add", "../inner", "in"]);
        run(&path("outer"), &["commit", "-q", "-m", "with a submodule"]);
        run(&path("app"), &["submodule", "--quiet", "add", "../outer", "out"]);
        run(&path("app"), &["submodule", "--quiet", "add", "--name", "far", path("inner").to_str().unwrap(), "far"]);
        run(&path("app"), &["commit", "-q", "-m", "with submodules"]);
        let sha = run(&path("app"), &["rev-parse", "HEAD"]);
        let find = || {
            let found = Submodules::find(&path("app/.git"), "local/app", &sha);
            let names: Vec<String> = found.neighbours.into_iter().map(|neighbour| neighbour.name).collect();
            (names, found.missing)
        };
        assert_eq!(find(), (vec!["local/outer".to_owned()], vec!["in".to_owned()]), "a full URL is nobody here");
        run(&path("app"), &["submodule", "--quiet", "update", "--init", "--recursive"]);
        assert_eq!(find(), (vec!["local/outer".to_owned(), "local/inner".to_owned()], Vec::new()));
    }
}
