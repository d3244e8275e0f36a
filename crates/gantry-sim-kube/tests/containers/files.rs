//! The root file system and volumes.

use std::{os::unix::net::UnixListener, path::Path};

use gantry_sim_kube::container::{Capabilities, ContainerSpec, Mount, Runtime, StartError, ToolView};

use super::{World, sh, text, until, within};

#[tokio::test]
async fn the_hosts_tools_are_there_and_its_data_is_not() {
    let world = World::new();
    let state = world.host.path().display().to_string();
    let script = format!(
        "git --version >/dev/null && test -L /proc/self/exe && ls -A /home /root /run/lock /tmp /var/tmp | grep -v : ; \
         test -e {state} && echo leak; ls -A / | sort | tr '\\n' ' '"
    );
    let (_, out, err) = world.run(sh(&script)).await;
    let names: Vec<&str> = out.split_whitespace().collect();
    for name in ["usr", "etc", "proc", "dev", "tmp", "root", "home"] {
        assert!(names.contains(&name), "no {name} in {out} {err}");
    }
    assert!(!names.contains(&"leak"), "{out}");
    assert!(names.iter().all(|name| !name.starts_with(".old")), "{out}");
    assert!(!names.contains(&"work") && !names.contains(&"boot"), "{out}");
}

#[tokio::test]
async fn everything_usual_can_be_written_without_the_host_noticing() {
    let script = "set -e; for d in /tmp /var/tmp /root /home /dev/shm /etc /usr; do echo x > $d/gantry-test-file; done; \
                  echo ok > /dev/null; head -c 4 /dev/zero | wc -c; test -w /dev/ptmx; readlink /dev/fd; echo $HOME";
    let (status, out, err) = World::new().run(sh(script)).await;
    assert_eq!((status.code, out.as_str()), (0, "4\n/proc/self/fd\n/root\n"), "{err}");
    for place in ["/tmp", "/var/tmp", "/root", "/home", "/dev/shm", "/etc", "/usr"] {
        assert!(!Path::new(place).join("gantry-test-file").exists(), "{place}");
    }
}

/// A user's home below the directory that tests share with containers.
fn with_tools(world: &World, script: &str) -> ContainerSpec {
    let home = world.host.path().join("home/user");
    for (file, text) in [
        (".tool/bin/program", "#!/bin/sh\necho program of $0\n"),
        (".tool/credentials", "secret"),
        ("deep/one/file", "one"),
        (".ssh/id", "secret"),
    ] {
        let path = home.join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("a file");
    }
    std::process::Command::new("chmod").arg("755").arg(home.join(".tool/bin/program")).status().expect("chmod");
    let shown = [".tool", ".tool/bin", "deep/one/file", "missing"].map(|name| (home.join(name), home.join(name)));
    let tools = ToolView {
        home: Some(home.clone()),
        shown: shown.into_iter().chain([("/usr".into(), "/usr".into())]).collect(),
        hidden: vec![home.join(".tool/credentials")],
    };
    let env = vec![("H".to_owned(), home.display().to_string())];
    ContainerSpec { tools: Some(tools), env, ..sh(script) }
}

#[tokio::test]
async fn a_users_tools_are_where_they_are_and_nothing_else_of_the_home_is() {
    let world = World::new();
    let script = "cd $H && find . -type f | sort && .tool/bin/program && echo junk > .tool/bin/junk && \
                  echo x > new && cat .tool/bin/junk && ! echo x 2>/dev/null > deep/one/file";
    let (status, out, err) = world.run(with_tools(&world, script)).await;
    let expected = "./.tool/bin/program\n./deep/one/file\nprogram of .tool/bin/program\njunk\n";
    assert_eq!((status.code, out.as_str()), (0, expected), "{err}");

    let home = world.host.path().join("home/user");
    for written in [".tool/bin/junk", "new"] {
        assert!(!home.join(written).exists(), "{written} has reached the host");
    }
    assert_eq!(std::fs::read_to_string(home.join("deep/one/file")).expect("file"), "one");
    assert!(home.join(".tool/credentials").exists(), "hidden, not gone");
    let (_, out, err) = world.run(with_tools(&world, "cd $H && ls .tool/bin")).await;
    assert_eq!(out, "program\n", "what one container writes is not in the next: {err}");
    let (_, out, err) = world.run(sh("ls -d $PWD/home/* /home/*")).await;
    assert_eq!(out, "", "other containers are hermetic: {err}");
}

