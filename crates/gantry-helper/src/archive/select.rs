//! Chooses the files of an artifact (GitLab Runner 19.4: doublestar patterns, relative to the project, links never followed, directories
//! included with everything in them).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::WalkDir;

/// What to choose; already expanded.
pub(super) struct Wanted<'a> {
    pub(super) project: &'a Path,
    pub(super) paths: &'a [String],
    pub(super) exclude: &'a [String],
    pub(super) untracked: bool,
}

/// A line about what was found.
pub(super) enum Remark {
    Plain(String),
    Warning(String),
}

/// The chosen paths, relative to the project and in order, and what there is to say about the choice.
pub(super) fn select(wanted: &Wanted<'_>) -> (BTreeSet<PathBuf>, Vec<Remark>) {
    let mut selection = Selection { project: wanted.project, found: BTreeSet::new(), remarks: Vec::new() };
    for path in wanted.paths {
        selection.add_pattern(path);
    }
    if wanted.untracked {
        selection.add_untracked();
    }
    for rule in wanted.exclude {
        selection.exclude(rule);
    }
    (selection.found, selection.remarks)
}

struct Selection<'a> {
    project: &'a Path,
    found: BTreeSet<PathBuf>,
    remarks: Vec<Remark>,
}

impl Selection<'_> {
    fn add_pattern(&mut self, pattern: &str) {
        if pattern.is_empty() {
            return self.warn("No matching files. Path is empty.".to_owned());
        }
        let Some(relative) = within(self.project, pattern) else {
            return self.warn(format!("processPath: artifact path is not a subpath of project directory: {pattern}"));
        };
        let found = if has_magic(&relative) {
            match matcher(&relative) {
                Ok(matcher) => self.matching(&relative, &matcher),
                Err(problem) => return self.warn(format!("{pattern}: not a pattern: {problem}")),
            }
        } else {
            self.below(Path::new(&relative), |_| true)
        };
        if found.is_empty() {
            self.warn(format!(
                "{pattern}: no matching files. Ensure that the artifact path is relative to the working directory ({})",
                self.project.display()
            ));
        } else {
            self.say(format!("{pattern}: found {} matching artifact files and directories", found.len()));
        }
        self.found.extend(found);
    }

    /// Everything that the pattern matches, with what is below it.
    fn matching(&self, pattern: &str, matcher: &Matcher) -> Vec<PathBuf> {
        let fixed: PathBuf = Path::new(pattern)
            .components()
            .take_while(|part| !has_magic(&part.as_os_str().to_string_lossy()))
            .collect();
        // Entries come depth first, so everything after a match and deeper than it is below it.
        let mut inside: Option<PathBuf> = None;
        self.below(&fixed, |path| {
            if inside.as_ref().is_some_and(|root| path.starts_with(root)) {
                return true;
            }
            let hit = matcher.matches(path);
            inside = hit.then(|| path.to_owned());
            hit
        })
    }

    /// The entries at and below `start` that `keep` wants. The project itself is no entry.
    fn below(&self, start: &Path, mut keep: impl FnMut(&Path) -> bool) -> Vec<PathBuf> {
        if !self.is_reached_without_links(start) {
            return Vec::new();
        }
        WalkDir::new(self.project.join(start))
            .follow_links(false)
            .follow_root_links(start.as_os_str().is_empty())
            .into_iter()
            .filter_map(Result::ok)
            .filter_map(|entry| entry.path().strip_prefix(self.project).ok().map(Path::to_owned))
            .filter(|path| !path.as_os_str().is_empty() && keep(path))
            .collect()
    }

    /// A link on the way could lead anywhere in the helper container, which holds more than the project.
    fn is_reached_without_links(&self, relative: &Path) -> bool {
        let parents = relative.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        parents
            .map(|parent| self.project.join(parent))
            .all(|parent| fs::symlink_metadata(parent).is_ok_and(|metadata| metadata.is_dir()))
    }

    fn add_untracked(&mut self) {
        let output = Command::new("git")
            .args(["-c", "safe.directory=*", "ls-files", "-o", "-z"])
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .current_dir(self.project)
            .stdin(Stdio::null())
            .output();
        let listed = match output {
            Ok(output) if output.status.success() => output.stdout,
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr);
                return self.warn(format!("untracked: git ls-files failed: {}", words.trim()));
            }
            Err(error) => return self.warn(format!("untracked: git cannot be started: {error}")),
        };
        let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let found: Vec<PathBuf> = names
            .map(|name| PathBuf::from(OsString::from_vec(name.to_vec())))
            .filter(|path| is_plain(path) && fs::symlink_metadata(self.project.join(path)).is_ok())
            .collect();
        if found.is_empty() {
            self.say("untracked: no files".to_owned());
        } else {
            self.say(format!("untracked: found {} files", found.len()));
        }
        self.found.extend(found);
    }

    fn exclude(&mut self, rule: &str) {
        let Some(relative) = within(self.project, rule) else {
            return self.warn(format!("isExcluded: artifact path is not a subpath of project directory: {rule}"));
        };
        let matcher = match matcher(&relative) {
            Ok(matcher) => matcher,
            Err(problem) => return self.warn(format!("{rule}: not a pattern: {problem}")),
        };
        let before = self.found.len();
        self.found.retain(|path| !matcher.matches(path));
        let count = before - self.found.len();
        if count > 0 {
            self.say(format!("{rule}: excluded {count} files"));
        }
    }

    fn say(&mut self, text: String) {
        self.remarks.push(Remark::Plain(text));
    }

    fn warn(&mut self, text: String) {
        self.remarks.push(Remark::Warning(text));
    }
}

