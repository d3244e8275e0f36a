//! Where a key belongs that is unknown in its table, and words that look like keys and never were
//! any, or are none anymore.

use gantry_core::Effect;

use crate::key::{Form, Key};
use crate::keys::keys;
use crate::section::general;

/// Properties of a runner that GitLab keeps, without dashes and in lower case. `register` sends
/// them; they were never keys of the file.
const KEPT_IN_GITLAB: [&str; 11] = [
    "accesslevel",
    "active",
    "description",
    "locked",
    "maintenancenote",
    "maximumtimeout",
    "paused",
    "protected",
    "rununtagged",
    "taglist",
    "tags",
];

/// What to do about a key that is unknown in the table `path`, where more than its spelling is
/// known.
pub(crate) fn hint(path: &str, key: &str) -> Option<String> {
    in_place_of(path, key)
        .map(str::to_owned)
        .or_else(|| in_words_of_kubernetes(path, key).map(|ours| format!("it is {ours} here")))
        .or_else(|| home(path, key).map(|home| format!("it belongs {home}")))
}

/// What to do instead of a word, by the table that it is in. Words are folded.
const INSTEAD: [(&str, &[&str], &str); 6] = [
    ("runners", &["cafile", "cacert", "sslcafile", "tlscacert"], "for GitLab's certificate it is tls-ca-file here"),
    ("runners", &["certfile", "tlscert"], "for a client certificate it is tls-cert-file here"),
    ("runners", &["keyfile", "tlskey"], "for a client certificate it is tls-key-file here"),
    ("runners", &["jobtimeout", "timeout"], "the longest time of a job is set on the runner's page in GitLab"),
    (
        "runners.kubernetes",
        &["jobtimeout", "timeout"],
        "for the start of a pod it is poll_timeout here; the longest time of a job is set on the runner's page in GitLab",
    ),
    (
        "runners.kubernetes.volumes.host_path",
        &["type"],
        "leave it out: what is at the path of the node is mounted, whatever it is",
    ),
];

/// Words for what cannot be done: certificates that are not verified.
const UNVERIFIED: [&str; 9] = [
    "insecureskiptlsverify",
    "insecureskipverify",
    "skiptlsverify",
    "sslverify",
    "tls",
    "tlsinsecure",
    "tlsskipverify",
    "tlsverify",
    "verifyssl",
];

/// What to do about them.
const VERIFIED: &str = "certificates are always verified: name the authority that they are from, for GitLab's with \
                        tls-ca-file under [[runners]], for the API server's with ca_file under [runners.kubernetes]";

fn in_place_of(path: &str, key: &str) -> Option<&'static str> {
    let (table, folded) = (general(path), folded(key));
    if ["", "runners", "runners.kubernetes"].contains(&table.as_str()) && UNVERIFIED.contains(&folded.as_str()) {
        return Some(VERIFIED);
    }
    let is_meant = |(of, words, _): &&(&str, &[&str], &str)| *of == table && words.contains(&folded.as_str());
    INSTEAD.iter().find(is_meant).map(|(.., instead)| *instead)
}

/// What is written in `[runners.kubernetes]` for words that manifests have: folded, as spelling and
/// case vary.
const OF_MANIFESTS: [(&str, &str); 22] = [
    ("annotations", "pod_annotations = { \"key\" = \"value\" }"),
    ("claimname", "name = \"claim\""),
    ("configmapname", "name = \"config-map\""),
    (
        "containersecuritycontext",
        "build_container_security_context, service_container_security_context or helper_container_security_context",
    ),
    ("containers", "patch = \"…\" in [[runners.kubernetes.pod_spec]]"),
    ("dns", "[runners.kubernetes.dns_config]"),
    ("env", "environment = [\"KEY=value\"] under [[runners]]"),
    ("imagepullpolicy", "pull_policy = \"if-not-present\""),
    ("imagepullsecret", "image_pull_secrets = [\"name\"]"),
    ("labels", "pod_labels = { \"key\" = \"value\" }"),
    ("limits", "cpu_limit and memory_limit"),
    ("nodeaffinity", "[runners.kubernetes.affinity.node_affinity]"),
    ("podspecpatch", "patch = \"…\" in [[runners.kubernetes.pod_spec]]"),
    ("priorityclass", "priority_class_name"),
    ("pullsecrets", "image_pull_secrets = [\"name\"]"),
    ("requests", "cpu_request and memory_request"),
    ("resources", "a key for each quantity: cpu_request, cpu_limit, memory_request, memory_limit"),
    ("secretname", "name = \"secret\""),
    ("securitycontext", "[runners.kubernetes.pod_security_context] or build_container_security_context"),
    ("serviceaccountname", "service_account"),
    ("tolerations", "node_tolerations = { \"key=value\" = \"NoSchedule\" }"),
    ("volumemounts", "mount_path of a volume, such as [[runners.kubernetes.volumes.pvc]]"),
];

