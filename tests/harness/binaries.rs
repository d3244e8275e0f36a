//! The binaries under test: built once by the cargo that runs the tests, or given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Names a directory with binaries to test instead of building them, such as those of a release.
const GIVEN: &str = "GANTRY_TEST_BINARIES";

/// Names the program that runners are, where it is not the one of all commands: that of an image
/// has no simulators.
const MANAGER: &str = "GANTRY_TEST_MANAGER";

/// Names the helper for arm64 of the same build, where pods for that machine are tested. What
/// unpacks it lies beside it.
pub(crate) const ARM64_HELPER: &str = "GANTRY_TEST_ARM64_HELPER";

/// The programs under test.
const PROGRAMS: [&str; 3] = ["gantry", "gantry-helper", "gantry-unpack"];

/// Those of them that go into pods.
const PUSHED: [&str; 2] = ["gantry-helper", "gantry-unpack"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The one program of the product. The helper that it pushes into pods lies beside it.
    pub gantry: PathBuf,
    /// What runners are: the same, or a program of its own beside it.
    pub manager: PathBuf,
}

/// Builds the binaries, or takes those that were given, and copies them to `dir`: what is built
/// meanwhile does not change a test that runs. Symbols are left out where the tool for that is
/// there, since every job sends a helper into its pod.
///
/// # Errors
/// They do not compile, or are not where they should be.
pub fn build(dir: &Path) -> anyhow::Result<Binaries> {
    let given = std::env::var_os(GIVEN).map(PathBuf::from);
    let built = given.clone().map_or_else(compile, Ok)?;
    for program in PROGRAMS {
        let (from, to) = (built.join(program), dir.join(program));
        let strip = Command::new("strip").arg("-o").args([&to, &from]).stderr(Stdio::null()).status();
        if !strip.is_ok_and(|status| status.success()) {
            std::fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
        }
    }
    if let Some(helper) = std::env::var_os(ARM64_HELPER).map(PathBuf::from) {
        for program in PUSHED {
            let (from, to) = (helper.with_file_name(program), dir.join(format!("{program}-aarch64")));
            std::fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
            pack(&to)?;
        }
    }
    if given.is_some() {
        // As in the image of a release. Of a debug build it would cost more than it spares.
        for program in PUSHED {
            pack(&dir.join(program))?;
        }
    }
    let gantry = dir.join("gantry");
    let manager = match std::env::var_os(MANAGER).map(PathBuf::from) {
        Some(given) => {
            let to = dir.join("gantry-manager");
            std::fs::copy(&given, &to).with_context(|| format!("{} cannot be copied", given.display()))?;
            to
        }
        None => gantry.clone(),
    };
    Ok(Binaries { gantry, manager })
}

/// Makes what is pushed of a program, beside it.
fn pack(program: &Path) -> anyhow::Result<()> {
    let pack = workspace()?.join("config/images/pack");
    let status =
        Command::new(&pack).arg(program).status().with_context(|| format!("{} cannot start", pack.display()))?;
    anyhow::ensure!(status.success(), "{} cannot be packed", program.display());
    Ok(())
}

fn workspace() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace above the tests")
}

fn compile() -> anyhow::Result<PathBuf> {
    // target/<triple>/<profile>/deps/<this test>
    let own = std::env::current_exe().context("where is this test?")?;
    let profile = own.parent().and_then(Path::parent).context("this test does not lie in a target directory")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "gantry", "-p", "gantry-helper"]).current_dir(workspace()?);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cargo cannot be started")?;
    anyhow::ensure!(status.success(), "the binaries do not compile");
    Ok(profile.to_owned())
}
