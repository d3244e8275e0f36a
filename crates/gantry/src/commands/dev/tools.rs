//! The developer's own tools, for the scripts of a pipeline: the search path, the variables that
//! tools find themselves by, and the directories that these name. What else is in the home, above
//! all what is secret there, is for nobody's script.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use gantry_sim_kube::container::ToolView;
use gantry_sim_kube::{HostTools, ImageTools};

use names::{
    BESIDE_PROGRAMS, DIRECTORIES, EVERYWHERE, IN_HOMES, OWN, ROOTS, SECRET_KEYS, SECRETS, SETTINGS, VERSIONS,
    WORKSPACES,
};

/// The container of a pod that runs no script of the user: it has the job's credentials and needs
/// nothing but git.
const HELPER: &str = "helper";

/// The containers of a pod that do not wait where their program is missing: those that are not
/// services.
const NO_SERVICES: [&str; 2] = [HELPER, "build"];

/// Where its image has our helper, as an image of ours would: nothing needs to be pushed into it.
const HELPER_PROGRAMS: &str = "/helper-image";

/// The search path of such an image, which begins there.
const HELPER_PATH: &str = "/helper-image:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// That of containers where this user has none.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// More links than these in one directory of programs are not followed: somebody has put something
/// else into the search path.
const MAX_LINKS: usize = 2_000;

/// What the helper container has: the programs of this directory of the host.
pub(super) fn helper_image(programs: &Path) -> ImageTools {
    let shown = vec![(programs.to_owned(), PathBuf::from(HELPER_PROGRAMS))];
    let env = vec![("PATH".to_owned(), HELPER_PATH.to_owned())];
    ImageTools { env, view: ToolView { shown, ..ToolView::default() } }
}

/// Nothing of this machine's user, for containers whose images have files of their own; `helper`:
/// what the helper container gets.
pub(super) fn of_helper_alone(helper: ImageTools) -> HostTools {
    HostTools { except: vec![(HELPER.to_owned(), helper)], ..HostTools::default() }
}

/// Finds the tools. `variable` gives the values of environment variables; the file system is only
/// looked at. `helper`: what the helper container gets instead.
pub(super) fn find(variable: &dyn Fn(&str) -> Option<OsString>, helper: ImageTools) -> HostTools {
    let text = |name: &str| variable(name)?.into_string().ok().filter(|value| !value.is_empty());
    let home = text("HOME").map(PathBuf::from).filter(|home| is_home(home));
    let mut search = Search { home: home.clone(), shown: BTreeSet::new() };
    let mut env = Vec::new();
    if let Some(home) = &home {
        env.push(("HOME".to_owned(), home.display().to_string()));
        for root in ROOTS {
            search.show(&home.join(root));
        }
    }
    for name in DIRECTORIES {
        let Some(value) = text(name) else { continue };
        search.show_whole(Path::new(&value));
        env.push((name.to_owned(), value));
    }
    for name in WORKSPACES {
        let Some(value) = text(name) else { continue };
        for space in std::env::split_paths(&value) {
            for part in ["bin", "pkg"] {
                search.show(&space.join(part));
            }
        }
        env.push((name.to_owned(), value));
    }
    env.extend(VERSIONS.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))));
    if let Some(path) = text("PATH") {
        let places: Vec<PathBuf> = std::env::split_paths(&path).filter(|place| place.is_absolute()).collect();
        for place in &places {
            search.show_programs(place);
        }
        for place in &places {
            search.follow_links(place);
        }
        env.push(("PATH".to_owned(), path));
    }
    let hidden = search.shown.iter().flat_map(|place| secrets(place)).collect();
    let shown = search.shown.into_iter().map(|place| (place.clone(), place)).collect();
    HostTools {
        env,
        view: ToolView { home, shown, hidden },
        except: vec![(HELPER.to_owned(), helper)],
        need_programs: Some(NO_SERVICES.map(str::to_owned).to_vec()),
    }
}

/// Whether containers have this program, which may be a path; `path`: their search path.
pub(super) fn have(program: &str, path: Option<&OsStr>) -> bool {
    let is_program = |path: &Path| {
        let is_executable = |data: std::fs::Metadata| data.is_file() && data.permissions().mode() & 0o111 != 0;
        std::fs::metadata(path).is_ok_and(is_executable)
    };
    if program.contains('/') {
        return is_program(Path::new(program));
    }
    let path = path.unwrap_or_else(|| OsStr::new(USUAL_PATH));
    !program.is_empty() && std::env::split_paths(path).any(|place| is_program(&place.join(program)))
}

/// Whether a directory can be the home of containers.
fn is_home(home: &Path) -> bool {
    let is_system = EVERYWHERE.iter().chain(&OWN).any(|name| home == Path::new("/").join(name));
    home.is_absolute() && home.is_dir() && home.parent().is_some() && !is_system
}