#[tokio::test]
async fn names_of_hosts_are_the_pods() {
    let mut spec = sh("cat /etc/hosts; test -s /etc/resolv.conf || test ! -s /etc/resolv.conf; getent hosts db");
    spec.hosts = vec![("10.1.2.3".to_owned(), vec!["pod-1".to_owned(), "db".to_owned()])];
    let (_, out, err) = World::new().run(spec).await;
    assert!(out.contains("127.0.0.1\tlocalhost\n"), "{out}{err}");
    assert!(out.contains("10.1.2.3\tpod-1 db\n"), "{out}{err}");
}

#[tokio::test]
async fn volumes_are_shared_nested_and_of_any_order() {
    let world = World::new();
    let (outer, inner) = (world.volume("builds", "/builds"), world.volume("tmp", "/builds/group/x.tmp"));
    let file = world.host.path().join("config");
    std::fs::write(&file, "data").expect("write");
    let config = Mount { source: file, target: "/etc/deep/er/config".into(), read_only: true };
    let mut first = sh("echo a > /builds/file; echo b > /builds/group/x.tmp/file; cat /etc/deep/er/config; sleep 1000");
    first.mounts = vec![inner.clone(), config, outer.clone()];
    let container = world.start(first).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "data").await;
    assert_eq!(std::fs::read_to_string(outer.source.join("file")).expect("file"), "a\n");
    assert_eq!(std::fs::read_to_string(inner.source.join("file")).expect("file"), "b\n");
    let mut second = sh("cat /builds/file /elsewhere/file; ls /builds/group/x.tmp");
    second.mounts = vec![outer, Mount { target: "/elsewhere".into(), ..inner }];
    let (_, out, _) = world.run(second).await;
    assert_eq!(out, "a\nb\n", "the inner volume is not part of the outer one");
}

#[tokio::test]
async fn links_in_a_volumes_place_stay_in_the_container() {
    // /var/run is a link to /run on most systems; service account tokens are mounted below it.
    let world = World::new();
    let volume = world.volume("token", "/var/run/secrets/gantry-test");
    std::fs::write(volume.source.join("token"), "t").expect("write");
    let mut spec = sh("cat /var/run/secrets/gantry-test/token");
    spec.mounts = vec![volume];
    assert_eq!(world.run(spec).await.1, "t");
    assert!(!Path::new("/run/secrets/gantry-test").exists());
}

