//! Says when the program was built, so that `--version` can: what `SOURCE_DATE_EPOCH` says, else
//! the date of the commit that is checked out. Never the time of the build itself, because the same
//! sources must give the same binary. Only this crate is built anew for another commit. And says
//! how the program is linked.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    pack_relocations();
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|seconds| is_number(seconds));
    // Every commit, checkout and reset adds a line to it.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| std::path::Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let committed = || git(&["log", "-1", "--format=%ct"]).filter(|seconds| is_number(seconds));
    if let Some(seconds) = given.or_else(committed) {
        println!("cargo::rustc-env=GANTRY_BUILT={seconds}");
    }
}

/// A static program puts its own addresses into its tables when it starts. The list of places takes
/// 24 bytes for each as usual, two megabytes in all, which stay in memory for having been read
/// once; packed it takes a small part of that. Linkers know it for this machine only.
fn pack_relocations() {
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if ["OS", "ENV", "ARCH"].map(target) == ["linux", "gnu", "x86_64"] {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What git says, where there is git and a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|said| output.status.success() && !said.is_empty())
}
