//! Says when the program was built, so that `--version` can: what `SOURCE_DATE_EPOCH` says, else
//! the date of the commit that is checked out. Never the time of the build itself, because the same
//! sources must give the same binary. Only this crate is built anew for another commit. And says
//! how the program is linked.

#[path = "../gantry-helper/relocations.rs"]
mod relocations;

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    relocations::pack();
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

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What git says, where there is git and a repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|said| output.status.success() && !said.is_empty())
}
