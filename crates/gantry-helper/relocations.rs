//! How programs are linked; a part of the build scripts of both.

/// A static program puts its own addresses into its tables when it starts. The list of places takes
/// 24 bytes for each as usual, two megabytes in all, which stay in memory for having been read
/// once; packed it takes a small part of that. The start of a static program reads a packed list
/// since glibc 2.36, and linkers make one for this architecture only.
pub(crate) fn pack() {
    println!("cargo::rerun-if-changed=../gantry-helper/relocations.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let fits = ["OS", "ENV", "ARCH"].map(target) == ["linux", "gnu", "x86_64"];
    // Of the C library of another machine nothing is known here.
    let is_native = std::env::var_os("HOST") == std::env::var_os("TARGET");
    if fits && is_native && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, where it says one.
fn glibc() -> Option<(u32, u32)> {
    let output = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
