//! The files of a mirror, and the repository that stands before them for as long as a job needs it.
//!
//! Directories of the mirror are opened once, without following a link, and reached by their
//! descriptors from then on: what another job puts into the place of one is never come to. Git has
//! the one for packs from its parent, under the same number.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, OFlag, fcntl, open, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};

use super::{file_url, format_name};
use crate::diagnostics::say;
use crate::limits::{MIRROR_REST, MIRROR_TIPS};
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

/// Most of a file that says why a mirror rests: one word.
const REST_BYTES: u64 = 16;

/// Names of [`MIRROR_TIPS`] objects of 64 hexadecimal digits, each with the end of its line.
const TIPS_BYTES: u64 = 65 * MIRROR_TIPS as u64;

/// Why nothing is fetched into a mirror for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The history takes longer than a job may wait.
    Slow,
    /// The history is larger than the operator allows.
    Large,
}

impl Rest {
    const ALL: [Self; 2] = [Self::Slow, Self::Large];

    /// What the file says. Nothing else in it is ever shown.
    fn word(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Large => "large",
        }
    }
}

/// An opened mirror.
pub(super) struct Store {
    repository: PathBuf,
    format: String,
    /// The directory that the kubelet has mounted.
    mirror: OwnedFd,
    /// What belongs to one format of names.
    objects: OwnedFd,
    packs: OwnedFd,
}

impl Store {
    /// Makes what is missing, removes what is no pack, and stands a new repository before it.
    pub(super) fn open(mirror: &Path, agent: &Path, object_format: &str) -> io::Result<Self> {
        let format = format_name(object_format).to_owned();
        let mirror = open(mirror, DIRECTORY, Mode::empty())?;
        let objects = directory(&mirror, &format)?;
        let packs = directory(&objects, PACKS)?;
        keep_only_packs(&objects, &packs)?;
        // Every process that git starts has it too, and looks into its own descriptors.
        fcntl(&packs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let repository = agent.join(REPOSITORY);
        trees::remove_tree(&repository)?;
        fs::create_dir_all(repository.join("refs"))?;
        fs::create_dir(repository.join("objects"))?;
        symlink(path(&packs), repository.join("objects").join(PACKS))?;
        fs::write(repository.join("HEAD"), "ref: refs/heads/none\n")?;
        let version = match format.as_str() {
            "sha1" => "[core]\n\trepositoryFormatVersion = 0\n".to_owned(),
            other => format!("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = {other}\n"),
        };
        fs::write(repository.join("config"), format!("{version}{SETTINGS}"))?;
        let store = Self { repository, format, mirror, objects, packs };
        let refs: String =
            store.read_tips().iter().fold(String::new(), |refs, tip| refs + tip + " refs/gantry/" + tip + "\n");
        fs::write(store.repository.join("packed-refs"), refs)?;
        Ok(store)
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
        let is_pack = |name: &Path| name.extension().is_some_and(|ending| ending == "pack");
        self.files().filter(|entry| is_pack(Path::new(&entry.file_name()))).count()
    }

    /// Bytes of all packs and what is beside them.
    pub(super) fn size(&self) -> u64 {
        self.files().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }

    fn files(&self) -> impl Iterator<Item = fs::DirEntry> + use<> {
        fs::read_dir(path(&self.packs)).into_iter().flatten().filter_map(Result::ok)
    }

    /// Notes what `listed` names, a commit to a line, for jobs to come: the newest first.
    pub(super) fn keep_tips(&self, newest: &str, listed: Option<File>) -> io::Result<()> {
        let mut text = String::new();
        if let Some(listed) = listed {
            listed.take(TIPS_BYTES).read_to_string(&mut text)?;
        }
        let mut tips = vec![newest.to_owned()];
        let older = self.read_tips();
        for tip in text.lines().filter(|line| is_name(line)).map(str::to_owned).chain(older) {
            if tips.len() < MIRROR_TIPS && !tips.contains(&tip) {
                tips.push(tip);
            }
        }
        self.write("tips", &tips.join("\n"))
    }

    fn read_tips(&self) -> Vec<String> {
        let Ok(text) = self.read("tips", TIPS_BYTES) else { return Vec::new() };
        text.lines().filter(|line| is_name(line)).map(str::to_owned).take(MIRROR_TIPS).collect()
    }

    /// Why nothing shall be fetched into it now.
    pub(super) fn rest(&self) -> Option<Rest> {
        let word = self.read("rest", REST_BYTES).ok()?;
        let file = self.open_file("rest").ok()?;
        let age = SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?).ok()?;
        Rest::ALL.into_iter().find(|rest| rest.word() == word && age < MIRROR_REST)
    }

    /// Nothing is fetched into it for a while.
    pub(super) fn take_rest(&self, why: Rest) {
        if let Err(error) = self.write("rest", why.word()) {
            say(format_args!("cannot note that the git mirror is of no use: {error}"));
        }
    }

