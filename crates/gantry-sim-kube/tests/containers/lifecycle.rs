//! Start, end, signals, and what must not remain.

use gantry_sim_kube::container::{ExecSpec, Runtime, RuntimeError, StartError};

use tokio::task::JoinSet;

use super::{World, alive, eventually, sh, text, until, within, write};

#[tokio::test]
async fn the_command_is_pid_1_and_alone() {
    let (status, out, err) =
        World::new().run(sh("echo $$ $PPID; echo /proc/[0-9]*; hostname; cat /etc/hostname")).await;
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("1 0"), "{err}");
    assert_eq!(lines.next(), Some("/proc/1"));
    assert_eq!(lines.collect::<Vec<_>>(), ["pod-1", "pod-1"]);
    assert_eq!((status.code, status.signal, status.oom_killed), (0, None, false));
    assert!(status.finished_at >= status.started_at);
}

#[tokio::test]
async fn exit_codes_and_separate_streams_arrive() {
    let (status, out, err) = World::new().run(sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!((status.code, out.as_str(), err.as_str()), (7, "out\n", "err\n"));
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for_and_a_few_defaults() {
    let mut spec = sh("env | sort | grep -v -e ^PWD= -e ^_= -e ^OLDPWD= -e ^SHLVL=; pwd");
    spec.env = vec![("A".to_owned(), "x\ny".to_owned()), ("HOME".to_owned(), "/tmp".to_owned())];
    spec.cwd = Some("/builds/made".into());
    let (_, out, _) = World::new().run(spec).await;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let mut expected = ["A=x", "y", "HOME=/tmp", "HOSTNAME=pod-1", path, "/builds/made"];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn missing_and_unusable_programs_are_told_apart() {
    let world = World::new();
    let with = |program: &str| {
        let mut spec = sh("");
        spec.args = vec![program.to_owned()];
        spec
    };
    let error = world.fail(with("no-such-program")).await;
    assert!(matches!(error, StartError::NotFound { .. }), "{error:?}");
    assert_eq!(error.to_string(), "exec: \"no-such-program\": executable file not found in $PATH");
    assert!(error.is_users_fault());
    let error = world.fail(with("/no/such")).await;
    assert_eq!(error.to_string(), "exec: \"/no/such\": stat /no/such: no such file or directory");
    let error = world.fail(with("/etc/passwd")).await;
    assert!(matches!(error, StartError::NotExecutable { .. }), "{error:?}");
    assert_eq!(error.to_string(), "exec: \"/etc/passwd\": permission denied");
    let mut empty = sh("");
    empty.args.clear();
    assert!(world.fail(empty).await.is_users_fault());
}

#[tokio::test]
async fn what_stands_for_a_program_runs_only_where_that_is_missing() {
    let world = World::new();
    let with = |args: &[&str]| {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let mut spec = sh("");
        (spec.args, spec.otherwise) = (words(args), words(&["sh", "-c", "echo instead"]));
        spec
    };
    for missing in [vec!["--tls=false"], vec!["/no/such"], vec![""], vec!["", "mysqld"]] {
        let (status, out, err) = world.run(with(&missing)).await;
        assert_eq!((status.code, out.as_str()), (0, "instead\n"), "{missing:?}: {err}");
    }
    assert_eq!(world.run(with(&["echo", "itself"])).await.1, "itself\n");
    assert_eq!(world.fail(with(&["/etc/passwd"])).await.to_string(), "exec: \"/etc/passwd\": permission denied");
    let mut spec = with(&["sleep", "1000"]);
    spec.otherwise = vec!["true".to_owned()];
    let container = world.start(spec).await;
    let exec = ExecSpec { args: vec!["no-such-program".to_owned()], ..ExecSpec::default() };
    assert!(matches!(container.exec(exec).await, Err(StartError::NotFound { .. })), "for containers only");
}

#[tokio::test]
async fn a_program_that_is_no_program_is_not_run_as_a_script() {
    let world = World::new();
    let volume = world.volume("v", "/v");
    let file = volume.source.join("text");
    std::fs::write(&file, "echo hello\n").expect("write");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let mut spec = sh("");
    spec.args = vec!["/v/text".to_owned()];
    spec.mounts = vec![volume];
    assert_eq!(world.fail(spec).await.to_string(), "exec: \"/v/text\": exec format error");
}

#[tokio::test]
async fn standard_input_arrives_and_ends() {
    let world = World::new();
    let mut spec = sh("cat; echo end");
    spec.stdin = true;
    let container = world.start(spec).await;
    let mut stdin = container.take_stdin().expect("input");
    write(&mut stdin, "hello\n").await;
    drop(stdin);
    let (stdout, _) = container.take_output().expect("output");
    assert_eq!(within(text(stdout)).await, "hello\nend\n");
    let (_, out, _) = world.run(sh("cat; echo end")).await;
    assert_eq!(out, "end\n", "without stdin the command reads nothing");
}

#[tokio::test]
async fn signals_reach_pid_1_and_its_end_is_everybodys() {
    let world = World::new();
    let container = world.start(sh("trap 'echo got; exit 3' TERM; sleep 1000 & echo up; wait")).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "up").await;
    container.kill(15).expect("signal");
    // The stream ends only when the sleeping child is gone too.
    assert_eq!(within(text(stdout)).await, "got\n");
    assert_eq!(within(container.wait()).await.code, 3);

    let container = world.start(sh("sleep 1000 & echo up; wait")).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "up").await;
    container.kill(15).expect("signal");
    container.kill_all().expect("signal");
    let status = within(container.wait()).await;
    // Without a handler TERM does nothing to a first process.
    assert_eq!((status.code, status.signal, status.oom_killed), (137, Some(9), false));
    assert_eq!(within(text(stdout)).await, "");
    container.kill(9).expect("a signal after the end is no error");
}

#[tokio::test]
async fn a_dropped_container_is_killed_and_nothing_is_left() {
    let state = tempfile::tempdir().expect("a temporary directory");
    let runtime = Runtime::new(state.path(), super::launcher()).expect("a runtime");
    let container = within(runtime.start(sh("sleep 1000"))).await.expect("starts");
    let pid = container.pid();
    assert!(alive(pid));
    drop(container);
    eventually("the container ends", || !alive(pid)).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&state.path().display().to_string()), "{mounts}");
    drop(runtime);
    eventually("the state directory is empty", || {
        std::fs::read_dir(state.path()).is_ok_and(|mut entries| entries.next().is_none())
    })
    .await;
}

