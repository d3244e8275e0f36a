//! The files of a mirror, and the repository that stands before them for as long as a job needs it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{file_url, format_name};
use crate::diagnostics::say;
use crate::limits::MIRROR_TIPS;
use crate::stages::trees;

/// The repository, in the agent's volume.
const REPOSITORY: &str = "mirror.git";

/// Where git keeps packs below a directory of objects.
const PACKS: &str = "pack";

/// Settings of the repository: nothing runs by itself, every pack is kept as it comes, nothing but
/// packs is believed, and any commit may be asked for.
const SETTINGS: &str = "[fetch]\n\tunpackLimit = 1\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
                        [core]\n\tbare = true\n\tcommitGraph = false\n\tmultiPackIndex = false\n\tlogAllRefUpdates = false\n\
                        [pack]\n\tuseBitmaps = false\n[repack]\n\twriteBitmaps = false\n\tupdateServerInfo = false\n\
                        [uploadpack]\n\tallowAnySHA1InWant = true\n";

/// Names of [`MIRROR_TIPS`] objects of 64 hexadecimal digits, each with the end of its line.
const TIPS_BYTES: u64 = 65 * MIRROR_TIPS as u64;

/// An opened mirror.
pub(super) struct Store {
    repository: PathBuf,
    objects: PathBuf,
    /// The names of commits whose histories are in the mirror.
    tips: PathBuf,
    /// Which directory of objects it was that was opened.
    inode: Option<u64>,
}

impl Store {
    /// Makes what is missing, removes what is no pack, and stands a new repository before it.
    pub(super) fn open(mirror: &Path, agent: &Path, object_format: &str) -> io::Result<Self> {
        let format = format_name(object_format);
        let (objects, tips) = (mirror.join(format), mirror.join(format!("{format}.tips")));
        trees::make_below(mirror, &objects.join(PACKS))?;
        keep_only_packs(&objects)?;
        let repository = agent.join(REPOSITORY);
        trees::remove_tree(&repository)?;
        fs::create_dir_all(repository.join("refs"))?;
        symlink(&objects, repository.join("objects"))?;
        fs::write(repository.join("HEAD"), "ref: refs/heads/none\n")?;
        let version = match format {
            "sha1" => "[core]\n\trepositoryFormatVersion = 0\n".to_owned(),
            other => format!("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = {other}\n"),
        };
        fs::write(repository.join("config"), format!("{version}{SETTINGS}"))?;
        let refs: String =
            read_tips(&tips).iter().fold(String::new(), |refs, tip| refs + tip + " refs/gantry/" + tip + "\n");
        fs::write(repository.join("packed-refs"), refs)?;
        let inode = inode(&objects);
        Ok(Self { repository, objects, tips, inode })
    }

    /// The argument that has git work with it.
    pub(super) fn git_dir(&self) -> String {
        format!("--git-dir={}", self.repository.display())
    }

    /// Where it can be fetched from.
    pub(super) fn url(&self) -> String {
        file_url(&self.repository)
    }

    /// How many packs there are.
    pub(super) fn packs(&self) -> usize {
        let entries = fs::read_dir(self.objects.join(PACKS));
        let paths = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "pack")).count()
    }

    /// Notes what `listed` names, a commit to a line, for jobs to come: the newest first.
    pub(super) fn keep_tips(&self, newest: &str, listed: Option<File>) -> io::Result<()> {
        let mut text = String::new();
        if let Some(listed) = listed {
            listed.take(TIPS_BYTES).read_to_string(&mut text)?;
        }
        let mut tips = vec![newest.to_owned()];
        let older = read_tips(&self.tips);
        for tip in text.lines().filter(|line| is_name(line)).map(str::to_owned).chain(older) {
            if tips.len() < MIRROR_TIPS && !tips.contains(&tip) {
                tips.push(tip);
            }
        }
        let hidden = self.tips.with_extension("new");
        trees::remove_tree(&hidden)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&hidden)?;
        file.write_all(tips.join("\n").as_bytes())?;
        if fs::symlink_metadata(&self.tips).is_ok_and(|metadata| metadata.is_dir()) {
            trees::remove_tree(&self.tips)?;
        }
        fs::rename(&hidden, &self.tips)
    }

    /// Whether nobody has made the mirror anew since.
    pub(super) fn is_the_same(&self) -> bool {
        self.inode.is_some() && self.inode == inode(&self.objects)
    }

    /// Removes everything of it. What stays goes with the next try to open it.
    pub(super) fn clear(&self) {
        let removed = trees::remove_tree(&self.tips).and_then(|()| trees::remove_tree(&self.objects));
        if let Err(error) = removed {
            say(format_args!("cannot empty the git mirror {}: {error}", self.objects.display()));
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.ino())
}

