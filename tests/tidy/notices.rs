//! The licences that go with our programs: every crate that is linked has its texts there, and one
//! that has none is not shipped.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::project::root;
use crate::sbom::bill;

/// Packages and images are made on Debian, which says what its C library demands.
fn is_debian() -> bool {
    let is_debian = Path::new("/etc/debian_version").exists();
    if !is_debian {
        eprintln!("skipped: licences are gathered on Debian only");
    }
    is_debian
}

fn notices(root: &Path, program: &str) -> Output {
    let script = root.join("config/images/notices");
    Command::new(script).args([program, "amd64"]).current_dir(root).output().expect("a shell")
}

fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).expect("a text")
}

#[test]
fn every_linked_crate_has_the_texts_of_its_licence() {
    if !is_debian() {
        return;
    }
    for program in ["gantry", "gantry-helper"] {
        let notices = text(&notices(&root(), program));
        let (_, bill) = bill(program, "amd64");
        // Those with an address are in the registry, and so not ours.
        let crates = bill["components"].as_array().expect("a list").iter().filter(|part| part["purl"].is_string());
        for part in crates {
            let word = |key: &str| part[key].as_str().unwrap_or_default();
            let head = format!("\n{} {} (", word("name"), word("version"));
            let line = notices.split_once(&head).and_then(|(_, rest)| rest.lines().next());
            let line = line.unwrap_or_else(|| panic!("{program}: nothing of{head}"));
            let (_, numbers) = line.rsplit_once("): ").unwrap_or_else(|| panic!("{program}: no text: {line}"));
            for number in numbers.split(' ') {
                assert!(notices.contains(&format!("\n=== text {number} ===\n\n")), "{program}: {head}{line}");
            }
        }
        for words in [
            "Copyright (c) Tokio Contributors",
            "Copyright (c) Meta Platforms, Inc.",
            "Copyright notices for The Rust Standard Library",
            "GNU LESSER GENERAL PUBLIC LICENSE",
        ] {
            assert!(notices.contains(words), "{program}: {words:?}");
        }
        let allocator = "Copyright (C) 2002-present Jason Evans";
        assert_eq!(notices.contains(allocator), program == "gantry", "{program}: the allocator is the manager's");
        // The other licence under which zstd is offered.
        assert!(!notices.contains("\n                    GNU GENERAL PUBLIC LICENSE\n"), "{program}");
    }
}

/// A project of one program, with one crate from a registry that is a directory.
fn project(licence: &str) -> tempfile::TempDir {
    let project = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = project.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    };
    let registry = "[source.crates-io]\nreplace-with = \"near\"\n[source.near]\ndirectory = \"near\"\n";
    write(".cargo/config.toml", registry);
    let head = "[package]\nedition = \"2024\"\nversion = \"1.0.0\"\n";
    write("Cargo.toml", &format!("{head}name = \"gantry-helper\"\n[dependencies]\nother = \"1\"\n"));
    write("src/main.rs", "fn main() {}\n");
    write("LICENSE", "the text of ours\n");
    write("near/other/Cargo.toml", &format!("{head}name = \"other\"\nlicense = \"{licence}\"\n"));
    write("near/other/src/lib.rs", "");
    write("near/other/.cargo-checksum.json", &format!("{{\"files\": {{}}, \"package\": \"{:064}\"}}", 0));
    for script in ["linked", "notices"] {
        let to = project.path().join("config/images").join(script);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        fs::copy(root().join("config/images").join(script), to).expect("a copy");
    }
    let mut lock = Command::new("cargo");
    lock.args(["generate-lockfile", "--offline"]).current_dir(project.path());
    let output = lock.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    project
}

#[test]
fn a_crate_without_the_text_of_its_licence_is_refused() {
    if !is_debian() {
        return;
    }
    let with_mit = project("MIT");
    let output = notices(with_mit.path(), "gantry-helper");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(said.contains("the crate other 1.0.0 (MIT) has no text of its licence in "), "{said}");

    let path = with_mit.path().join("near/other/LICENSE-MIT");
    fs::write(&path, "").expect("a file");
    assert!(!notices(with_mit.path(), "gantry-helper").status.success(), "an empty file is no text");
    fs::write(path, "Copyright of somebody\n").expect("a file");
    let printed = text(&notices(with_mit.path(), "gantry-helper"));
    assert!(printed.contains("\nother 1.0.0 (MIT): 2\n"), "{printed}");
    assert!(printed.contains("\n=== text 2 ===\n\nCopyright of somebody\n"), "{printed}");

    // That text names nobody, and so it is the same for all.
    let with_apache = project("MIT OR Apache-2.0");
    let printed = text(&notices(with_apache.path(), "gantry-helper"));
    assert!(printed.contains("\nother 1.0.0 (MIT OR Apache-2.0): 1\n"), "{printed}");
    assert!(printed.contains("\n=== text 1 ===\n\nthe text of ours\n"), "{printed}");
    let both = project("MIT AND Apache-2.0");
    assert!(!notices(both.path(), "gantry-helper").status.success());
}
