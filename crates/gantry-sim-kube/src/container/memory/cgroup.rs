//! Control groups, version 1 and 2: where groups may be made, one per limited container, and its
//! removal. It never changes a group that it did not make.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::super::channel::CgroupView;

/// Beginning of the names of our groups; the process id of their maker follows.
const PREFIX: &str = "gantry-sim-";

/// A group can be removed only when the kernel has forgotten its last process, which takes a moment
/// after its end.
const REMOVAL_TRIES: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// The group below which groups can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Home {
    version: Version,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Home {
    /// Finds a place where groups with a memory limit can be made, and removes what dead simulators
    /// left there.
    pub(in super::super) fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let home = candidates(&own, &mounts).into_iter().find(Self::works)?;
        home.sweep();
        Some(home)
    }

    fn works(&self) -> bool {
        self.create(u64::MAX >> 16, false).is_ok_and(|group| group.try_remove().is_ok())
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
            if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Only an empty group can be removed, so this does no harm if the number means
                // something else.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Makes a group limited to this many bytes. `whole`: if one process passes the limit, all are
    /// killed, where the kernel can do that (version 2).
    pub(in super::super) fn create(&self, limit: u64, whole: bool) -> io::Result<Cgroup> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{PREFIX}{}-{number}", process::id()));
        fs::create_dir(&path)?;
        let group = Cgroup { version: self.version, path };
        match group.set_limit(limit) {
            Ok(()) => {
                if whole {
                    let _ = fs::write(group.path.join("memory.oom.group"), "1");
                }
                Ok(group)
            }
            Err(error) => {
                let _ = group.try_remove();
                Err(error)
            }
        }
    }
}

/// Where groups might be made, best first, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn candidates(own: &str, mountinfo: &str) -> Vec<Home> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let version = match controllers {
            "" => Version::Two,
            list if list.split(',').any(|name| name == "memory") => Version::One,
            _ => continue,
        };
        let Some(path) = on_disk(version, path, mountinfo) else { continue };
        // In version 2 a group with processes of its own cannot limit groups below it, but its
        // parent can, if the system has given that to this user too.
        let parent = path.parent().map(Path::to_owned).filter(|_| version == Version::Two);
        found.push(Home { version, path });
        found.extend(parent.map(|path| Home { version, path }));
    }
    found
}

/// The directory of a group.
fn on_disk(version: Version, group: &str, mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        // See proc_pid_mountinfo(5): fixed fields, optional ones, a dash, then the type, the source
        // and the options.
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let fits = match version {
            Version::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            Version::Two => kind == "cgroup2",
        };
        let mut left = left.split(' ').skip(3);
        let (root, place) = (left.next()?, left.next()?);
        let below = Path::new(group).strip_prefix(root).ok().filter(|_| fits)?;
        Some(Path::new(place).join(below))
    })
}

/// One container's group.
#[derive(Debug)]
pub(in super::super) struct Cgroup {
    version: Version,
    path: PathBuf,
}

impl Cgroup {
    fn set_limit(&self, limit: u64) -> io::Result<()> {
        let limit = limit.to_string();
        match self.version {
            Version::One => {
                fs::write(self.path.join("memory.limit_in_bytes"), &limit)?;
                // Absent where the kernel does not count swap.
                let _ = fs::write(self.path.join("memory.memsw.limit_in_bytes"), &limit);
            }
            Version::Two => {
                // The file exists only if the parent hands the controller on.
                fs::OpenOptions::new().write(true).open(self.path.join("memory.max"))?;
                fs::write(self.path.join("memory.max"), &limit)?;
                let _ = fs::write(self.path.join("memory.swap.max"), "0");
            }
        }
        Ok(())
    }

    /// The file through which a process joins.
    pub(in super::super) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Where the container sees it.
    pub(in super::super) fn view(&self) -> CgroupView {
        let target = match self.version {
            Version::One => "/sys/fs/cgroup/memory",
            Version::Two => "/sys/fs/cgroup",
        };
        CgroupView { source: self.path.display().to_string(), target: target.to_owned() }
    }

    /// How many processes the kernel has killed for the limit.
    pub(in super::super) fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    fn try_remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.path)
    }

    /// Removes it, once the last process is forgotten.
    pub(in super::super) async fn remove(&self) {
        for _ in 0..REMOVAL_TRIES {
            match self.try_remove() {
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32) => {
                    tokio::time::sleep(REMOVAL_PAUSE).await;
                }
                _ => return,
            }
        }
        tracing::warn!(group = %self.path.display(), "a container's control group cannot be removed: still in use");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // For the case that nobody waited; a later start sweeps what is still in use now.
        let _ = self.try_remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
41 31 0:38 /slice /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    fn paths(own: &str) -> Vec<String> {
        candidates(own, MOUNTS).into_iter().map(|home| home.path.display().to_string()).collect()
    }

    #[test]
    fn version_1_uses_the_own_group_of_the_memory_controller() {
        assert_eq!(paths("8:pids:/x\n4:memory:/a/b\n"), ["/sys/fs/cgroup/memory/a/b"]);
        assert_eq!(paths("4:cpu,memory:/\n"), ["/sys/fs/cgroup/memory/"]);
    }

    #[test]
    fn version_2_uses_the_own_group_or_its_parent() {
        let expected = ["/sys/fs/cgroup/unified/app.scope", "/sys/fs/cgroup/unified"];
        assert_eq!(paths("0::/slice/app.scope\n"), expected);
    }

    #[test]
    fn a_group_outside_what_is_mounted_cannot_be_used() {
        assert!(paths("0::/elsewhere\n").is_empty());
        assert!(paths("nonsense\n3:cpuset:/\n").is_empty());
    }
}