/// A pattern with the meaning that doublestar gives it.
struct Matcher {
    pattern: GlobMatcher,
    /// `dir/**` matches `dir` too.
    directory: Option<GlobMatcher>,
}

impl Matcher {
    fn matches(&self, path: &Path) -> bool {
        self.pattern.is_match(path) || self.directory.as_ref().is_some_and(|directory| directory.is_match(path))
    }
}

fn matcher(pattern: &str) -> Result<Matcher, globset::Error> {
    let build = |pattern: &str| {
        let mut builder = GlobBuilder::new(pattern);
        builder.literal_separator(true).backslash_escape(true).empty_alternates(true);
        builder.build().map(|glob| glob.compile_matcher())
    };
    let directory = pattern.strip_suffix("/**").map(build).transpose()?;
    Ok(Matcher { pattern: build(pattern)?, directory })
}

fn has_magic(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// `pattern` relative to the project, cleaned; `None` if it lies outside. An empty result is the project itself.
fn within(project: &Path, pattern: &str) -> Option<String> {
    let own: Vec<&str> = project.to_str()?.split('/').filter(|part| !part.is_empty()).collect();
    let mut parts = if pattern.starts_with('/') { Vec::new() } else { own.clone() };
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.strip_prefix(own.as_slice()).map(|rest| rest.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        for file in ["a.txt", ".hidden", "dist/x.js", "dist/sub/y.js", "dist/sub/z.map", "other/x.js"] {
            let path = project.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        std::os::unix::fs::symlink("/etc", project.path().join("link")).unwrap();
        project
    }

    fn chosen(paths: &[&str], exclude: &[&str]) -> (Vec<String>, usize) {
        let project = project();
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (paths, exclude) = (own(paths), own(exclude));
        let wanted = Wanted { project: project.path(), paths: &paths, exclude: &exclude, untracked: false };
        let (found, remarks) = select(&wanted);
        let warnings = remarks.iter().filter(|remark| matches!(remark, Remark::Warning(_))).count();
        (found.iter().map(|path| path.to_string_lossy().into_owned()).collect(), warnings)
    }

    #[test]
    fn patterns_mean_what_doublestar_means() {
        for (pattern, expected) in [
            ("a.txt", vec!["a.txt"]),
            ("./dist//sub/", vec!["dist/sub", "dist/sub/y.js", "dist/sub/z.map"]),
            ("dist/*.js", vec!["dist/x.js"]),
            ("**/x.js", vec!["dist/x.js", "other/x.js"]),
            ("*/sub", vec!["dist/sub", "dist/sub/y.js", "dist/sub/z.map"]),
            ("{dist,other}/*.js", vec!["dist/x.js", "other/x.js"]),
            ("dist/**/[!y]*", vec!["dist/sub", "dist/sub/y.js", "dist/sub/z.map", "dist/x.js"]),
            ("?.txt", vec!["a.txt"]),
            ("*.hidden", vec![".hidden"]),
            ("link", vec!["link"]),
        ] {
            assert_eq!(chosen(&[pattern], &[]), (expected.iter().map(ToString::to_string).collect(), 0), "{pattern}");
        }
    }

    #[test]
    fn the_whole_project_is_everything_in_it() {
        assert_eq!(chosen(&["."], &[]).0.len(), 10);
        assert_eq!(chosen(&["**"], &[]).0.len(), 10);
    }

    #[test]
    fn nothing_outside_of_the_project_is_chosen() {
        for pattern in ["../x", "/etc/passwd", "dist/../../x", "link/passwd", "link/*", "", "["] {
            let (found, warnings) = chosen(&[pattern], &[]);
            assert_eq!((found.len(), warnings), (0, 1), "{pattern}");
        }
    }

    #[test]
    fn a_way_out_and_back_in_is_inside() {
        assert_eq!(within(Path::new("/builds/g/p"), "../p/x"), Some("x".to_owned()));
        assert_eq!(within(Path::new("/builds/g/p"), "/builds/g/p/x/*"), Some("x/*".to_owned()));
        assert_eq!(within(Path::new("/builds/g/p"), "/builds/g/pp/x"), None);
    }

    #[test]
    fn exclusion_is_by_whole_path() {
        assert_eq!(chosen(&["dist"], &["dist/sub/**"]).0, ["dist", "dist/x.js"]);
        assert_eq!(chosen(&["dist"], &["dist/sub"]).0, ["dist", "dist/sub/y.js", "dist/sub/z.map", "dist/x.js"]);
        assert_eq!(chosen(&["dist/"], &["../x", "**/*.js"]).0, ["dist", "dist/sub", "dist/sub/z.map"]);
    }
}
