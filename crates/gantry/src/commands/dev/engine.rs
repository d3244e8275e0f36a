//! `--images`: podman or docker, asked for images and never for containers: what they export is
//! unpacked once and kept, and the jobs' containers are local processes with those files.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use gantry_sim_kube::{Found, Image, ImageError, ImageStore};
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::Mutex;

use super::BadInput;
use super::image_files::{self, HELPER_IMAGE, ImageConfig, PULL};
use super::kept_images::{self, KeptImages};
use super::world::{blocking, spawn};

/// The engines that are looked for, in this order.
const KNOWN: [&str; 2] = ["podman", "docker"];

/// How long an engine may take for an answer that needs no network.
const ANSWER: Duration = Duration::from_secs(30);

/// How long it may take to remove old images, gigabytes of small files.
const OPENING: Duration = Duration::from_secs(600);

/// Marks the containers that images are exported from, which never run.
const LABEL: &str = "dev.gantry.export";

/// The most of an engine's words that is shown.
const MAX_WORDS: usize = 600;

/// A container engine of this machine.
#[derive(Debug)]
pub(super) struct Engine {
    program: &'static str,
    images: KeptImages,
    /// One image is unpacked at a time: two jobs often want the same one.
    unpacking: Mutex<()>,
}

/// What an engine says of an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    #[serde(default)]
    pub(super) config: Option<ImageConfig>,
}

impl Engine {
    /// Finds an engine that answers; `wanted` is one of those that are known, or empty for any.
    pub(super) async fn find(wanted: &str, directory: PathBuf) -> Result<Self, BadInput> {
        let named: Vec<&'static str> = KNOWN.into_iter().filter(|name| wanted.is_empty() || *name == wanted).collect();
        if named.is_empty() {
            return Err(BadInput(format!("--images={wanted}: write podman or docker")));
        }
        let mut why = Vec::new();
        for program in named {
            // Docker's client alone is no engine.
            let question: &[&str] =
                if program == "docker" { &["version", "--format", "{{.Server.Version}}"] } else { &["info"] };
            match ask(program, question, ANSWER).await {
                Ok(answer) if answer.status.success() => {
                    let images = open(directory).await?;
                    return Ok(Self { program, images, unpacking: Mutex::default() });
                }
                Ok(answer) => {
                    let said = words(&answer.stderr);
                    why.push(format!("{program} does not work here: {said} ({})", remedy(program, &said)));
                }
                Err(ImageError(error)) => why.push(error),
            }
        }
        let without = "leave --images out: jobs then run with the tools of this machine";
        Err(BadInput(format!("--images: {}. Install podman, make one of them work, or {without}", why.join("; "))))
    }

    /// For the first line of a run.
    pub(super) fn title(&self) -> String {
        format!("with images of {} in containers that are local processes, on this machine's network.", self.program)
    }

    async fn ask(&self, args: &[&str], within: Duration) -> Result<Output, ImageError> {
        ask(self.program, args, within).await
    }

    /// What the engine has under a name, as written or with its registry spelled out.
    async fn inspect(&self, name: &str) -> Result<Option<Inspected>, ImageError> {
        let full = full_name(name);
        for name in [name, full.as_str()] {
            let answer = self.ask(&["image", "inspect", name], ANSWER).await?;
            if answer.status.success() {
                let mut list: Vec<Inspected> = serde_json::from_slice(&answer.stdout).map_err(|error| {
                    ImageError(format!(
                        "{} has described {name} in a way that is not understood: {error}",
                        self.program
                    ))
                })?;
                return Ok(list.pop());
            }
            let said = words(&answer.stderr);
            let is_missing = ["no such image", "image not known", "no such object", "failed to find image"];
            if !is_missing.iter().any(|words| said.to_lowercase().contains(words)) {
                return Err(ImageError(format!("{} image inspect {name}: {said}", self.program)));
            }
        }
        Ok(None)
    }

    async fn pull_and_unpack(&self, name: &str) -> Result<Arc<Image>, ImageError> {
        let full = full_name(name);
        let answer = self.ask(&["pull", "--quiet", &full], PULL).await?;
        if !answer.status.success() {
            return Err(ImageError(format!("{} pull {full}: {}", self.program, words(&answer.stderr))));
        }
        let inspected = self.inspect(name).await?;
        let inspected =
            inspected.ok_or_else(|| ImageError(format!("{} has pulled {full} and does not have it", self.program)))?;
        self.unpacked(inspected).await
    }

