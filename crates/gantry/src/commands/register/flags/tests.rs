//! The table against the reference's list, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Written from the reference's documentation and source, not from the table.
const REFERENCE: &str = include_str!("parity.tsv");

fn kind_of(reference_type: &str) -> &'static [Kind] {
    match reference_type {
        "string" | "*string" | "KubernetesDNSPolicy" | "S3AuthType" | "api.ProcMountType" => {
            &[Kind::Text, Kind::Secret]
        }
        "bool" => &[Kind::Bool],
        "*bool" => &[Kind::OptionalBool],
        "int" | "int64" | "RequestRetryLimit" | "RequestRetryBackoffMax" => &[Kind::Int],
        "*int64" => &[Kind::OptionalInt],
        "*time.Duration" => &[Kind::Duration],
        "[]string" | "[]api.Capability" | "[]DockerPullPolicy" => &[Kind::List],
        "[]int64" => &[Kind::Ints],
        "StringOrArray" => &[Kind::Words],
        "map[string]string" => &[Kind::Map],
        "map[string]bool" => &[Kind::Switches],
        "RequestRetryLimits" => &[Kind::Counts],
        "KubernetesHostAliasesFlag" => &[Kind::HostAliases],
        other => panic!("unknown type {other}"),
    }
}

#[test]
fn every_flag_of_the_reference() {
    let flags = all();
    let mut seen = BTreeSet::new();
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#')) {
        let [long, env, path, reference_type] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let flag = flags.iter().find(|flag| flag.long == long || flag.alias.as_deref() == Some(long));
        let flag = flag.unwrap_or_else(|| panic!("--{long} is missing"));
        assert_eq!(flag.env.as_deref().unwrap_or("-"), env, "--{long}");
        let written = if flag.path.is_empty() { "-".to_owned() } else { flag.path.join(".") };
        assert_eq!(written, path, "--{long}");
        assert!(kind_of(reference_type).contains(&flag.kind), "--{long}: {:?} for {reference_type}", flag.kind);
        seen.insert(&flag.long);
    }
    let ours: Vec<&String> = flags.iter().map(|flag| &flag.long).filter(|long| !seen.contains(long)).collect();
    assert_eq!(ours, [""; 0], "flags that the reference does not have");
    assert_eq!(flags.iter().filter(|flag| flag.long.starts_with("kubernetes-")).count(), 167);
}

#[test]
fn no_spelling_and_no_variable_means_two_flags() {
    let flags = all();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for flag in &flags {
        for name in [Some(&flag.long), flag.alias.as_ref(), flag.env.as_ref()].into_iter().flatten() {
            let other = owners.insert(name, &flag.long);
            assert!(other.is_none(), "{name} is {other:?} and {}", flag.long);
        }
    }
    assert_eq!(owners["kubernetes-bearer-token"], "kubernetes-bearer_token");
}

#[test]
fn every_flag_is_explained() {
    for flag in all() {
        assert!(flag.help.len() > 3 && !flag.help.ends_with('.'), "--{}: {:?}", flag.long, flag.help);
    }
}
