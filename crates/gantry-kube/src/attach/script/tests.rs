use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::*;

/// A process that is being started holds for a moment whatever files the others have open, and a
/// program that is open for writing cannot be started ("text file busy"): so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Stands for a container: a directory for the agent, and one for the image's programs.
struct Container {
    root: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

const BINARY: &str = "#!/bin/sh\ncase $1 in\n--version) echo 1 ;;\nbridge) echo 'gantry-bridge 1'; cat ;;\nesac\n";

impl Container {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("agent")).unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        Self { root, _alone: alone }
    }

    fn pushed(&self) -> PathBuf {
        self.root.path().join("agent/gantry-helper")
    }

    /// With busybox's shell, and busybox as all programs.
    fn run_busybox(&self) -> Child {
        let bin = self.root.path().join("bin");
        for name in ["sh", "uname", "head", "gzip", "wc", "chmod", "mv", "rm", "tee", "cat"] {
            symlink("/bin/busybox", bin.join(name)).unwrap();
        }
        self.run(&bin.join("sh").display().to_string())
    }

    fn run(&self, shell: &str) -> Child {
        let mut words = command();
        assert_eq!(words.get(5).map(String::as_str), Some(layout::PUSHED_BINARY));
        assert_eq!(words.get(6).map(String::as_str), Some(layout::MANAGER_SOCKET));
        words[0] = shell.to_owned();
        words[5] = self.pushed().display().to_string();
        words[6] = self.root.path().join("agent/manager.sock").display().to_string();
        assert_eq!(words.get(7).map(String::as_str), Some(layout::PUSHED_READY));
        words[7] = self.root.path().join("ready").display().to_string();
        let path = format!("{}:/usr/bin:/bin", self.root.path().join("bin").display());
        Command::new(&words[0])
            .args(&words[1..])
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// Stands for `gantry-unpack`: what it takes is the helper as it is.
const RECEIVER: &str = "#!/bin/sh\nrm -f \"$2\"\n[ \"$(head -c \"$1\" | tee \"$2\" | wc -c)\" -eq \"$1\" ] || {\n\
    echo 'not whole'\nexit 1\n}\nchmod 755 \"$2\" && mv -f \"$2\" \"$3\"\n";

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn line(child: &mut Child) -> String {
    let mut text = Vec::new();
    let output = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn shells() -> impl Iterator<Item = &'static str> {
    ["sh", "dash", "bash"].into_iter().filter(|shell| Command::new(shell).args(["-c", ":"]).status().is_ok())
}

/// The rest of a push that goes well: the binary is in its place and nothing else beside it, and
/// what follows it goes to the bridge, byte for byte.
fn becomes_a_bridge(container: &Container, mut child: Child, mut input: ChildStdin, how: &str) {
    assert_eq!(FirstLine::parse(&line(&mut child)), FirstLine::Bridge("1".into()), "{how}");
    input.write_all(b"frames\n").unwrap();
    drop(input);
    assert_eq!(line(&mut child), "frames");
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(container.pushed()).unwrap(), BINARY);
    assert_eq!(fs::read_dir(container.root.path().join("agent")).unwrap().count(), 1, "{how}");
}

#[test]
fn a_binary_is_asked_for_taken_and_started() {
    for shell in shells() {
        let container = Container::new();
        let mut child = container.run(shell);
        assert!(matches!(FirstLine::parse(&line(&mut child)), FirstLine::Push { machine, .. } if !machine.is_empty()));
        let mut input = child.stdin.take().unwrap();
        write!(input, "{}\n{BINARY}", BINARY.len()).unwrap();
        input.flush().unwrap();
        becomes_a_bridge(&container, child, input, shell);
    }
}

/// A program as gzip packs it.
fn packed(program: &str) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    gzip.wait_with_output().unwrap().stdout
}

/// Busybox takes more than it is asked for (`head`), so what comes behind must wait.
#[test]
fn a_helper_in_two_parts_is_unpacked_by_the_first() {
    let has_busybox = Command::new("/bin/busybox").arg("true").status().is_ok_and(|status| status.success());
    for shell in shells().chain(has_busybox.then_some("busybox")) {
        for form in [PLAIN, GZIP] {
            let container = Container::new();
            let first = if form == GZIP { packed(RECEIVER) } else { RECEIVER.into() };
            let mut child = if shell == "busybox" { container.run_busybox() } else { container.run(shell) };
            assert!(matches!(FirstLine::parse(&line(&mut child)), FirstLine::Push { has_gzip: true, .. }));
            let mut input = child.stdin.take().unwrap();
            writeln!(input, "{} {form} {}", first.len(), BINARY.len()).unwrap();
            input.write_all(&first).unwrap();
            input.flush().unwrap();
            assert_eq!(FirstLine::parse(&line(&mut child)), FirstLine::Continue, "{shell}, {form}");
            input.write_all(BINARY.as_bytes()).unwrap();
            input.flush().unwrap();
            becomes_a_bridge(&container, child, input, &format!("{shell}, {form}"));
        }
    }
}