    /// The files of an image, unpacked unless they are here already.
    async fn unpacked(&self, inspected: Inspected) -> Result<Arc<Image>, ImageError> {
        let id = inspected.id.rsplit(':').next().unwrap_or_default().to_owned();
        if id.len() < 12 || !id.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(ImageError(format!("{} has given {:?} as an image's id", self.program, inspected.id)));
        }
        let _one_at_a_time = self.unpacking.lock().await;
        let root = self.images.place(&id);
        if !root.is_dir() {
            self.export(&id).await?;
        }
        kept_images::mark_used(&root, SystemTime::now());
        let config = inspected.config.unwrap_or_default();
        let image = blocking(move || image_files::image(root, &config)).await;
        Ok(Arc::new(image.map_err(|error| ImageError(format!("an image could not be looked at: {error}")))?))
    }

    async fn export(&self, id: &str) -> Result<(), ImageError> {
        // Its command is never run, but an image without one needs it.
        let answer = self.ask(&["create", "--label", LABEL, id, "true"], ANSWER).await?;
        let container = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        if !answer.status.success() || container.is_empty() {
            return Err(ImageError(format!("{} create {id}: {}", self.program, words(&answer.stderr))));
        }
        let container = ExportedContainer { program: self.program, id: container };
        let mut command = Command::new(self.program);
        command.args(["export", &container.id]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let broken =
            |what: &str, error: &dyn std::fmt::Display| ImageError(format!("the files of an image: {what}: {error}"));
        let mut child = command.kill_on_drop(true).spawn().map_err(|error| broken(self.program, &error))?;
        let output = child.stdout.take().and_then(|output| output.into_owned_fd().ok());
        let output = output.ok_or_else(|| broken(self.program, &"no output"))?;
        let partial = self.images.partial().map_err(|error| broken("a directory for them", &error))?;
        let unpacking = blocking(move || {
            let mut output = std::fs::File::from(output);
            image_files::unpack(&mut output, &partial.files())?;
            // An engine that still writes must not be left without a reader.
            std::io::copy(&mut output.take(u64::MAX), &mut std::io::sink())?;
            Ok::<_, std::io::Error>(partial)
        });
        let both = async { (unpacking.await, child.wait_with_output().await) };
        let (unpacked, ended) = tokio::time::timeout(PULL, both)
            .await
            .map_err(|_| broken(self.program, &format!("export has not ended within {PULL:?}")))?;
        let ended = ended.map_err(|error| broken(self.program, &error))?;
        let unpacked = unpacked.map_err(|error| broken("they cannot be unpacked", &error))?;
        let place = self.images.place(id);
        // The archive may end where the engine could read no more; only the engine knows.
        let is_whole = ended.status.success();
        let kept = blocking(move || unpacked.and_then(|partial| if is_whole { partial.keep(&place) } else { Ok(()) }));
        let kept = kept.await.map_err(|error| broken("they cannot be kept", &error))?;
        if !is_whole {
            return Err(broken(&format!("{} export", self.program), &words(&ended.stderr)));
        }
        kept.map_err(|error| broken("they cannot be unpacked", &error))
    }
}

async fn ask(program: &str, args: &[&str], within: Duration) -> Result<Output, ImageError> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(within, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(ImageError(format!("{program} is not installed")))
        }
        Ok(Err(error)) => Err(ImageError(format!("{program} cannot be started: {error}"))),
        Err(_) => Err(ImageError(format!("{program} {} has not ended within {within:?}", args.join(" ")))),
    }
}

/// What helps against what an engine says of itself.
fn remedy(program: &str, said: &str) -> &'static str {
    let has = |words: &str| said.to_lowercase().contains(words);
    match program {
        "docker" if has("permission denied") => {
            "its socket is for root and the group docker: have yourself added to the group, and log in again"
        }
        "docker" if has("cannot connect") || has("daemon running") => {
            "start its engine, or say in DOCKER_HOST where one is"
        }
        "docker" => "`docker version` must show a server",
        _ if has("newuidmap") || has("newgidmap") => "install newuidmap and newgidmap: Debian's package uidmap",
        _ => "`podman info` must work",
    }
}

/// Opens the directory of unpacked images.
async fn open(directory: PathBuf) -> Result<KeptImages, BadInput> {
    let shown = directory.display().to_string();
    let broken = |error: &dyn std::fmt::Display| {
        BadInput(format!("--images: the directory {shown} cannot be made or used: {error}"))
    };
    let opening = blocking(move || KeptImages::open(directory, SystemTime::now()));
    match tokio::time::timeout(OPENING, opening).await {
        Ok(Ok(opened)) => opened.map_err(|error| broken(&error)),
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => Err(broken(&format!("its old images are not removed within {OPENING:?}"))),
    }
}

/// A container that was made for its files; it goes with this, also where a run is interrupted.
struct ExportedContainer {
    program: &'static str,
    id: String,
}

