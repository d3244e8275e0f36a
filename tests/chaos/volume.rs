//! A file system for the volumes of all pods of the simulated cluster that can be full at any
//! moment. Needs root, as the cluster's own tests do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use nix::sys::statvfs::statvfs;

/// What it may take while it is not full: pushed helpers above all.
const ROOM: &str = "8g";

/// Tries to fill it, while jobs write to it.
const FILLS: u32 = 20;

/// The file system; goes with its owner.
pub(crate) struct Volume {
    path: PathBuf,
}

impl Volume {
    /// Lets pods that come from now on have their volumes there. `world`: where the cluster keeps
    /// its state.
    pub(crate) fn mount(world: &Path) -> anyhow::Result<Self> {
        let states = fs::read_dir(world)?.flatten().map(|entry| entry.path());
        let is_state = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gantry-sim-kube-"))
        };
        let state = states.filter(|path| path.is_dir()).find(is_state).context("the cluster has no state directory")?;
        let path = state.join("pods");
        fs::create_dir_all(&path)?;
        run("mount", &["-t", "tmpfs", "-o", &format!("size={ROOM},mode=0711"), "tmpfs"], &path)?;
        Ok(Self { path })
    }

    /// Nothing more fits, but for what is written while this is said: a file system is never made
    /// smaller than what it holds.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut filled = Ok(());
        for _ in 0..FILLS {
            let about = statvfs(&self.path)?;
            let used = (about.blocks() - about.blocks_free()) * about.fragment_size();
            filled = self.resize(&format!("{}k", used.div_ceil(1024).max(1)));
            if filled.is_ok() {
                break;
            }
        }
        filled
    }

    /// There is room again.
    pub(crate) fn relieve(&self) -> anyhow::Result<()> {
        self.resize(ROOM)
    }

    fn resize(&self, size: &str) -> anyhow::Result<()> {
        run("mount", &["-o", &format!("remount,size={size}")], &self.path)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Pods that are being ended may still hold it.
        let _ = run("umount", &["--lazy"], &self.path);
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).arg(path).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