/// Removes what we have not put there: alternates lead to other objects, graphs, bitmaps and
/// indexes of several packs say what is in packs, and the rest is of a fetch that has broken off.
fn keep_only_packs(objects: &Path) -> io::Result<()> {
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        if entry.file_name() != PACKS {
            trees::remove_tree(&entry.path())?;
        }
    }
    for entry in fs::read_dir(objects.join(PACKS))? {
        let entry = entry?;
        let name = entry.file_name();
        // A file that somebody on this node still reads, as NFS keeps it.
        if name.to_string_lossy().starts_with(".nfs") {
            continue;
        }
        if !entry.file_type()?.is_file() || !name.to_str().is_some_and(is_of_a_pack) {
            trees::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// `pack-<name>` with the ending of a pack or of what git keeps beside one.
fn is_of_a_pack(name: &str) -> bool {
    let stem = [".pack", ".idx", ".rev"].into_iter().find_map(|ending| name.strip_suffix(ending));
    stem.and_then(|stem| stem.strip_prefix("pack-")).is_some_and(is_name)
}

/// Whether it is the name of an object.
fn is_name(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read_tips(path: &Path) -> Vec<String> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Vec::new() };
    let mut text = Vec::new();
    if file.take(TIPS_BYTES).read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| is_name(line)).map(str::to_owned).take(MIRROR_TIPS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn only_packs_stay() {
        let root = tempfile::tempdir().unwrap();
        let (mirror, agent) = (root.path().join("mirror"), root.path().join("agent"));
        fs::create_dir(&agent).unwrap();
        let pack = mirror.join("sha1/pack");
        fs::create_dir_all(mirror.join("sha1/info")).unwrap();
        fs::create_dir_all(mirror.join("sha1/01")).unwrap();
        fs::create_dir_all(&pack).unwrap();
        fs::write(mirror.join("sha1/info/alternates"), "/builds\n").unwrap();
        let kept = format!("pack-{NAME}.pack");
        for name in [&kept, "pack-x.pack", "tmp_pack_1", "multi-pack-index", &format!("pack-{NAME}.bitmap")] {
            fs::write(pack.join(name), "").unwrap();
        }
        symlink("/etc/passwd", pack.join(format!("pack-{}.idx", NAME.replace('0', "a")))).unwrap();
        let store = Store::open(&mirror, &agent, "").unwrap();
        let left: Vec<_> = fs::read_dir(&pack).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [kept.as_str()]);
        assert_eq!(fs::read_dir(mirror.join("sha1")).unwrap().count(), 1);
        assert_eq!(store.packs(), 1);
    }

    #[test]
    fn a_link_in_the_place_of_the_mirror_s_directories_goes() {
        let root = tempfile::tempdir().unwrap();
        let (mirror, agent, victim) = (root.path().join("m"), root.path().join("a"), root.path().join("victim"));
        for directory in [&mirror, &agent, &victim] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(victim.join("file"), "x").unwrap();
        symlink(&victim, mirror.join("sha1")).unwrap();
        symlink(victim.join("file"), mirror.join("sha1.tips")).unwrap();
        let store = Store::open(&mirror, &agent, "sha1").unwrap();
        let listed = root.path().join("listed");
        fs::write(&listed, format!("{NAME}\n")).unwrap();
        store.keep_tips(NAME, Some(File::open(&listed).unwrap())).unwrap();
        assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "x");
        assert_eq!(read_tips(&mirror.join("sha1.tips")), [NAME]);
        store.clear();
        assert!(!store.is_the_same() && victim.join("file").exists());
    }
}
