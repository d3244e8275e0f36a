//! Commands that enter a container.

use gantry_sim_kube::container::{Container, ExecSpec, StartError};

use super::{World, exec, exec_sh, finish, sh, text, until, within, write};

async fn sleeping(world: &World) -> Container {
    let mut spec = sh("echo up; sleep 1000");
    spec.env = vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())];
    spec.cwd = Some("/tmp".into());
    let container = world.start(spec).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "up").await;
    container
}

#[tokio::test]
async fn an_entered_command_is_inside_and_has_no_parent() {
    let world = World::new();
    let container = sleeping(&world).await;
    let mut spec = exec_sh("echo $PPID $A $B; pwd; hostname; test $$ -ne 1 && ls /proc | grep -x 1; exit 9");
    spec.env = vec![("B".to_owned(), "3".to_owned())];
    let (status, out, err) = exec(&container, spec).await;
    assert_eq!((status.code, out.as_str(), err.as_str()), (9, "0 1 3\n/tmp\npod-1\n1\n", ""));
}

#[tokio::test]
async fn input_reaches_an_entered_command() {
    let world = World::new();
    let container = sleeping(&world).await;
    let mut child =
        within(container.exec(ExecSpec { stdin: true, ..exec_sh("cat; echo end >&2") })).await.expect("starts");
    let mut stdin = child.stdin.take().expect("input");
    write(&mut stdin, "hello").await;
    drop(stdin);
    assert_eq!(finish(&mut child).await, ("hello".to_owned(), "end\n".to_owned()));
    assert_eq!(within(child.wait()).await.code, 0);
}

#[tokio::test]
async fn a_terminal_is_one_inside_too() {
    let world = World::new();
    let container = sleeping(&world).await;
    let script = "tty; echo $TERM; echo ready; read line; stty size; echo got $line; tty > /dev/tty; exit 4";
    let mut child =
        within(container.exec(ExecSpec { stdin: true, tty: true, ..exec_sh(script) })).await.expect("starts");
    assert!(child.stderr.is_none());
    let (mut stdin, mut stdout) = (child.stdin.take().expect("input"), child.stdout.take().expect("output"));
    let start = until(&mut stdout, "ready\r\n").await;
    assert_eq!(start, "/dev/pts/0\r\nxterm\r\nready\r\n");
    child.resize(100, 40).expect("resize");
    write(&mut stdin, "text\n").await;
    assert_eq!(within(text(stdout)).await, "text\r\n40 100\r\ngot text\r\n/dev/pts/0\r\n");
    assert_eq!(within(child.wait()).await.code, 4);
}

#[tokio::test]
async fn a_terminal_serves_job_control() {
    let world = World::new();
    let container = sleeping(&world).await;
    let spec = ExecSpec { args: vec!["bash".to_owned(), "--norc".to_owned(), "-i".to_owned()], ..exec_sh("") };
    let mut child = within(container.exec(ExecSpec { stdin: true, tty: true, ..spec })).await.expect("starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("input"), child.stdout.take().expect("output"));
    until(&mut stdout, "# ").await;
    write(&mut stdin, "sleep 1234\n").await;
    // Once it is that program it is in the foreground. The brackets keep the pattern from finding
    // itself.
    let there =
        "until cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'sleep 123[4]'; do sleep 0.01; done";
    assert_eq!(exec(&container, exec_sh(there)).await.0.code, 0);
    write(&mut stdin, "\x03").await;
    until(&mut stdout, "# ").await;
    write(&mut stdin, "echo code $?\n").await;
    until(&mut stdout, "code 130").await;
    write(&mut stdin, "exit 5\n").await;
    let rest = within(text(stdout)).await;
    assert!(!rest.contains("no job control"), "{rest}");
    assert_eq!(within(child.wait()).await.code, 5);
}

#[tokio::test]
async fn a_container_can_have_a_terminal() {
    let world = World::new();
    let mut spec = sh("tty; read x; echo got $x; exit 6");
    (spec.tty, spec.stdin, spec.uid) = (true, true, Some(1000));
    let container = world.start(spec).await;
    let mut stdin = container.take_stdin().expect("input");
    let (mut stdout, stderr) = container.take_output().expect("output");
    assert!(stderr.is_none());
    until(&mut stdout, "/dev/pts/0").await;
    container.resize(80, 25).expect("resize");
    write(&mut stdin, "y\n").await;
    assert!(within(text(stdout)).await.contains("got y"));
    assert_eq!(within(container.wait()).await.code, 6);
}

#[tokio::test]
async fn a_missing_program_does_not_end_the_container() {
    let world = World::new();
    let container = sleeping(&world).await;
    let spec = ExecSpec { args: vec!["no-such-program".to_owned()], ..ExecSpec::default() };
    let error = within(container.exec(spec)).await.expect_err("no such program");
    assert!(matches!(error, StartError::NotFound { .. }), "{error:?}");
    assert_eq!(exec(&container, exec_sh("exit 0")).await.0.code, 0);
    assert!(container.status().is_none());
}

#[tokio::test]
async fn the_end_of_the_container_is_the_end_of_what_entered_it() {
    let world = World::new();
    let container = sleeping(&world).await;
    let child = within(container.exec(exec_sh("trap '' TERM; sleep 1000"))).await.expect("starts");
    container.kill_all().expect("kill");
    assert_eq!(within(child.wait()).await.code, 137);
    within(container.wait()).await;
    let error = within(container.exec(exec_sh("true"))).await.expect_err("it has ended");
    assert!(matches!(error, StartError::NotRunning), "{error:?}");
}

#[tokio::test]
async fn an_entered_command_outlives_its_handle_and_can_be_killed() {
    let world = World::new();
    let container = sleeping(&world).await;
    drop(
        within(container.exec(exec_sh("until test -e /tmp/go; do sleep 0.02; done; echo x > /tmp/done; sleep 1000")))
            .await
            .expect("starts"),
    );
    let (status, ..) = exec(&container, exec_sh("touch /tmp/go; until test -e /tmp/done; do sleep 0.02; done")).await;
    assert_eq!(status.code, 0);
    let child = within(container.exec(exec_sh("sleep 1000"))).await.expect("starts");
    child.kill(15).expect("signal");
    let status = within(child.wait()).await;
    assert_eq!((status.code, status.signal), (143, Some(15)));
}