/// The same for a service of the settings, whose words are those of the job's definition.
const OF_SERVICES: [(&str, &str); 4] = [
    ("aliases", "alias = \"one two\""),
    ("image", "name = \"docker:27-dind\""),
    ("privileged", "privileged = true in [runners.kubernetes.service_container_security_context], for all services,"),
    ("variables", "environment = [\"KEY=value\"]"),
];

fn in_words_of_kubernetes(path: &str, key: &str) -> Option<&'static str> {
    let folded = folded(key);
    if general(path) == "runners.kubernetes.services"
        && let Some((_, ours)) = OF_SERVICES.iter().find(|(word, _)| *word == folded)
    {
        return Some(ours);
    }
    let is_within = general(path).starts_with("runners.kubernetes");
    OF_MANIFESTS.iter().find(|(word, _)| is_within && *word == folded).map(|(_, ours)| *ours)
}

/// A word without what spellings differ in.
fn folded(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// What to say about a key that many files have although no release, or no release anymore, makes
/// use of it, and what to do.
pub(crate) fn ignored(path: &str, key: &str) -> Option<(String, Option<String>)> {
    if let Some(instead) = renamed(&general(path), key) {
        return Some(("has no effect".to_owned(), Some(instead)));
    }
    let is_kept = home(path, key).is_none() && is_kept_in_gitlab(path, key);
    is_kept.then(|| {
        let what = "has no effect: GitLab keeps it, and not this file".to_owned();
        (what, Some("set it on the runner's page in GitLab, and leave it out here".to_owned()))
    })
}

/// Keys of older releases, which GitLab Runner 19.4 ignores, and one that only `register` takes.
fn renamed(table: &str, key: &str) -> Option<String> {
    let now = match key.to_ascii_lowercase().as_str() {
        "cpus" if table == "runners.kubernetes" => "cpu_limit",
        "memory" if table == "runners.kubernetes" => "memory_limit",
        "service_cpus" => "service_cpu_limit",
        "service_memory" => "service_memory_limit",
        "helper_cpus" => "helper_cpu_limit",
        "helper_memory" => "helper_memory_limit",
        "metrics_server" => "listen_address",
        "pre_clone_script" => "pre_get_sources_script",
        "post_clone_script" => "post_get_sources_script",
        "terminationgraceperiodseconds" => "pod_termination_grace_period_seconds",
        "registration_token" | "registration-token" => {
            return Some("`register` takes it and writes the runner's own token".to_owned());
        }
        _ => return None,
    };
    Some(format!("it is called {now} now"))
}

/// More tables than this are no hint.
const MOST_HOMES: usize = 3;

/// Where a key belongs that is not in its table `path`, in words.
fn home(path: &str, key: &str) -> Option<String> {
    let here = general(path);
    let acts = |known: &&Key| known.effect == Effect::Acts && !is_in_idle_table(known);
    let is_same = |known: &&Key| known.name().eq_ignore_ascii_case(key) && general(known.table()) != here;
    let tables: Vec<String> = keys().iter().filter(is_same).filter(acts).map(|key| general(key.table())).collect();
    let homes = nearest_tables(&here, &tables);
    if homes.is_empty() || homes.len() > MOST_HOMES {
        return None;
    }
    if homes.contains(&"") {
        return Some("at the top of the file, before the first table".to_owned());
    }
    let named =
        homes.into_iter().map(|table| if table == "runners" { "[[runners]]".to_owned() } else { format!("[{table}]") });
    Some(format!("under {}", named.collect::<Vec<_>>().join(" or ")))
}

/// Of some tables the least deep ones above or below `here`, else those beside it, else the only
/// one that there is.
fn nearest_tables<'t>(here: &str, tables: &'t [String]) -> Vec<&'t str> {
    let is_within = |inner: &str, outer: &str| {
        outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let depth = |table: &str| (!table.is_empty(), table.matches('.').count());
    let all = || tables.iter().map(String::as_str);
    let in_line = || all().filter(|table| is_within(table, here) || is_within(here, table));
    if let Some(least) = in_line().map(depth).min() {
        return in_line().filter(|table| depth(table) == least).collect();
    }
    // The top of the file has nothing beside it: everything else is below.
    let parent = |table: &str| table.rsplit_once('.').map(|(parent, _)| parent.to_owned());
    let beside: Vec<&str> = all().filter(|table| parent(table) == parent(here)).collect();
    if beside.is_empty() && tables.len() == 1 { all().collect() } else { beside }
}