#[tokio::test]
async fn a_read_only_volume_refuses_writing_but_not_connecting() {
    let world = World::new();
    let mut volume = world.volume("sock", "/gantry");
    volume.read_only = true;
    let listener = UnixListener::bind(volume.source.join("s")).expect("listen");
    std::fs::set_permissions(volume.source.join("s"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("chmod");
    let mut spec = sh("touch /gantry/x && echo written; rm -f /gantry/s && echo removed; \
                       perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => \"/gantry/s\") or die $!; print \"ok\\n\"'");
    spec.mounts = vec![volume];
    spec.uid = Some(1000);
    let (_, out, err) = world.run(spec).await;
    assert_eq!(out, "ok\n", "{err}");
    assert!(err.contains("Read-only file system"), "{err}");
    listener.set_nonblocking(true).expect("non-blocking");
    listener.accept().expect("the container has connected");
}

#[tokio::test]
async fn containers_see_each_others_credentials_over_a_socket() {
    let world = World::new();
    let volume = world.volume("sock", "/gantry");
    let mut server = sh(
        "perl -MSocket -MIO::Socket::UNIX -e 'umask 0; my $l = IO::Socket::UNIX->new(Local => \"/gantry/s\", Listen => 1) \
         or die $!; $| = 1; print \"up\\n\"; my $c = $l->accept; my ($pid, $uid, $gid) = unpack \"iII\", \
         getsockopt($c, SOL_SOCKET, 17); print \"peer $pid $uid $gid\\n\"'",
    );
    server.mounts = vec![volume.clone()];
    let server = world.start(server).await;
    let (mut stdout, _) = server.take_output().expect("output");
    until(&mut stdout, "up").await;
    let mut client = sh("perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => \"/gantry/s\") or die $!'");
    client.mounts = vec![Mount { read_only: true, ..volume }];
    client.uid = Some(1000);
    client.gid = Some(1001);
    let (status, _, err) = world.run(client).await;
    assert_eq!(status.code, 0, "{err}");
    let peer = until(&mut stdout, "\n").await;
    // Of another pid namespace: no number. In a user namespace every container's user is the same
    // one.
    let expected = if world.is_root().await { "peer 0 1000 1001\n" } else { "peer 0 0 0\n" };
    assert_eq!(peer, expected);
}

#[tokio::test]
async fn a_read_only_root_leaves_volumes_and_devices_writable() {
    let world = World::new();
    let mut spec = sh(
        "for d in / /usr /etc /var /tmp /var/tmp /root /run /home; do (echo > $d/x) 2>/dev/null && echo written $d; done; \
         echo > /data/x && echo > /dev/shm/x && echo > /usr/share/v/x && echo fine > /dev/stdout",
    );
    spec.mounts = vec![world.volume("data", "/data"), world.volume("inner", "/usr/share/v")];
    spec.read_only_root = true;
    let (_, out, err) = world.run(spec).await;
    assert_eq!(out, "fine\n", "{err}");
}

#[tokio::test]
async fn a_missing_volume_source_is_named() {
    let world = World::new();
    let mut spec = sh("true");
    spec.mounts = vec![Mount { source: "/no/such".into(), target: "/x".into(), read_only: false }];
    let error = world.fail(spec).await;
    assert!(matches!(error, StartError::MountSource { .. }), "{error:?}");
}

#[tokio::test]
async fn the_simulators_own_directories_are_hidden() {
    // /var is shown in containers, /tmp is not.
    let Ok(place) = tempfile::tempdir_in("/var/lib") else {
        println!("skipped: this user cannot write to /var/lib");
        return;
    };
    let (state, pods) = (place.path().join("state"), place.path().join("pods"));
    std::fs::create_dir(&pods).expect("make a directory");
    std::fs::write(pods.join("secret"), "s").expect("write");
    std::fs::write(place.path().join("shown"), "s").expect("write");
    let runtime = Runtime::new(&state, super::launcher()).expect("a runtime").hide([pods.clone()]);
    let mut spec = sh("");
    spec.args = ["find", &place.path().display().to_string(), "-mindepth", "1"].map(str::to_owned).to_vec();
    let container = within(runtime.start(spec)).await.expect("starts");
    let (stdout, _) = container.take_output().expect("output");
    let out = within(text(stdout)).await;
    let mut found: Vec<&str> = out.lines().filter_map(|line| line.rsplit('/').next()).collect();
    found.sort_unstable();
    assert_eq!(found, ["pods", "shown", "state"]);
}

#[tokio::test]
async fn roots_power_ends_at_the_container() {
    let world = World::new();
    let script = "mount -t tmpfs none /mnt 2>/dev/null && echo mounted; umount /usr 2>/dev/null && echo unmounted; \
                  hostname evil 2>/dev/null && echo renamed; mknod /tmp/b b 8 0 2>/dev/null && echo device; \
                  (echo x > /proc/sysrq-trigger) 2>/dev/null && echo sysrq; \
                  (echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null && echo sysctl; \
                  (echo > /sys/gantry-test) 2>/dev/null && echo sys; grep CapBnd /proc/self/status";
    let (_, out, err) = world.run(sh(script)).await;
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
    // NET_RAW, SYS_CHROOT, AUDIT_WRITE, SETFCAP
    assert_eq!(out, "CapBnd:\t00000000a00425fb\n", "{err}");
    let mut spec = sh("grep -e CapBnd -e CapEff -e NoNewPrivs /proc/self/status | tr '\\n\\t' '  '");
    spec.capabilities = Capabilities::None;
    spec.no_new_privileges = true;
    let (_, out, _) = world.run(spec).await;
    assert_eq!(out.trim(), "CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1");
}