    /// Whether nobody has made the mirror anew since.
    pub(super) fn is_the_same(&self) -> bool {
        let now = fstatat(&self.mirror, self.format.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        now.is_ok_and(|now| {
            fstat(&self.objects).is_ok_and(|then| (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino))
        })
    }

    /// Removes everything of it. What stays goes with the next try to open it.
    pub(super) fn clear(&self) {
        let place = path(&self.mirror);
        let removed = trees::remove_tree(&place.join(self.file_name("tips")))
            .and_then(|()| trees::remove_tree(&place.join(&self.format)));
        if let Err(error) = removed {
            say(format_args!("cannot empty the git mirror: {error}"));
        }
    }

    /// Of what is beside the objects.
    fn file_name(&self, what: &str) -> String {
        format!("{}.{what}", self.format)
    }

    /// Neither through a link, nor for ever at a pipe.
    fn open_file(&self, what: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.mirror, self.file_name(what).as_str(), flags, Mode::empty())?))
    }

    fn read(&self, what: &str, most: u64) -> io::Result<String> {
        let mut text = Vec::new();
        self.open_file(what)?.take(most).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn write(&self, what: &str, text: &str) -> io::Result<()> {
        let (name, hidden, place) = (self.file_name(what), self.file_name("new"), path(&self.mirror));
        trees::remove_tree(&place.join(&hidden))?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = openat(&self.mirror, hidden.as_str(), flags, Mode::from_bits_truncate(0o666))?;
        File::from(made).write_all(text.as_bytes())?;
        if fs::symlink_metadata(place.join(&name)).is_ok_and(|metadata| metadata.is_dir()) {
            trees::remove_tree(&place.join(&name))?;
        }
        Ok(renameat(&self.mirror, hidden.as_str(), &self.mirror, name.as_str())?)
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens a directory of another one and makes it where there is none. What is in its place, a link
/// or a file, goes.
fn directory(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let opened = || openat(parent, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty());
    match opened() {
        Ok(fd) => return Ok(fd),
        Err(Errno::ENOENT) => {}
        Err(Errno::ENOTDIR | Errno::ELOOP) => trees::remove_file(&path(parent).join(name))?,
        Err(error) => return Err(error.into()),
    }
    match mkdirat(parent, name, Mode::from_bits_truncate(0o777)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(opened()?),
        Err(error) => Err(error.into()),
    }
}

/// A path that leads to an open directory, in this process and in those that inherit it.
fn path(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Removes what we have not put there: alternates lead to other objects, graphs, bitmaps and
/// indexes of several packs say what is in packs, and the rest is of a fetch that has broken off.
fn keep_only_packs(objects: &OwnedFd, packs: &OwnedFd) -> io::Result<()> {
    for entry in fs::read_dir(path(objects))? {
        let entry = entry?;
        if entry.file_name() != PACKS {
            trees::remove_tree(&entry.path())?;
        }
    }
    for entry in fs::read_dir(path(packs))? {
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
        assert_eq!(store.read_tips(), [NAME]);
        assert!(store.is_the_same());
        store.clear();
        assert!(!store.is_the_same() && victim.join("file").exists());
    }

    #[test]
    fn what_takes_the_place_of_an_opened_directory_is_never_come_to() {
        let root = tempfile::tempdir().unwrap();
        let (mirror, agent, victim) = (root.path().join("m"), root.path().join("a"), root.path().join("victim"));
        for directory in [&mirror, &agent, &victim, &victim.join("pack")] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(victim.join("pack/file"), "x").unwrap();
        let store = Store::open(&mirror, &agent, "").unwrap();
        fs::rename(mirror.join("sha1"), mirror.join("moved")).unwrap();
        symlink(&victim, mirror.join("sha1")).unwrap();
        keep_only_packs(&store.objects, &store.packs).unwrap();
        assert_eq!((store.packs(), store.size()), (0, 0));
        // What git writes goes where the directory is now.
        let seen = std::process::Command::new("sh")
            .args(["-c", "sh -c 'echo pack > \"$0/objects/pack/by-git\"' \"$0\""])
            .arg(&store.repository)
            .status();
        assert!(seen.unwrap().success() && mirror.join("moved/pack/by-git").exists());
        assert!(!store.is_the_same());
        store.clear();
        assert_eq!(fs::read_dir(victim.join("pack")).unwrap().count(), 1);
        assert!(fs::symlink_metadata(mirror.join("sha1")).is_err());
    }

    #[test]
    fn a_mirror_rests_for_a_while() {
        let root = tempfile::tempdir().unwrap();
        let (mirror, agent) = (root.path().join("m"), root.path().join("a"));
        fs::create_dir(&mirror).unwrap();
        fs::create_dir(&agent).unwrap();
        let store = Store::open(&mirror, &agent, "").unwrap();
        assert_eq!(store.rest(), None);
        for why in Rest::ALL {
            store.take_rest(why);
            assert_eq!(store.rest(), Some(why));
        }
        let set = |to: SystemTime| File::open(mirror.join("sha1.rest")).unwrap().set_modified(to).unwrap();
        set(SystemTime::now() - MIRROR_REST);
        assert_eq!(store.rest(), None);
        // Of a job that wants mirrors to rest for ever.
        set(SystemTime::now() + 2 * MIRROR_REST);
        assert_eq!(store.rest(), None);
        fs::write(mirror.join("sha1.rest"), "\x1b[31m anything").unwrap();
        assert_eq!(store.rest(), None);
    }
}
