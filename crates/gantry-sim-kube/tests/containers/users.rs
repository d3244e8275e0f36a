//! Users, and life without privileges.

use gantry_sim_kube::container::ContainerSpec;

use super::{World, exec, exec_sh, sh, until};

fn as_user(script: &str) -> ContainerSpec {
    ContainerSpec { uid: Some(1000), gid: Some(1001), supplemental_groups: vec![2000], ..sh(script) }
}

#[tokio::test]
async fn a_user_is_that_user_in_exec_too() {
    let world = World::new();
    let spec = ContainerSpec {
        mounts: vec![world.volume("v", "/v")],
        ..as_user(
            "id -u; id -g; id -G; umask; echo x > ~/file && echo home; echo x > /v/file && echo volume; sleep 1000",
        )
    };
    let container = world.start(spec).await;
    let (mut stdout, _) = container.take_output().expect("output");
    let out = until(&mut stdout, "volume").await;
    let groups = if world.is_root().await { "1001 2000" } else { "1001 65534" };
    let mut lines = out.lines();
    assert_eq!((lines.next(), lines.next()), (Some("1000"), Some("1001")));
    let seen = lines.next().unwrap_or_default();
    assert!(seen == groups || seen == "1001", "{seen}");
    assert_eq!(lines.collect::<Vec<_>>(), ["0022", "home", "volume"]);

    let script = "id -u; id -g; grep CapEff /proc/self/status; cat ~/file; echo y >> /v/file && cat /v/file";
    let (status, out, err) = exec(&container, exec_sh(script)).await;
    assert_eq!((status.code, out.as_str()), (0, "1000\n1001\nCapEff:\t0000000000000000\nx\nx\ny\n"), "{err}");
}

#[tokio::test]
async fn root_in_a_container_owns_what_it_makes() {
    let (status, out, err) = World::new().run(sh("id -u; touch /tmp/x; stat -c %u /tmp/x; chmod 600 /tmp/x")).await;
    assert_eq!((status.code, out.as_str()), (0, "0\n0\n"), "{err}");
}

/// Runs all other tests of this file's package once more as an ordinary user, if this is root.
#[tokio::test]
async fn everything_works_without_privileges() {
    const NOBODY: u32 = 65534;
    const VARIABLE: &str = "GANTRY_TEST_WITHOUT_PRIVILEGES";
    let own = "users::everything_works_without_privileges";
    if std::env::var_os(VARIABLE).is_some() || !nix::unistd::geteuid().is_root() {
        return;
    }
    // Where an ordinary user can read neither this program nor the launcher, copies are used.
    let place = tempfile::tempdir().expect("a temporary directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).expect("open the directory");
    let scratch = place.path().join("tmp");
    std::fs::create_dir(&scratch).expect("make a directory");
    std::os::unix::fs::chown(&scratch, Some(NOBODY), Some(NOBODY)).expect("give it away");
    let (tests, launcher) = (place.path().join("tests"), place.path().join("launcher"));
    std::fs::copy(std::env::current_exe().expect("own path"), &tests).expect("copy the tests");
    std::fs::copy(super::launcher(), &launcher).expect("copy the launcher");

    let run = tokio::process::Command::new(&tests)
        .args(["--skip", own, "--test-threads", "2"])
        .env(VARIABLE, "1")
        .env(super::LAUNCHER, &launcher)
        .env("TMPDIR", &scratch)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    let done = tokio::time::timeout(super::TIMEOUT * 6, run).await.expect("in time").expect("start");
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if text.contains("local containers need root or unprivileged user namespaces") {
        println!("skipped: this machine gives ordinary users no user namespaces");
        return;
    }
    println!("{text}");
    assert!(done.status.success(), "{text}");
}
