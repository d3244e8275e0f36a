//! Chooses the files of an artifact (GitLab Runner 19.4: doublestar patterns, relative to the
//! project). A pattern leads through linked directories as long as they lie inside of the project;
//! what it matches is taken with everything below, where links stay links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::WalkDir;

use super::root::Root;
use super::untracked::{Tool, untracked};
use crate::limits::ARTIFACT_LINKS;

/// What to choose; already expanded.
pub(super) struct SelectRules<'a> {
    /// The project's path, as the job knows it.
    pub(super) project: &'a Path,
    pub(super) root: &'a Root,
    pub(super) paths: &'a [String],
    pub(super) exclude: &'a [String],
    /// How git is asked for untracked files, if they are wanted.
    pub(super) untracked: Option<Tool<'a>>,
}

/// A line about what was found.
pub(super) enum Remark {
    Plain(String),
    Warning(String),
}

/// The chosen paths, relative to the project and in order, and what there is to say about the
/// choice.
pub(super) fn select(wanted: &SelectRules<'_>) -> (BTreeSet<PathBuf>, Vec<Remark>) {
    let mut selection = Selection {
        project: wanted.project,
        root: wanted.root,
        found: BTreeSet::new(),
        passed: BTreeSet::new(),
        exclusions: Vec::new(),
        remarks: Vec::new(),
    };
    for rule in wanted.exclude {
        selection.exclude(rule);
    }
    for path in wanted.paths {
        selection.add_pattern(path);
    }
    if let Some(tool) = &wanted.untracked {
        selection.add_untracked(tool);
    }
    selection.count_excluded();
    selection.drop_passed();
    (selection.found, selection.remarks)
}

struct Selection<'a> {
    project: &'a Path,
    root: &'a Root,
    found: BTreeSet<PathBuf>,
    /// Links that a pattern has led through.
    passed: BTreeSet<PathBuf>,
    exclusions: Vec<Exclusion>,
    remarks: Vec<Remark>,
}

/// What is left out, and how much that was.
struct Exclusion {
    rule: String,
    matcher: Matcher,
    count: usize,
}

