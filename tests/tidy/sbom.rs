//! The bills of materials that the images hold name what Cargo would link, each with the checksum
//! of `Cargo.lock`, and are the same each time.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::project::root;

/// What `config/images/sbom` prints.
pub(crate) fn bill(program: &str, architecture: &str) -> (String, Value) {
    let script = root().join("config/images/sbom");
    let output = Command::new(script).args([program, architecture]).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("a text");
    let bill = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (text, bill)
}

/// Name and version of each package of `Cargo.lock`, and its checksum where it is not ours.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).expect("a lock file");
    let lock: toml::Table = text.parse().expect("TOML");
    let field = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let packages = lock["package"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let named = |key| field(package, key).expect("a text");
            ((named("name"), named("version")), field(package, "checksum"))
        })
        .collect()
}

#[test]
fn bills_of_materials_name_what_is_linked() {
    let locked = locked();
    for (program, has, has_not) in [
        ("gantry", vec!["aws-lc-sys", "gantry-daemon", "rustls", "tikv-jemalloc-sys", "tokio"], "gantry-sim-kube"),
        ("gantry-helper", vec!["gantry-trace", "tokio", "zstd-sys"], "gantry-daemon"),
    ] {
        let (text, bill) = bill(program, "amd64");
        assert_eq!(bill["bomFormat"], "CycloneDX");
        assert_eq!(bill.pointer("/metadata/component/name"), Some(&Value::from(program)));
        let parts = bill["components"].as_array().expect("a list");
        let mut names = Vec::new();
        for part in parts {
            let word = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
            let sum = locked.get(&(word("name"), word("version"))).unwrap_or_else(|| panic!("not locked: {part}"));
            let said = part.pointer("/hashes/0/content").and_then(Value::as_str);
            assert_eq!(said, sum.as_deref(), "{part}");
            let url =
                sum.as_ref().map(|_| format!("pkg:cargo/{}@{}", word("name"), word("version").replace('+', "%2B")));
            assert_eq!(part["purl"].as_str(), url.as_deref(), "{part}");
            assert!(part.pointer("/licenses/0/expression").is_some_and(Value::is_string), "{part}");
            names.push((word("name"), word("version")));
        }
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] != pair[1]), "{program}: {names:?}");
        let is_in = |wanted: &str| names.iter().any(|(name, _)| name == wanted);
        assert!(has.iter().all(|name| is_in(name)) && !is_in(has_not), "{program}: {names:?}");
        // What only expands code at build time is in no image.
        assert!(!is_in("serde_derive") && !is_in("cc"), "{program}: {names:?}");
        assert_eq!(self::bill(program, "amd64").0, text, "{program}: the same each time");
    }
    // The allocator of the image is not linked there.
    let (_, of_arm64) = bill("gantry", "arm64");
    assert!(!of_arm64.to_string().contains("jemalloc"), "{of_arm64}");
}
