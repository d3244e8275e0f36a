//! A build without the cargo feature `sim`: the commands that need it are known and say so.

#![cfg(not(feature = "sim"))]

use std::process::Command;

#[test]
fn commands_that_need_the_simulators_say_where_they_are() {
    for args in [&["dev"][..], &["dev", "--repo", "."], &["sim", "gitlab", "--listen", ":0"]] {
        let ended = Command::new(env!("CARGO_BIN_EXE_gantry")).args(args).output().expect("a program");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("cargo feature `sim`"), "{args:?}: {said}");
    }
}