/// The places that were found.
struct Search {
    home: Option<PathBuf>,
    shown: BTreeSet<PathBuf>,
}

impl Search {
    /// Shows a place, and where it really is if it is reached by a link: many tools know themselves
    /// by that.
    fn show(&mut self, place: &Path) {
        let sound = place.is_absolute() && !place.components().any(|part| part == Component::ParentDir);
        let Some(real) = place.canonicalize().ok().filter(|_| sound) else { return };
        for place in [place, &real] {
            let is_there = EVERYWHERE.iter().any(|name| place.starts_with(Path::new("/").join(name)));
            if !self.is_shown(place) && (!is_there || self.is_personal(place)) {
                self.shown.insert(place.to_owned());
            }
        }
    }

    /// A directory that somebody named as a tool's. If it is the home, or has it inside, it is more
    /// than that.
    fn show_whole(&mut self, directory: &Path) {
        if directory.is_dir() && !self.is_wide(directory) {
            self.show(directory);
        }
    }

    /// A directory of the search path, and what its programs need beside it.
    fn show_programs(&mut self, programs: &Path) {
        if !programs.is_dir() || self.is_wide(programs) {
            return;
        }
        let Some(prefix) = programs.parent() else { return };
        let is_conventional =
            programs.file_name().is_some_and(|name| name == "bin" || name == "sbin" || name == ".bin");
        if is_conventional && self.is_installation(prefix) {
            return self.show(prefix);
        }
        self.show(programs);
        // Beside `~/bin` lies the whole home.
        if is_conventional && !self.is_wide(prefix) {
            for name in BESIDE_PROGRAMS {
                self.show(&prefix.join(name));
            }
        }
    }

    /// Programs that are links to where something was installed.
    fn follow_links(&mut self, programs: &Path) {
        let entries = std::fs::read_dir(programs).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        for entry in links.take(MAX_LINKS) {
            let Ok(real) = entry.path().canonicalize() else { continue };
            if !self.is_personal(&real) || !real.is_file() || self.is_shown(&real) {
                continue;
            }
            // Packages of Node.js need one another.
            let modules = real.ancestors().filter(|place| place.ends_with("node_modules")).last();
            match (modules, real.parent()) {
                (Some(modules), _) => self.show(modules),
                (None, Some(parent)) if parent.ends_with("bin") => self.show_programs(parent),
                _ => self.show(&real),
            }
        }
    }

    /// Whether a directory holds one installation and nothing else. Directories with a dot in the
    /// home also hold what a tool knows about its user, and checkouts what their author works on.
    fn is_installation(&self, prefix: &Path) -> bool {
        let is_hidden = prefix.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let in_home = prefix.parent().is_some_and(|parent| self.is_somebodys(parent));
        let is_checkout = prefix.join(".git").exists() && !prefix.ends_with("flutter");
        let is_more = self.is_wide(prefix) || is_checkout || is_hidden && in_home;
        !is_more
    }

    /// Whether a directory is a home, has the user's inside, or is the root: more than a tool.
    fn is_wide(&self, directory: &Path) -> bool {
        let has_home = self.home.as_deref().is_some_and(|home| home.starts_with(directory));
        has_home || directory.parent().is_none() || self.is_somebodys(directory)
    }

    /// Whether a directory is the home of the user, or looks like that of another one.
    fn is_somebodys(&self, directory: &Path) -> bool {
        let is_usual = directory == Path::new("/root") || directory.parent() == Some(Path::new("/home"));
        is_usual || self.home.as_deref() == Some(directory) || IN_HOMES.iter().any(|name| directory.join(name).exists())
    }

    /// Whether a place is among the user's own files: the rest is either there in every container
    /// or none of ours.
    fn is_personal(&self, place: &Path) -> bool {
        self.home.as_deref().is_some_and(|home| {
            place.starts_with(home) || home.canonicalize().is_ok_and(|home| place.starts_with(home))
        })
    }

    fn is_shown(&self, place: &Path) -> bool {
        place.ancestors().any(|above| self.shown.contains(above))
    }
}

/// What in a directory that is shown must stay out of sight.
fn secrets(directory: &Path) -> Vec<PathBuf> {
    let named = SECRETS.iter().map(|name| directory.join(name)).filter(|path| path.is_file());
    let settings = SETTINGS.iter().map(|name| directory.join(name)).filter(|path| has_secret(path));
    named.chain(settings).collect()
}

fn has_secret(settings: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(settings) else { return false };
    text.lines().filter_map(|line| line.split_once('=')).any(|(key, _)| {
        let key = key.trim().trim_matches('"');
        SECRET_KEYS.iter().any(|secret| key == *secret || key.ends_with(&format!(".{secret}")))
    })
}

mod names;
#[cfg(test)]
mod tests;
