//! `gantry dev --images`: jobs and services in the files of images, which a container engine gets.
//! Most of it with an engine that is a script, so that it needs none; what it exports is what
//! podman does.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::{Need, World};

use crate::dev::{BOUND, repository, start};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("dev: --images runs jobs and services in the files of their images", unpacked),
        Test::new("dev: --images says what an engine needs that does not answer", no_engine),
        Test::new("dev: --images with podman", podman).needs(Need::Podman),
    ]
}

/// An engine that has `localhost/tools:1`, and `later:1` once it has been pulled. It notes what it
/// is asked.
const ENGINE: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/asked"
missing() { echo "Error: inspecting object: $1: image not known" >&2; exit 125; }
case "$1 $2" in
"info ") ;;
"image inspect")
    case "$3" in
    localhost/tools:1) cat "$here/inspected" ;;
    docker.io/library/later:1) [ -e "$here/pulled" ] || missing "$3"; cat "$here/inspected" ;;
    *) missing "$3" ;;
    esac ;;
"pull --quiet")
    [ "$3" = docker.io/library/later:1 ] || { echo "Error: reading manifest of $3: manifest unknown" >&2; exit 125; }
    touch "$here/pulled" ;;
"create "*) echo c0ffee ;;
"export c0ffee") tar -C "$here/root" -c . ;;
"rm "*) ;;
*) echo "what is $*?" >&2; exit 1 ;;
esac
"#;

const INSPECTED: &str = r#"[{"Id": "sha256:0123456789abcdef0123456789abcdef", "Config": {"User": "ci:tools", "WorkingDir": "/srv",
    "Env": ["GREETING=hello", "PATH=/bin"], "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo served by $GREETING in $PWD > /builds/served; sleep 600"]}}]"#;

const PIPELINE: &str = r"
stages: [first, second]
tools:
  stage: first
  image: IMAGE
  script: ['cat /etc/mark', 'echo user $(id -u) of $(id -g) in $HOME', '[ -e /usr/bin/git ] || echo no git', 'echo left > file',
    'echo own > /tmp/own && cat /tmp/own']
  artifacts: {paths: [file]}
later:
  stage: second
  image: later:1
  services: [{name: IMAGE, alias: db}]
  script: ['cat file', 'until [ -s /builds/served ]; do sleep 0.1; done', 'cat /builds/served', '[ ! -e /tmp/own ] && echo fresh']
gone:
  stage: second
  image: gone:1
  allow_failure: true
  script: [never]
";

/// The files of an image with a shell and a few tools of this machine.
fn files(root: &Path) -> anyhow::Result<()> {
    let copy = |path: &str| {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file of the root")?)?;
        fs::copy(path, &to).with_context(|| path.to_owned())?;
        anyhow::Ok(())
    };
    for tool in ["sh", "cat", "id", "sleep"] {
        let path = ["/bin", "/usr/bin"].map(|place| format!("{place}/{tool}"));
        let path = path.into_iter().find(|path| Path::new(path).exists()).with_context(|| tool.to_owned())?;
        let to = root.join("bin").join(tool);
        fs::create_dir_all(root.join("bin"))?;
        fs::copy(&path, to)?;
        let output = Command::new("ldd").arg(&path).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(library)?;
        }
    }
    let etc = root.join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("mark"), "these are the image's files\n")?;
    fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\nci:x:1000:1000::/home/ci:/bin/sh\n")?;
    fs::write(etc.join("group"), "root:x:0:\ntools:x:1001:\n")?;
    fs::create_dir_all(root.join("tmp"))?;
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
    Ok(())
}

fn program(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().context("a directory of programs")?)?;
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

/// Where `gantry dev` finds programs first.
fn programs(dir: &Path) -> PathBuf {
    dir.join(".local/bin")
}

async fn unpacked(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let engine = programs(dir.path());
    program(&engine.join("podman"), ENGINE)?;
    files(&engine.join("root"))?;
    fs::write(engine.join("inspected"), INSPECTED)?;
    let place = repository(dir.path(), &PIPELINE.replace("IMAGE", "localhost/tools:1"))?.display().to_string();
    for name in ["first", "again"] {
        let dev = start(&world, dir.path(), name, &["--repo", &place, "--images"])?;
        let status = dev.wait(BOUND).await?;
        let log = dev.log();
        ensure!(status.code() == Some(0), "{log}");
        for text in [
            "with images of podman",
            "one job runs at a time",
            "tools │ these are the image's files",
            "tools │ user 1000 of 1001 in /home/ci",
            "tools │ no git",
            "tools │ own",
            "later │ left",
            "later │ served by hello in /srv",
            "later │ fresh",
            "gone │ ERROR: Job failed",
            "manifest unknown",
        ] {
            ensure!(log.contains(text), "{text:?} is not in {log}");
        }
    }
    let asked = fs::read_to_string(engine.join("asked"))?;
    let times = |what: &str| asked.lines().filter(|line| line.starts_with(what)).count();
    ensure!(times("export") == 1 && times("create") == 1 && times("rm --force c0ffee") == 1, "{asked}");
    ensure!(times("pull --quiet docker.io/library/later:1") == 1, "{asked}");
    Ok(())
}

async fn no_engine(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let client = "#!/bin/sh\necho 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock.' >&2\nexit 1\n";
    program(&programs(dir.path()).join("docker"), client)?;
    let place = repository(dir.path(), "one: {script: [x]}")?.display().to_string();
    let dev = start(&world, dir.path(), "docker", &["--repo", &place, "--images=docker"])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    let why = "--images: docker does not work here: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. (start its engine";
    ensure!(status.code() == Some(2) && log.contains(why), "{log}");
    Ok(())
}

async fn podman(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let root = dir.path().join("root");
    files(&root)?;
    let image = format!("localhost/gantry-dev-test:{}", std::process::id());
    let mut archive = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
    let mut import = Command::new("podman");
    import.args(["import", "--change", "USER 1000", "--change", "ENV GREETING=hello", "-", &image]);
    let imported = import.stdin(archive.stdout.take().context("no archive")?).output()?;
    ensure!(archive.wait()?.success() && imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let outcome = with_podman(&world, dir.path(), &image).await;
    let removed = Command::new("podman").args(["rmi", &image]).output()?;
    ensure!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    outcome
}

async fn with_podman(world: &World, dir: &Path, image: &str) -> anyhow::Result<()> {
    let script = "script: ['cat /etc/mark', 'echo $GREETING from $(id -u)', '[ -e /usr/bin/git ] || echo no git']";
    let place = repository(dir, &format!("one: {{image: '{image}', {script}}}"))?.display().to_string();
    let dev = start(world, dir, "podman", &["--repo", &place, "--images=podman"])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    for text in ["one │ these are the image's files", "one │ hello from 1000", "one │ no git"] {
        ensure!(status.code() == Some(0) && log.contains(text), "{text:?} is not in {log}");
    }
    let left =
        Command::new("podman").args(["ps", "--all", "--quiet", "--filter", "label=dev.gantry.export"]).output()?;
    ensure!(left.stdout.is_empty(), "a container is left: {}", String::from_utf8_lossy(&left.stdout));
    Ok(())
}
