//! The helper is pushed into containers of any image, so that a release of it is static or does not
//! compile. The flag for that is in `.cargo/config.toml`, which `RUSTFLAGS` in the environment
//! replaces as a whole.

use std::process::Command;

use crate::project::root;

/// What the compiler says of the helper's sources with these flags. Its dependencies are missing,
/// so that it always says something; what is tested comes before it looks for them.
fn compiled(flags: &[&str]) -> String {
    let out = tempfile::tempdir().expect("a directory for what is compiled");
    let sources = root().join("crates/gantry-helper/src/lib.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--out-dir"]).arg(out.path());
    let output = command.args(flags).arg(&sources).output().expect("rustc starts");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_helper_for_release_is_static_or_does_not_compile() {
    let (release, linked) = ("-Cdebug-assertions=off", "-Ctarget-feature=+crt-static");
    for (flags, is_refused) in [
        (vec![release, "-Ctarget-feature=-crt-static"], true),
        (vec![release, linked], false),
        (vec!["-Cdebug-assertions=on", "-Ctarget-feature=-crt-static"], false),
    ] {
        let said = compiled(&flags);
        assert!(said.contains("error"), "{flags:?}: without its dependencies it has compiled: {said}");
        assert_eq!(said.contains("a helper must be static, to run in every image"), is_refused, "{flags:?}: {said}");
    }
}