#[tokio::test]
async fn a_killed_keeper_takes_its_container_with_it() {
    let world = World::new();
    let mut spec = sh("trap '' TERM HUP; echo up; while :; do sleep 1000; done");
    spec.uid = Some(1000);
    let container = world.start(spec).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "up").await;
    let pid = container.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim();
    let keeper = nix::unistd::Pid::from_raw(parent.parse().expect("a number"));
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).expect("kill the keeper");
    assert_eq!(within(container.wait()).await.code, 137);
    eventually("the container ends", || !alive(pid)).await;
}

#[tokio::test]
async fn nothing_of_the_simulators_is_inherited() {
    let mut spec = sh("echo /proc/self/fd/*; grep -e SigBlk -e SigIgn /proc/self/status");
    spec.stdin = true;
    let world = World::new();
    let container = world.start(spec).await;
    let (stdout, _) = container.take_output().expect("output");
    let out = within(text(stdout)).await;
    let mut lines = out.lines();
    // The shell itself reads the directory through the fourth.
    assert_eq!(lines.next(), Some("/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3"));
    for line in lines {
        let (_, set) = line.split_once('\t').expect("name and value");
        // The first 31: those after them belong to the C library and are left as whoever started
        // all this had them.
        assert_eq!(u64::from_str_radix(set, 16).expect("a number") & 0x7fff_ffff, 0, "{line}");
    }
}

/// As a command in the background of a script is started.
#[tokio::test]
async fn signals_that_the_simulators_starter_ignores_are_not_ignored_inside() {
    let own = std::env::current_exe().expect("this program");
    let mut again = std::process::Command::new("sh");
    again.args(["-c", "trap '' INT QUIT XFSZ; exec \"$0\" --exact \"$1\""]).arg(own);
    let output = again.arg("lifecycle::nothing_of_the_simulators_is_inherited").output().expect("a second run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A second process of this test binary starts a container and is killed with `KILL`.
#[tokio::test]
async fn a_killed_simulator_takes_its_containers_with_it() {
    const VARIABLE: &str = "GANTRY_TEST_ACT_AS_SIMULATOR";
    let name = "lifecycle::a_killed_simulator_takes_its_containers_with_it";
    if std::env::var_os(VARIABLE).is_some() {
        let world = World::new();
        let container = world.start(sh("trap '' TERM HUP INT; while :; do sleep 1000; done")).await;
        let child = within(container.exec(super::exec_sh("sleep 1000"))).await.expect("exec");
        eprintln!("container {} here", container.pid());
        within(child.wait()).await;
        return;
    }
    let mut simulator = tokio::process::Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start a second process");
    let mut stderr: super::Output = Box::pin(simulator.stderr.take().expect("errors"));
    let text = until(&mut stderr, " here").await;
    let pid = text.split("container ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a pid");
    let pid: u32 = pid.parse().expect("a pid");
    assert!(alive(pid));
    simulator.start_kill().expect("kill");
    within(simulator.wait()).await.expect("its end");
    eventually("the container of a killed simulator ends", || !alive(pid)).await;
}

#[tokio::test]
async fn a_launcher_that_is_none_is_reported() {
    let state = tempfile::tempdir().expect("a temporary directory");
    for launcher in ["/no/such/launcher", "/bin/true"] {
        let runtime = Runtime::new(state.path(), launcher).expect("a runtime");
        let error = within(runtime.check()).await.expect_err("no launcher");
        assert!(matches!(error, RuntimeError::Launcher { .. }), "{error}");
    }
}

#[tokio::test]
async fn many_start_at_once() {
    let world = World::new();
    let mut all = JoinSet::new();
    for number in 0..20 {
        let runtime = world.runtime.clone();
        all.spawn(async move {
            let container = runtime.start(sh(&format!("exit {number}"))).await.expect("starts");
            (number, container.wait().await.code)
        });
    }
    while let Some(task) = within(all.join_next()).await {
        let (number, code) = task.expect("no panic");
        assert_eq!(number, code);
    }
}