impl Drop for ExportedContainer {
    fn drop(&mut self) {
        // Nothing of it runs: an engine that cannot remove it keeps a name and no more.
        if tokio::runtime::Handle::try_current().is_err() {
            // Without a runtime, nobody could end an engine that hangs.
            return;
        }
        let mut command = Command::new(self.program);
        command.args(["rm", "--force", &self.id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Begun here, so that it goes on by itself where this process ends before it.
        let Ok(mut removal) = command.spawn() else { return };
        spawn(async move {
            if tokio::time::timeout(ANSWER, removal.wait()).await.is_err() {
                let _ = removal.start_kill();
            }
        });
    }
}

impl ImageStore for Engine {
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Found, ImageError>> {
        Box::pin(async move {
            if name == HELPER_IMAGE {
                return Ok(Found::HostTools);
            }
            match self.inspect(name).await? {
                Some(inspected) => Ok(Found::Image(self.unpacked(inspected).await?)),
                None => Ok(Found::Missing),
            }
        })
    }

    fn pull<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<Image>, ImageError>> {
        Box::pin(self.pull_and_unpack(name))
    }
}

/// An image with its registry, which podman does not guess everywhere.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((registry, _)) if registry.contains(['.', ':']) || registry == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// What an engine has said at last, which is why it has failed: before that it says each try.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned();
    line.truncate(line.floor_char_boundary(MAX_WORDS));
    if line.is_empty() { "it has not said why".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const ID: &str = "0123456789abcdef";

    /// An engine that is a script; `export` and `rm` say what those do.
    fn engine(place: &Path, export: &str, rm: &str) -> Engine {
        let script = place.join("engine");
        let text = format!(
            "#!/bin/sh\ncd {}\ncase $1 in\ncreate) echo c0ffee ;;\nexport) {export} ;;\nrm) {rm} ;;\nesac\n",
            place.display()
        );
        fs::write(place.join("text"), text).unwrap();
        // A file that this process has written may still be open in a child of another test, and
        // cannot be run then.
        let copied = "cp text engine && chmod 755 engine && mkdir image && echo mark > image/mark";
        let mut copying = std::process::Command::new("sh");
        assert!(copying.args(["-c", copied]).current_dir(place).status().unwrap().success());
        let images = KeptImages::open(place.join("images"), SystemTime::now()).unwrap();
        Engine { program: script.to_str().unwrap().to_owned().leak(), images, unpacking: Mutex::default() }
    }

    fn inspected() -> Inspected {
        Inspected { id: format!("sha256:{ID}"), config: None }
    }

    #[tokio::test]
    async fn an_image_is_kept_once_its_engine_has_succeeded() {
        let place = tempfile::tempdir().unwrap();
        let export = "tar -C image -c .; [ -e well ] && exit 0
            exec >&-
            for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e images/0123456789abcdef ] && touch early; sleep 0.1; done
            echo Error: input/output error >&2; exit 1";
        let engine = engine(place.path(), export, ":");
        let error = engine.unpacked(inspected()).await.err().map(|ImageError(error)| error);
        assert!(error.is_some_and(|error| error.ends_with("export: Error: input/output error")));
        assert!(!place.path().join("early").exists(), "the image was there before its engine had ended");
        let left = || fs::read_dir(place.path().join("images")).unwrap().count();
        assert_eq!(left(), 1, "the lock");
        fs::write(place.path().join("well"), "").unwrap();
        let image = engine.unpacked(inspected()).await.ok().unwrap();
        assert_eq!(fs::read_to_string(image.root.join("mark")).unwrap(), "mark\n");
        assert_eq!(left(), 2, "the lock and the image");
    }

    #[tokio::test]
    async fn nobody_waits_until_an_exported_container_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let engine = engine(place.path(), "tar -C image -c .", "touch begun; sleep 3; touch removed");
        engine.unpacked(inspected()).await.ok().unwrap();
        assert!(!place.path().join("removed").exists());
    }

    #[test]
    fn names_have_their_registry() {
        for (name, full) in [
            ("debian:12", "docker.io/library/debian:12"),
            ("bitnami/redis", "docker.io/bitnami/redis"),
            ("registry.example.com/a/b:1", "registry.example.com/a/b:1"),
            ("localhost/mine", "localhost/mine"),
            ("host:5000/x@sha256:00", "host:5000/x@sha256:00"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }

    #[tokio::test]
    async fn only_known_engines_are_asked() {
        let error = Engine::find("rkt", PathBuf::from("/nowhere")).await.err();
        assert!(error.is_some_and(|BadInput(what)| what == "--images=rkt: write podman or docker"));
    }

    #[test]
    fn what_helps_depends_on_what_an_engine_says() {
        for (program, said, helps) in [
            (
                "docker",
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "start its engine",
            ),
            ("docker", "permission denied while trying to connect to the Docker daemon socket", "the group docker"),
            ("docker", "unknown flag", "`docker version`"),
            ("podman", "Error: exec: \"newuidmap\": executable file not found in $PATH", "Debian's package uidmap"),
            ("podman", "Error: stat /nonexistent: permission denied", "`podman info`"),
        ] {
            assert!(remedy(program, said).contains(helps), "{program}: {said}");
        }
    }

    #[test]
    fn what_an_engine_says_at_last_is_shown() {
        assert_eq!(
            words(b"level=warning msg=\"Failed, retrying\"\n\n  Error: manifest unknown \n"),
            "Error: manifest unknown"
        );
        assert_eq!(words(b" \n"), "it has not said why");
    }
}
