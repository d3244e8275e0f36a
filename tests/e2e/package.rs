//! The Debian package, from the script that builds it to its end: what it holds, what installing,
//! upgrading and removing it does, and that the runner that it installs runs jobs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, World};
use tokio::process::Command;

/// Longer than any command takes; most of it goes into packing binaries that are not optimized.
const LIMIT: Duration = Duration::from_secs(200);

/// For a job.
const BOUND: Duration = Duration::from_secs(60);

/// All that is in it but manual pages, of which there is one for each command.
const FILES: [&str; 20] = [
    "etc/default/gantry",
    "usr/bin/gantry",
    "usr/lib/gantry/gantry",
    "usr/lib/gantry/gantry-helper",
    "usr/lib/gantry/gantry-helper-other",
    "usr/lib/gantry/gantry-helper-other.zst",
    "usr/lib/gantry/gantry-helper.zst",
    "usr/lib/gantry/gantry-unpack",
    "usr/lib/gantry/gantry-unpack.gz",
    "usr/lib/systemd/system/gantry.service",
    "usr/share/bash-completion/completions/gantry",
    "usr/share/doc/gantry/changelog.Debian.gz",
    "usr/share/doc/gantry/changelog.gz",
    "usr/share/doc/gantry/copyright",
    "usr/share/doc/gantry/third-party-notices.gz",
    "usr/share/fish/vendor_completions.d/gantry.fish",
    "usr/share/gantry/gantry-helper.cdx.json",
    "usr/share/gantry/gantry.cdx.json",
    "usr/share/lintian/overrides/gantry",
    "usr/share/zsh/vendor-completions/_gantry",
];

/// Programs of the machine that the package's scripts call.
const OF_THE_MACHINE: [&str; 5] = ["adduser", "chown", "deb-systemd-helper", "deb-systemd-invoke", "systemctl"];

pub(crate) fn tests() -> Vec<Test> {
    let name = "package: what it holds, and that it can be installed, upgraded and removed";
    vec![Test::new(name, package).takes(Duration::from_secs(600))]
}

/// Runs a command to its end, and returns what it prints.
async fn run(command: &mut Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.context("it does not end")??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}{complaint}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8(output.stdout)?)
}

fn project() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no project")
}

/// As Debian and as the kernel call this machine.
fn architectures() -> (&'static str, &'static str) {
    if cfg!(target_arch = "aarch64") { ("arm64", "x86_64") } else { ("amd64", "aarch64") }
}

/// Builds one of these binaries, below `to`.
async fn build(binaries: &Path, to: &Path, revision: &str) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(project()?.join("config/packages/deb"));
    command.args(["--revision", revision, architectures().0]).arg(to).arg(binaries);
    // Else of the newest commit, and one may be made between two packages.
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    // To pack binaries with symbols well takes longer than all the rest.
    command.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1").env("PACK_LEVEL", "1");
    Ok(PathBuf::from(run(&mut command).await?.trim()))
}

