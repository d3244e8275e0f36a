//! A file system for the volumes of all pods of a node that can be full at any moment. Needs root,
//! as the cluster's own tests do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gantry_tests::World;

use crate::node;

/// What it may take while it is not full: pushed helpers above all.
const ROOM: &str = "8g";

/// Tries to fill it, while jobs write to it.
const FILLS: u32 = 20;

/// Where a kubelet keeps the volumes of its pods.
const PODS: &str = "/var/lib/kubelet/pods";

/// The file system; goes with its owner.
pub(crate) struct Volume<'a> {
    world: &'a World,
    path: PathBuf,
}

impl<'a> Volume<'a> {
    /// Lets pods that come from now on have their volumes there. No other pod may live on the node.
    pub(crate) fn mount(world: &'a World) -> anyhow::Result<Self> {
        let path = if world.cluster().is_given() { PathBuf::from(PODS) } else { simulated_pods(world.dir())? };
        let volume = Self { world, path };
        volume.run("mount", &["-t", "tmpfs", "-o", &format!("size={ROOM},mode=0711"), "tmpfs"])?;
        Ok(volume)
    }

    /// Nothing more fits, but for what is written while this is said: a file system is never made
    /// smaller than what it holds.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut filled = Ok(());
        for _ in 0..FILLS {
            filled = self.resize(&format!("{}k", self.used()?.div_ceil(1024).max(1)));
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

    /// Bytes in it.
    fn used(&self) -> anyhow::Result<u64> {
        let said = self.run("stat", &["--file-system", "--format", "%b %f %S"])?;
        let numbers: Vec<u64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [blocks, free, size] = numbers[..] else { anyhow::bail!("stat says {said:?}") };
        Ok((blocks - free) * size)
    }

    fn resize(&self, size: &str) -> anyhow::Result<()> {
        self.run("mount", &["-o", &format!("remount,size={size}")]).map(drop)
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let path = self.path.display().to_string();
        node::run(self.world, program, &[args, &[&path]].concat())
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        // Pods that are being ended may still hold it.
        let _ = self.run("umount", &["--lazy"]);
    }
}

/// The same of the simulated cluster. `world`: where it keeps its state.
fn simulated_pods(world: &Path) -> anyhow::Result<PathBuf> {
    let states = fs::read_dir(world)?.flatten().map(|entry| entry.path());
    let is_state =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("gantry-sim-kube-"));
    let state = states.filter(|path| path.is_dir()).find(is_state).context("the cluster has no state directory")?;
    let path = state.join("pods");
    fs::create_dir_all(&path)?;
    Ok(path)
}