#[test]
fn problems_of_two_parts_are_one_line() {
    let container = Container::new();
    let said = |first: &str, given: &str| {
        let mut child = container.run("sh");
        line(&mut child);
        let mut input = child.stdin.take().unwrap();
        write!(input, "{} plain {}\n{first}", first.len(), BINARY.len()).unwrap();
        assert_eq!(FirstLine::parse(&line(&mut child)), FirstLine::Continue);
        // It may have stopped reading by then.
        let _ = input.write_all(given.as_bytes());
        drop(input);
        let FirstLine::Failure(said) = FirstLine::parse(&line(&mut child)) else { panic!("no failure") };
        assert!(line(&mut child).is_empty() && !child.wait().unwrap().success());
        assert_eq!(fs::read_dir(container.root.path().join("agent")).unwrap().count(), 0);
        said
    };
    assert_eq!(said(RECEIVER, "half"), "not whole");
    let broken = said("#!/bin/sh\necho first; echo second; exit 126\n", BINARY);
    assert!(broken.contains("cannot be started from") && broken.ends_with("perhaps: first second"), "{broken}");
    let foreign = said("\u{7f}ELF for another machine", BINARY);
    assert!(foreign.contains("cannot be started from"), "{foreign}");
}

#[test]
fn a_compressed_binary_is_unpacked_on_arrival() {
    let packed = packed(BINARY);
    for shell in shells() {
        let container = Container::new();
        let mut child = container.run(shell);
        assert!(matches!(FirstLine::parse(&line(&mut child)), FirstLine::Push { has_gzip: true, .. }));
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{} gzip", packed.len()).unwrap();
        input.write_all(&packed).unwrap();
        input.flush().unwrap();
        becomes_a_bridge(&container, child, input, shell);
    }
    let container = Container::new();
    let half = &packed[..packed.len() / 2];
    let said = failure(&container, &format!("{} gzip", packed.len()), half);
    assert!(said.contains("cannot unpack the helper"), "{said}");
    assert!(!container.pushed().exists());
}

#[test]
fn who_waits_for_the_binary_is_told() {
    for shell in shells() {
        let container = Container::new();
        let ready = container.root.path().join("ready");
        assert!(Command::new("mkfifo").arg(&ready).status().unwrap().success());
        // As in a container that waits: open before the binary is there.
        let mut waiting = fs::OpenOptions::new().read(true).write(true).open(&ready).unwrap();
        let mut child = container.run(shell);
        assert!(matches!(FirstLine::parse(&line(&mut child)), FirstLine::Push { .. }));
        let mut input = child.stdin.take().unwrap();
        write!(input, "{}\n{BINARY}", BINARY.len()).unwrap();
        input.flush().unwrap();
        let mut told = [0];
        waiting.read_exact(&mut told).unwrap();
        assert!(container.pushed().exists(), "{shell}");
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_pushed_binary_is_used_again() {
    let container = Container::new();
    program(&container.pushed(), BINARY);
    let mut child = container.run("sh");
    assert_eq!(FirstLine::parse(&line(&mut child)), FirstLine::Bridge("1".into()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_images_helper_is_used_if_it_fits() {
    for (fits, expected) in [
        (0, FirstLine::Bridge("from the image".into())),
        (1, FirstLine::Push { machine: "test".into(), has_gzip: true }),
    ] {
        let container = Container::new();
        let text = format!("#!/bin/sh\n[ \"$1\" = fits ] && exit {fits}\necho 'gantry-bridge from the image'\n");
        program(&container.root.path().join("bin/gantry-helper"), &text);
        program(&container.root.path().join("bin/uname"), "#!/bin/sh\necho test\n");
        let mut child = container.run("sh");
        assert_eq!(FirstLine::parse(&line(&mut child)), expected);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn two_pushes_at_once_do_not_disturb_each_other() {
    let container = Container::new();
    let mut children = [container.run("sh"), container.run("sh")];
    let mut inputs: Vec<_> = children
        .iter_mut()
        .map(|child| {
            assert!(matches!(FirstLine::parse(&line(child)), FirstLine::Push { .. }));
            child.stdin.take().unwrap()
        })
        .collect();
    let (head, tail) = BINARY.split_at(20);
    for input in &mut inputs {
        write!(input, "{}\n{head}", BINARY.len()).unwrap();
        input.flush().unwrap();
    }
    for (input, child) in inputs.iter_mut().zip(&mut children) {
        write!(input, "{tail}").unwrap();
        input.flush().unwrap();
        assert_eq!(FirstLine::parse(&line(child)), FirstLine::Bridge("1".into()));
    }
    drop(inputs);
    for mut child in children {
        child.wait().unwrap();
    }
    assert_eq!(fs::read_to_string(container.pushed()).unwrap(), BINARY);
}

/// What the shell says when it is given `binary` as `size` bytes and then the end.
fn failure(container: &Container, size: &str, binary: &[u8]) -> String {
    let mut child = container.run("sh");
    assert!(matches!(FirstLine::parse(&line(&mut child)), FirstLine::Push { .. }));
    let mut input = child.stdin.take().unwrap();
    // It may have stopped reading by then.
    let _ = writeln!(input, "{size}").and_then(|()| input.write_all(binary));
    drop(input);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = FirstLine::parse(&lines.next().unwrap().unwrap());
    assert!(lines.next().is_none() && !child.wait().unwrap().success());
    match said {
        FirstLine::Failure(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn problems_are_one_line() {
    let container = Container::new();
    assert!(failure(&container, "100", b"short").starts_with("only 5 of 100 bytes"));
    let broken = b"#!/bin/sh\necho first; echo second; exit 126\n";
    let message = failure(&container, &broken.len().to_string(), broken);
    assert!(message.contains("a noexec volume perhaps: first second"), "{message}");
    assert_eq!(fs::read_dir(container.root.path().join("agent")).unwrap().count(), 0);

    fs::remove_dir(container.root.path().join("agent")).unwrap();
    let message = failure(&container, "5", b"12345");
    assert!(message.starts_with("cannot write the helper to"), "{message}");
}