/// The paths of all files and links below a directory.
fn files(root: &Path, directory: &Path, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            files(root, &path, found)?;
        } else {
            found.insert(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}

fn unpacked(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn package(world: Rc<World>) -> anyhow::Result<()> {
    if Command::new("dpkg-deb").arg("--version").output().await.is_err() {
        eprintln!("skipped: there is no dpkg-deb on this machine, so no package is built");
        return Ok(());
    }
    let dir = world.dir().join("package");
    let binaries = dir.join("binaries");
    std::fs::create_dir_all(binaries.join("other"))?;
    for name in ["gantry", "gantry-helper", "gantry-unpack"] {
        std::os::unix::fs::symlink(world.binaries().gantry.with_file_name(name), binaries.join(name))?;
    }
    let other = format!("gantry-helper-{}", architectures().1);
    std::fs::write(binaries.join("other").join(&other), "the helper for another machine")?;

    let first = build(&binaries, &dir, "1").await?;
    let wanted = format!("gantry_{}-1_{}.deb", env!("CARGO_PKG_VERSION"), architectures().0);
    ensure!(first == dir.join(&wanted), "{}", first.display());
    let root = dir.join("root");
    run(Command::new("dpkg-deb").arg("--extract").args([&first, &root])).await?;
    holds_what_it_should(&root, &binaries, &other)?;
    let control = run(Command::new("dpkg-deb").args([OsStr::new("--field"), first.as_os_str()])).await?;
    for line in ["Package: gantry", &format!("Architecture: {}", architectures().0), "Depends: adduser"] {
        ensure!(control.lines().any(|own| own == line), "{line:?} is not in:\n{control}");
    }
    unit_is_sound(&root, &dir).await?;

    let second = build(&binaries, &dir, "2").await?;
    std::fs::create_dir(dir.join("again"))?;
    let again = build(&binaries, &dir.join("again"), "2").await?;
    ensure!(std::fs::read(&second)? == std::fs::read(&again)?, "the same binaries do not give the same package");
    wrong_binaries_are_refused(&binaries, &dir).await?;
    if nix::unistd::geteuid().is_root() {
        is_installed_and_removed(&dir, &first, &second).await?;
    } else {
        eprintln!("skipped: only root can install packages, so what that does was not looked at");
    }

    let options = RunnerOptions { program: Some(root.join("usr/bin/gantry")), ..RunnerOptions::new("packaged") };
    let runner = Runner::start(&world, &options).await?;
    let (job, log) = world.run_on(&runner, &script(&["echo of a package"]), BOUND).await?;
    ensure!(job.status == "success" && log.contains("\nof a package"), "{job:?}\n{log}");
    let said = runner.process.log();
    let helper = root.join("usr/lib/gantry/gantry-helper");
    ensure!(said.contains(&format!("path={}", helper.display())), "which helper does it push?\n{said}");
    ensure!(said.contains("packed=true"), "it does not push what the package has packed\n{said}");
    runner.process.end();
    Ok(())
}

/// `other` is the name of the helper for the other machine.
fn holds_what_it_should(root: &Path, binaries: &Path, other: &str) -> anyhow::Result<()> {
    let mut found = BTreeSet::new();
    files(root, root, &mut found)?;
    let (pages, found): (BTreeSet<String>, _) =
        found.into_iter().partition(|path| path.starts_with("usr/share/man/man1/gantry"));
    let wanted = FILES.iter().map(|path| path.replace("gantry-helper-other", other)).collect();
    ensure!(found == wanted, "it has {found:#?}\nand not {wanted:#?}");
    for command in ["gantry", "gantry-run", "gantry-register", "gantry-config-keys"] {
        let path = format!("usr/share/man/man1/{command}.1.gz");
        ensure!(pages.contains(&path), "no page for {command}: {pages:?}");
        let page = String::from_utf8(unpacked(&root.join(path))?)?;
        ensure!(page.contains(&format!(".TH {command} 1")), "{page}");
    }
    let link = std::fs::read_link(root.join("usr/bin/gantry"))?;
    ensure!(link == Path::new("../lib/gantry/gantry"), "{}", link.display());
    for name in ["gantry", "gantry-helper", "gantry-unpack"] {
        let path = root.join("usr/lib/gantry").join(name);
        ensure!(std::fs::metadata(&path)?.permissions().mode() & 0o777 == 0o755, "{}", path.display());
        ensure!(std::fs::read(path)? == std::fs::read(binaries.join(name))?, "{name} is another one");
    }
    let receiver = unpacked(&root.join("usr/lib/gantry/gantry-unpack.gz"))?;
    ensure!(receiver == std::fs::read(binaries.join("gantry-unpack"))?, "gantry-unpack.gz holds another program");
    for path in ["bash-completion/completions/gantry", "fish/vendor_completions.d/gantry.fish"] {
        let text = std::fs::read_to_string(root.join("usr/share").join(path))?;
        ensure!(text.contains("reset-token"), "{path} does not know the commands");
    }
    for program in ["gantry", "gantry-helper"] {
        let text = std::fs::read_to_string(root.join(format!("usr/share/gantry/{program}.cdx.json")))?;
        let bill: serde_json::Value = serde_json::from_str(&text)?;
        ensure!(bill.pointer("/metadata/component/name") == Some(&program.into()), "{text}");
    }
    let notices = String::from_utf8(unpacked(&root.join("usr/share/doc/gantry/third-party-notices.gz"))?)?;
    ensure!(notices.contains("\ntokio "), "{notices}");
    let copyright = std::fs::read_to_string(root.join("usr/share/doc/gantry/copyright"))?;
    ensure!(copyright.contains("/usr/share/doc/gantry/third-party-notices.gz"), "{copyright}");
    Ok(())
}

/// In the words of systemd, where it is installed; with the program where it was unpacked.
async fn unit_is_sound(root: &Path, dir: &Path) -> anyhow::Result<()> {
    let unit = std::fs::read_to_string(root.join("usr/lib/systemd/system/gantry.service"))?;
    let program = root.join("usr/bin/gantry").display().to_string();
    ensure!(unit.contains("\nExecStart=/usr/bin/gantry run"), "{unit}");
    let path = dir.join("gantry.service");
    std::fs::write(&path, unit.replace("/usr/bin/gantry", &program))?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&path).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = verify.output().await else {
        eprintln!("systemd-analyze is not installed: the unit was not checked by it");
        return Ok(());
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(())
}

async fn wrong_binaries_are_refused(binaries: &Path, dir: &Path) -> anyhow::Result<()> {
    let wrong = dir.join("wrong");
    std::fs::create_dir(&wrong)?;
    let Err(error) = build(&wrong, dir, "3").await else { anyhow::bail!("a package of nothing") };
    ensure!(format!("{error:#}").contains("there is no gantry in"), "{error:#}");
    // Bytes 18 and 19 say for which machine it is.
    let mut bytes = std::fs::read(binaries.join("gantry-helper"))?;
    bytes[18] = 0xff;
    std::fs::write(wrong.join("gantry"), bytes)?;
    let Err(error) = build(&wrong, dir, "3").await else { anyhow::bail!("a package for a machine that is none") };
    ensure!(format!("{error:#}").contains("gantry is no program for"), "{error:#}");
    Ok(())
}

/// A machine of its own in a directory: dpkg as it is, and what the package's scripts call of the
/// machine is written down.
struct Machine {
    root: PathBuf,
    programs: PathBuf,
    calls: PathBuf,
}

impl Machine {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        let [root, programs, calls] = ["machine", "programs", "calls"].map(|name| dir.join(name));
        for directory in ["info", "updates", "triggers"] {
            std::fs::create_dir_all(root.join("var/lib/dpkg").join(directory))?;
        }
        for file in ["status", "available"] {
            std::fs::write(root.join("var/lib/dpkg").join(file), "")?;
        }
        std::fs::create_dir(&programs)?;
        for name in OF_THE_MACHINE {
            let path = programs.join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >>'{}'\n", calls.display()))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { root, programs, calls })
    }

    /// What was called of the machine by `dpkg` with these arguments.
    async fn dpkg(&self, args: &[&OsStr]) -> anyhow::Result<String> {
        std::fs::write(&self.calls, "")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("dpkg");
        command.arg("--root").arg(&self.root).args(["--force-script-chrootless", "--force-depends"]);
        command.args(["--force-confold", "--log=/dev/null"]).args(args);
        command.env("PATH", format!("{}:{path}", self.programs.display()));
        run(&mut command).await?;
        Ok(std::fs::read_to_string(&self.calls)?)
    }
}

async fn is_installed_and_removed(dir: &Path, first: &Path, second: &Path) -> anyhow::Result<()> {
    let machine = Machine::new(dir)?;
    let path = |path: &str| machine.root.join(path);
    let install = OsStr::new("--install");

    let calls = machine.dpkg(&[install, first.as_os_str()]).await?;
    ensure!(calls.contains("adduser --system --group --home /var/lib/gantry"), "{calls}");
    let directory = path("etc/gitlab-runner");
    ensure!(calls.contains(&format!("chown gantry:gantry {}", directory.display())), "{calls}");
    ensure!(std::fs::metadata(&directory)?.permissions().mode() & 0o777 == 0o700, "others can read tokens");

    // What an operator has changed is the operator's.
    for file in ["etc/default/gantry", "etc/gitlab-runner/config.toml"] {
        std::fs::write(path(file), "mine\n")?;
    }
    let calls = machine.dpkg(&[install, second.as_os_str()]).await?;
    ensure!(!calls.contains("chown"), "an upgrade changes whose the configuration is:\n{calls}");
    for file in ["etc/default/gantry", "etc/gitlab-runner/config.toml"] {
        ensure!(std::fs::read_to_string(path(file))? == "mine\n", "an upgrade has changed {file}");
    }

    machine.dpkg(&["--remove", "gantry"].map(OsStr::new)).await?;
    ensure!(!path("usr/lib/gantry").exists(), "the programs are still there");
    ensure!(path("etc/default/gantry").exists(), "what an operator has changed is gone before it was asked for");
    let calls = machine.dpkg(&["--purge", "gantry"].map(OsStr::new)).await?;
    ensure!(calls.contains("deb-systemd-helper purge gantry.service"), "{calls}");
    ensure!(!path("etc/default/gantry").exists(), "it is still configured");
    ensure!(directory.join("config.toml").exists(), "the tokens of runners are gone");
    Ok(())
}