/// Whether a table that the key is in, or below, does nothing.
fn is_in_idle_table(key: &Key) -> bool {
    keys().iter().any(|table| {
        matches!(table.form, Form::Table | Form::Tables)
            && table.effect != Effect::Acts
            && key.path.strip_prefix(&table.path).is_some_and(|rest| rest.starts_with('.'))
    })
}

fn is_kept_in_gitlab(path: &str, key: &str) -> bool {
    ["", "runners", "runners.kubernetes"].contains(&general(path).as_str())
        && KEPT_IN_GITLAB.contains(&folded(key).as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_homes() {
        let hint = |path, key| hint(path, key).unwrap_or_default();
        assert_eq!(hint("runners[1]", "namespace"), "it belongs under [runners.kubernetes]");
        assert_eq!(hint("", "Privileged"), "it belongs under [runners.kubernetes]");
        assert_eq!(hint("runners[0].kubernetes", "limit"), "it belongs under [[runners]]");
        assert_eq!(hint("runners[0]", "concurrent"), "it belongs at the top of the file, before the first table");
        assert_eq!(hint("runners[0]", "BucketName"), "it belongs under [runners.cache.s3] or [runners.cache.gcs]");
        assert_eq!(hint("", "kubernetes"), "it belongs under [[runners]]");
        assert_eq!(hint("runners[0]", "poll_timout"), "");
        assert!(hint("runners[0].kubernetes.volumes.host_path[0]", "type").starts_with("leave it out: "));
        assert_eq!(hint("runners[0].kubernetes.volumes.empty_dir[0]", "type"), "");
        assert_eq!(
            hint("runners[0].kubernetes.pod_security_context", "read_only_root_filesystem"),
            "it belongs under [runners.kubernetes.build_container_security_context] or \
             [runners.kubernetes.helper_container_security_context] or \
             [runners.kubernetes.service_container_security_context]"
        );
        assert_eq!(hint("runners[0]", "tags"), "");
        assert_eq!(hint("runners[0].kubernetes", "serviceAccountName"), "it is service_account here");
        assert!(hint("runners[0].kubernetes", "resources").contains("cpu_request, cpu_limit"));
        assert_eq!(hint("runners[0]", "resources"), "");
        assert_eq!(hint("runners[0].kubernetes.services[1]", "image"), "it is name = \"docker:27-dind\" here");
        assert!(hint("runners[0].kubernetes.services[1]", "privileged").contains("service_container_security_context"));
        assert!(hint("runners[0].kubernetes.pod_spec[1]", "containers").starts_with("it is patch = "));
    }

    #[test]
    fn words_have_other_words_or_none() {
        let hint = |path, key| hint(path, key).unwrap_or_default();
        for (path, key) in
            [("runners[0]", "tls-skip-verify"), ("runners[0]", "tls"), ("runners[0].kubernetes", "tls_verify")]
        {
            let hint = hint(path, key);
            assert!(hint.starts_with("certificates are always verified: ") && hint.contains("tls-ca-file"), "{hint}");
        }
        assert_eq!(hint("runners[0]", "ca_file"), "for GitLab's certificate it is tls-ca-file here");
        assert_eq!(hint("runners[0]", "timeout"), "the longest time of a job is set on the runner's page in GitLab");
        assert!(hint("runners[0].kubernetes", "timeout").contains("poll_timeout"));
        assert!(hint("runners[0].kubernetes", "pod_spec_patch").starts_with("it is patch = "));
        let contexts = hint("runners[0].kubernetes", "container_security_context");
        assert!(contexts.starts_with("it is build_container_security_context"), "{contexts}");
        assert_eq!(hint("runners[0].kubernetes.volumes.pvc[0]", "claim_name"), "it is name = \"claim\" here");
        assert_eq!(hint("runners[0].kubernetes.volumes.secret[1]", "secretName"), "it is name = \"secret\" here");
    }

    #[test]
    fn words_that_are_no_keys_are_known() {
        let hint = |path, key| ignored(path, key).and_then(|(_, hint)| hint).unwrap_or_default();
        assert!(hint("runners[0]", "run-untagged").starts_with("set it on the runner's page in GitLab"));
        assert_eq!(hint("runners[0].kubernetes", "cpus"), "it is called cpu_limit now");
        assert_eq!(hint("runners[0].kubernetes", "memory"), "it is called memory_limit now");
        assert_eq!(hint("runners[0].kubernetes", "service_cpus"), "it is called service_cpu_limit now");
        assert_eq!(ignored("runners[0]", "memory"), None);
        assert_eq!(hint("", "metrics_server"), "it is called listen_address now");
        assert_eq!(hint("runners[0]", "registration_token"), "`register` takes it and writes the runner's own token");
        assert_eq!(ignored("runners[0].cache", "tags"), None);
        assert_eq!(ignored("runners[0]", "limit"), None);
    }
}