/// A directory that is to be searched.
struct SearchedDirectory {
    path: PathBuf,
    /// Where it really is.
    real: PathBuf,
    /// Links on the way.
    links: u32,
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
                Ok(matcher) => self.matching(pattern, &relative, &matcher),
                Err(problem) => return self.warn(format!("{pattern}: not a pattern: {problem}")),
            }
        } else if self.root.locate(Path::new(&relative)).is_some() {
            self.pass_links_above(Path::new(&relative));
            self.take(Path::new(&relative))
        } else {
            Vec::new()
        };
        let found = self.without_excluded(found);
        if found.is_empty() {
            self.warn(format!(
                "{pattern}: no matching files. Ensure that the artifact path is relative to the working directory ({})",
                self.project.display()
            ));
        } else {
            self.say(format!("{pattern}: found {} matching artifact files and directories", found.len()));
        }
        self.add(found);
    }

    /// A set that is made at once of what is in order costs a tenth of one that grows.
    fn add(&mut self, found: Vec<PathBuf>) {
        if self.found.is_empty() {
            self.found = found.into_iter().collect();
        } else {
            self.found.extend(found);
        }
    }

    /// Everything that the pattern matches, with what is below it.
    fn matching(&mut self, shown: &str, pattern: &str, matcher: &Matcher) -> Vec<PathBuf> {
        let fixed: PathBuf = Path::new(pattern)
            .components()
            .take_while(|part| !has_magic(&part.as_os_str().to_string_lossy()))
            .collect();
        let Some(real) = self.root.resolve(&fixed) else { return Vec::new() };
        self.pass_links_above(&fixed.join("x"));
        let is_match = matcher.matches(&fixed) && !fixed.as_os_str().is_empty();
        if is_match && !self.is_link(&fixed) {
            return self.take(&fixed);
        }
        let (mut found, mut is_deep) = (Vec::new(), false);
        let mut places = vec![SearchedDirectory { path: fixed, real, links: 0 }];
        while let Some(place) = places.pop() {
            for entry in fs::read_dir(self.root.path().join(&place.path)).into_iter().flatten().filter_map(Result::ok) {
                let path = place.path.join(entry.file_name());
                if is_match || matcher.matches(&path) {
                    found.extend(self.take(&path));
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    places.push(SearchedDirectory {
                        real: place.real.join(entry.file_name()),
                        path,
                        links: place.links,
                    });
                } else if let Some(real) = self.linked_directory(&path, &place.real) {
                    if place.links < ARTIFACT_LINKS {
                        self.passed.insert(path.clone());
                        places.push(SearchedDirectory { path, real, links: place.links + 1 });
                    } else {
                        is_deep = true;
                    }
                }
            }
        }
        if is_deep {
            self.warn(format!(
                "{shown}: not searched where more than {ARTIFACT_LINKS} linked directories follow each other"
            ));
        }
        found
    }

    /// Where a linked directory really is, if it is one and does not lead back to above `from`.
    fn linked_directory(&self, path: &Path, from: &Path) -> Option<PathBuf> {
        if !self.is_link(path) {
            return None;
        }
        let real = self.root.resolve(path)?;
        (self.root.path().join(&real).is_dir() && !from.starts_with(&real)).then_some(real)
    }

    /// The entry and all below it; links are not followed. The project itself is no entry.
    fn take(&self, start: &Path) -> Vec<PathBuf> {
        WalkDir::new(self.root.path().join(start))
            .follow_links(false)
            .follow_root_links(start.as_os_str().is_empty())
            // In the order of the set, which then costs little to make.
            .sort_by_file_name()
            .into_iter()
            .filter_map(Result::ok)
            .filter_map(|entry| entry.path().strip_prefix(self.root.path()).ok().map(Path::to_owned))
            .filter(|path| !path.as_os_str().is_empty())
            .collect()
    }

    fn is_link(&self, path: &Path) -> bool {
        fs::symlink_metadata(self.root.path().join(path)).is_ok_and(|metadata| metadata.is_symlink())
    }

    fn pass_links_above(&mut self, path: &Path) {
        let above = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty() && self.is_link(path));
        let above: Vec<PathBuf> = above.map(Path::to_owned).collect();
        self.passed.extend(above);
    }

    /// A name cannot be both a link and a directory with files in an archive: where there are
    /// files, they count.
    fn drop_passed(&mut self) {
        for link in &self.passed {
            let next = self.found.range(link.clone()..).find(|path| *path != link);
            if next.is_some_and(|next| next.starts_with(link)) {
                self.found.remove(link);
            }
        }
    }

    fn add_untracked(&mut self, tool: &Tool<'_>) {
        let listed = match untracked(self.root, tool) {
            Ok(listed) => listed,
            Err(problem) => return self.warn(format!("untracked: {problem}")),
        };
        let is_there = |path: &PathBuf| fs::symlink_metadata(self.root.path().join(path)).is_ok();
        let found: Vec<PathBuf> = listed.into_iter().filter(|path| is_plain(path) && is_there(path)).collect();
        let found = self.without_excluded(found);
        if found.is_empty() {
            self.say("untracked: no files".to_owned());
        } else {
            self.say(format!("untracked: found {} files", found.len()));
        }
        self.add(found);
    }

    fn exclude(&mut self, rule: &str) {
        let Some(relative) = within(self.project, rule) else {
            return self.warn(format!("isExcluded: artifact path is not a subpath of project directory: {rule}"));
        };
        match matcher(&relative) {
            Ok(matcher) => self.exclusions.push(Exclusion { rule: rule.to_owned(), matcher, count: 0 }),
            Err(problem) => self.warn(format!("{rule}: not a pattern: {problem}")),
        }
    }

    /// Leaves out what is excluded. The first rule that matches counts it.
    fn without_excluded(&mut self, mut found: Vec<PathBuf>) -> Vec<PathBuf> {
        found.retain(|path| {
            let excluded = self.exclusions.iter_mut().find(|exclusion| exclusion.matcher.matches(path));
            excluded.map(|exclusion| exclusion.count += 1).is_none()
        });
        found
    }

    fn count_excluded(&mut self) {
        for Exclusion { rule, count, .. } in std::mem::take(&mut self.exclusions) {
            if count > 0 {
                self.say(format!("{rule}: excluded {count} files"));
            }
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

/// `pattern` relative to the project, cleaned; `None` if it lies outside. An empty result is the
/// project itself.
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
    use crate::archive::root::root;

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
        let root = root(project.path());
        let wanted =
            SelectRules { project: project.path(), root: &root, paths: &paths, exclude: &exclude, untracked: None };
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
    fn patterns_lead_through_linked_directories_as_doublestar_does() {
        let project = tempfile::tempdir().unwrap();
        let at = |path: &str| project.path().join(path);
        fs::create_dir_all(at("build/2024/deep")).unwrap();
        for file in ["build/2024/report.xml", "build/2024/deep/more.xml"] {
            fs::write(at(file), "r").unwrap();
        }
        let link = |target: &str, path: &str| std::os::unix::fs::symlink(target, at(path)).unwrap();
        link("2024", "build/latest");
        link(".", "build/2024/round");
        link("/etc", "outside");
        let chosen = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let root = root(project.path());
            let wanted =
                SelectRules { project: project.path(), root: &root, paths: &paths, exclude: &[], untracked: None };
            let (found, _) = select(&wanted);
            found.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        for (paths, expected) in [
            (&["build/latest/report.xml"][..], &["build/latest/report.xml"][..]),
            (&["build/latest/*.xml"], &["build/latest/report.xml"]),
            (&["build/*/report.xml"], &["build/2024/report.xml", "build/latest/report.xml"]),
            (&["**/report.xml"], &["build/2024/report.xml", "build/latest/report.xml"]),
            (&["build/latest/deep"], &["build/latest/deep", "build/latest/deep/more.xml"]),
            (&["build/latest/"], &["build/latest"]),
            (&["build/latest"], &["build/latest"]),
            (&["build/latest", "build/latest/*.xml"], &["build/latest/report.xml"]),
            (
                &["build/latest/**"],
                &["build/latest/deep", "build/latest/deep/more.xml", "build/latest/report.xml", "build/latest/round"],
            ),
            (&["outside/*", "outside/hostname", "build/latest/../../../x"], &[]),
        ] {
            assert_eq!(chosen(paths), expected, "{paths:?}");
        }
    }

    #[test]
    fn a_way_out_and_back_in_is_inside() {
        assert_eq!(within(Path::new("/builds/g/p"), "../p/x"), Some("x".to_owned()));
        assert_eq!(within(Path::new("/builds/g/p"), "/builds/g/p/x/*"), Some("x/*".to_owned()));
        assert_eq!(within(Path::new("/builds/g/p"), "/builds/g/pp/x"), None);
    }

    #[test]
    fn what_is_excluded_is_not_found() {
        let project = project();
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (paths, exclude) = (own(&["dist", "other/*.js"]), own(&["**/*.js", "dist/*.js", "nothing"]));
        let root = root(project.path());
        let wanted =
            SelectRules { project: project.path(), root: &root, paths: &paths, exclude: &exclude, untracked: None };
        let said: Vec<String> = select(&wanted)
            .1
            .into_iter()
            .map(|remark| match remark {
                Remark::Plain(text) => text,
                Remark::Warning(text) => format!("WARNING: {}", text.split('.').next().unwrap_or_default()),
            })
            .collect();
        // The words and numbers of GitLab Runner 18.5's own helper.
        let expected =
            ["dist: found 3 matching artifact files and directories", "WARNING: other/*", "**/*.js: excluded 3 files"];
        assert_eq!(said, expected);
    }

    #[test]
    fn exclusion_is_by_whole_path() {
        assert_eq!(chosen(&["dist"], &["dist/sub/**"]).0, ["dist", "dist/x.js"]);
        assert_eq!(chosen(&["dist"], &["dist/sub"]).0, ["dist", "dist/sub/y.js", "dist/sub/z.map", "dist/x.js"]);
        assert_eq!(chosen(&["dist/"], &["../x", "**/*.js"]).0, ["dist", "dist/sub", "dist/sub/z.map"]);
    }
}
