//! Variables that look as if `register` read them, and that nobody reads. Pure.

use std::collections::BTreeSet;

use gantry_config::nearest;

use super::flags::Flag;

/// How variables begin that are for `register`, but for `CI_…`, most of which are a job's.
const OWN_BEGINNINGS: [&str; 4] = ["CACHE_", "KUBERNETES_", "REGISTER_", "RUNNER_"];

/// Variables with such a beginning that other commands or the logging read.
const OF_OTHERS: [&str; 5] =
    [super::CONCURRENT, "RUNNER_DEBUG", "RUNNER_MAX_BUILDS", "RUNNER_SHUTDOWN_TIMEOUT", "RUNNER_WAIT_TIMEOUT"];

/// Variables of former releases, and those that other names suggest, each with what is read now.
const RENAMED: [(&str, &str); 35] = [
    ("CACHE_CACHE_SHARED", "CACHE_SHARED"),
    ("CACHE_S3_CACHE_INSECURE", "CACHE_S3_INSECURE"),
    ("CACHE_S3_CACHE_PATH", "CACHE_PATH"),
    ("CACHE_S3_CACHE_SHARED", "CACHE_SHARED"),
    ("KUBERNETES_CPUS", "KUBERNETES_CPU_LIMIT"),
    ("KUBERNETES_HELPER_CPUS", "KUBERNETES_HELPER_CPU_LIMIT"),
    ("KUBERNETES_HELPER_MEMORY", "KUBERNETES_HELPER_MEMORY_LIMIT"),
    ("KUBERNETES_IMAGE_PULL_POLICY", "KUBERNETES_PULL_POLICY"),
    ("KUBERNETES_MEMORY", "KUBERNETES_MEMORY_LIMIT"),
    ("KUBERNETES_PRIORITY_CLASS", "KUBERNETES_PRIORITY_CLASS_NAME"),
    ("KUBERNETES_PULL_SECRETS", "KUBERNETES_IMAGE_PULL_SECRETS"),
    ("KUBERNETES_SERVICE_ACCOUNT_NAME", "KUBERNETES_SERVICE_ACCOUNT"),
    ("KUBERNETES_SERVICE_CPUS", "KUBERNETES_SERVICE_CPU_LIMIT"),
    ("KUBERNETES_SERVICE_MEMORY", "KUBERNETES_SERVICE_MEMORY_LIMIT"),
    ("KUBERNETES_TERMINATIONGRACEPERIODSECONDS", "KUBERNETES_POD_TERMINATION_GRACE_PERIOD_SECONDS"),
    ("KUBERNETES_TOLERATIONS", "KUBERNETES_NODE_TOLERATIONS"),
    ("REGISTER_EXECUTOR", "RUNNER_EXECUTOR"),
    ("REGISTER_NAME", "RUNNER_NAME"),
    ("REGISTER_TAG_LIST", "RUNNER_TAG_LIST"),
    ("REGISTER_TOKEN", "REGISTRATION_TOKEN"),
    ("REGISTER_URL", "CI_SERVER_URL"),
    ("RUNNER_CONCURRENT", "RUNNER_CONCURRENT_BUILDS"),
    ("RUNNER_POST_CLONE_SCRIPT", "RUNNER_POST_GET_SOURCES_SCRIPT"),
    ("RUNNER_PRE_CLONE_SCRIPT", "RUNNER_PRE_GET_SOURCES_SCRIPT"),
    ("RUNNER_REGISTRATION_TOKEN", "REGISTRATION_TOKEN"),
    ("RUNNER_TAGS", "RUNNER_TAG_LIST"),
    ("RUNNER_TOKEN", "CI_SERVER_TOKEN"),
    ("RUNNER_URL", "CI_SERVER_URL"),
    ("S3_ACCESS_KEY", "CACHE_S3_ACCESS_KEY"),
    ("S3_BUCKET_LOCATION", "CACHE_S3_BUCKET_LOCATION"),
    ("S3_BUCKET_NAME", "CACHE_S3_BUCKET_NAME"),
    ("S3_CACHE_INSECURE", "CACHE_S3_INSECURE"),
    ("S3_CACHE_PATH", "CACHE_PATH"),
    ("S3_SECRET_KEY", "CACHE_S3_SECRET_KEY"),
    ("S3_SERVER_ADDRESS", "CACHE_S3_SERVER_ADDRESS"),
];

/// Words of manifests, each with the variable that would be the key's.
const OF_MANIFESTS: [(&str, &str); 2] =
    [("KUBERNETES_ANNOTATIONS", "KUBERNETES_POD_ANNOTATIONS"), ("KUBERNETES_LABELS", "KUBERNETES_POD_LABELS")];

/// What to say of a variable that is none of the `flags`' variables; `None` where it is not meant
/// for `register`.
pub(super) fn remark(flags: &[Flag], name: &str, value: &str) -> Option<String> {
    let renamed = RENAMED.iter().find(|(old, _)| *old == name);
    let is_own = OWN_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    if (renamed.is_none() && !is_own) || OF_OTHERS.contains(&name) || is_of_kubelets(name, value) {
        return None;
    }
    let what_to_do = renamed
        .map(|(_, now)| format!("it is called {now} now"))
        .or_else(|| in_other_ways(flags, name))
        .or_else(|| {
            let near = nearest(name, flags.iter().filter_map(|flag| flag.env.as_deref()))?;
            Some(format!("did you mean {near}?"))
        });
    let what_to_do = what_to_do.unwrap_or_else(|| "`gantry register --help` names those that are read".to_owned());
    Some(format!("nobody reads {name}: {what_to_do}"))
}

/// How to give what is a key of the entry and has no variable.
fn in_other_ways(flags: &[Flag], name: &str) -> Option<String> {
    let name = OF_MANIFESTS.iter().find(|(word, _)| *word == name).map_or(name, |(_, variable)| *variable);
    let key = gantry_config::keys().iter().find(|key| variable_of(&key.path).is_some_and(|own| own == name))?;
    let table = match key.table().replace("[]", "").as_str() {
        "runners" => "[[runners]]".to_owned(),
        table => format!("[{table}]"),
    };
    let file = format!("write {} under {table} in a template (--template-config)", key.name());
    let path = key.path.strip_prefix("runners[].").unwrap_or_default();
    let flag = flags.iter().find(|flag| !path.contains("[]") && flag.path.join(".") == path);
    Some(match flag.map(|flag| (&flag.long, &flag.env)) {
        Some((_, Some(variable))) => format!("it is called {variable}"),
        Some((long, None)) => format!("it has no variable: give --{long}, or {file}"),
        None => format!("it has no variable: {file}"),
    })
}

/// How the variable of a key would be called by the rule that most follow.
fn variable_of(path: &str) -> Option<String> {
    let path = path.strip_prefix("runners[].")?.replace("[]", "").replace(['.', '-'], "_").to_ascii_uppercase();
    let is_table = ["CACHE_", "KUBERNETES_"].iter().any(|table| path.starts_with(table));
    Some(if is_table { path } else { format!("RUNNER_{path}") })
}

/// Whether a kubelet sets it in every container, for a Service of the namespace or the API
/// server's.
fn is_of_kubelets(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let is_protocol = |word: &str| PROTOCOLS.iter().any(|protocol| word.eq_ignore_ascii_case(protocol));
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = || value.split_once("://").is_some_and(|(protocol, _)| is_protocol(protocol));
    // NAME_PORT_443_TCP, and the same with _ADDR, _PORT or _PROTO behind.
    let words: Vec<&str> = name.split('_').collect();
    let is_of_port =
        words.windows(3).any(|three| matches!(three, ["PORT", port, word] if is_number(port) && is_protocol(word)));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_address())
        || is_of_port
}

/// The variables that `$NAME` in texts stand for.
pub(super) fn named_in(texts: &[&str]) -> BTreeSet<String> {
    let names = std::cell::RefCell::new(BTreeSet::new());
    for text in texts {
        gantry_core::variables::expand(text, |name| {
            names.borrow_mut().insert(name.to_owned());
            None
        });
    }
    names.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::register::flags;

    fn said(name: &str) -> String {
        remark(&flags::all(), name, "x").unwrap_or_default()
    }

    #[test]
    fn every_new_name_is_read() {
        let read: Vec<String> = flags::all().into_iter().filter_map(|flag| flag.env).collect();
        for (old, now) in RENAMED {
            assert!(now == crate::commands::register::CONCURRENT || read.iter().any(|name| name == now), "{now}");
            assert!(!read.iter().any(|name| name == old), "{old} is read");
        }
    }

    #[test]
    fn old_names_have_new_ones() {
        for (old, now) in [
            ("RUNNER_PRE_CLONE_SCRIPT", "RUNNER_PRE_GET_SOURCES_SCRIPT"),
            ("KUBERNETES_CPUS", "KUBERNETES_CPU_LIMIT"),
            ("KUBERNETES_MEMORY", "KUBERNETES_MEMORY_LIMIT"),
            ("KUBERNETES_IMAGE_PULL_POLICY", "KUBERNETES_PULL_POLICY"),
            ("KUBERNETES_SERVICE_ACCOUNT_NAME", "KUBERNETES_SERVICE_ACCOUNT"),
            ("S3_SERVER_ADDRESS", "CACHE_S3_SERVER_ADDRESS"),
            ("S3_BUCKET_NAME", "CACHE_S3_BUCKET_NAME"),
            ("CACHE_S3_CACHE_PATH", "CACHE_PATH"),
        ] {
            assert_eq!(said(old), format!("nobody reads {old}: it is called {now} now"));
        }
    }

    #[test]
    fn keys_without_a_variable_are_given_otherwise() {
        assert_eq!(
            said("KUBERNETES_POD_LABELS"),
            "nobody reads KUBERNETES_POD_LABELS: it has no variable: give --kubernetes-pod-labels, or write \
             pod_labels under [runners.kubernetes] in a template (--template-config)"
        );
        assert!(said("KUBERNETES_ANNOTATIONS").contains("--kubernetes-pod-annotations"));
        assert!(said("KUBERNETES_POD_SPEC").ends_with(
            "it has no variable: write pod_spec under [runners.kubernetes] in a template (--template-config)"
        ));
        assert!(said("RUNNER_CLONE_URL").ends_with("it is called CLONE_URL"), "{}", said("RUNNER_CLONE_URL"));
    }

    #[test]
    fn others_are_named_and_those_of_kubernetes_are_not() {
        assert!(said("REGISTER_SOMETHING_ELSE").ends_with("`gantry register --help` names those that are read"));
        let set = [
            ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
            ("KUBERNETES_PORT_443_TCP", "tcp://10.0.0.1:443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("RUNNER_CACHE_PORT_9000_TCP_PROTO", "tcp"),
            ("CACHE_REDIS_SERVICE_HOST", "10.0.0.2"),
            ("RUNNER_DEBUG", "1"),
            ("RUNNER_CONCURRENT_BUILDS", "4"),
            ("HOME", "/root"),
        ];
        for (name, value) in set {
            assert_eq!(remark(&flags::all(), name, value), None, "{name}");
        }
    }

    #[test]
    fn names_in_texts() {
        let names = named_in(&["url = \"$RUNNER_URL\"\ntoken = \"${RUNNER_TOKEN}\"", "$$RUNNER_OTHER"]);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["RUNNER_TOKEN", "RUNNER_URL"]);
    }
}
