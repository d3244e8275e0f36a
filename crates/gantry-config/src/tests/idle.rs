//! Keys that do nothing because of others, or because of their own value: each is said once, and
//! the same key alone is not.

use super::{broken, good, runner};
use crate::settings::cache::S3Authentication;

#[test]
fn keys_that_others_leave_without_effect() {
    let kubernetes = |lines: &str| format!("[runners.kubernetes]\n{lines}\n");
    let cases = [
        ("context", kubernetes("host = \"https://h:6443\"\ncontext = \"x\"")),
        ("certificates", kubernetes("cert_file = \"/c\"\nkey_file = \"/k\"\nca_file = \"/a\"")),
        ("flavor", kubernetes("helper_image = \"x:1\"\nhelper_image_flavor = \"ubuntu\"\nhelper_image_autoset_arch_and_os = true")),
        (
            "architecture",
            kubernetes("helper_image_autoset_arch_and_os = true\nnode_selector = { \"kubernetes.io/arch\" = \"arm64\" }"),
        ),
        ("a flavor", kubernetes("helper_image_flavor = \"debian\"")),
        ("pull secrets", kubernetes("image_pull_secrets = [\"a\"]\nuse_service_account_image_pull_secrets = true")),
        ("capabilities", kubernetes("cap_add = [\"SYS_TIME\", \"KILL\"]\ncap_drop = [\"KILL\"]")),
        ("names of capabilities", kubernetes("cap_add = [\"CAP_KILL\", \"cap_chown\", \"SYS_PTRAC\", \"net_admin\"]")),
        ("autoscaler", "[runners.kubernetes.autoscaler]\nmax_pause_pods = 3\n".to_owned()),
        ("a service", "[[runners.kubernetes.services]]\nalias = \"db\"\n".to_owned()),
        (
            "a profile",
            "[runners.kubernetes.pod_security_context.app_armor_profile]\nlocalhost_profile = \"x\"\n".to_owned(),
        ),
        (
            "labels",
            kubernetes(
                "pod_labels = { \"Job.runner.gitlab.com/pod\" = \"a\", \"gantry.dev/job\" = \"b\" }\n\
                 pod_annotations = { \"gantry.dev/ticket\" = \"c\" }",
            ),
        ),
        ("prepare_timeout", "prepare_timeout = \"10m\"\n".to_owned()),
        ("caches", "[runners.cache]\nType = \"s3\"\n[runners.cache.gcs]\nBucketName = \"b\"\n".to_owned()),
        ("a cache without a type", "[runners.cache.s3]\nBucketName = \"b\"\n".to_owned()),
        ("mirror", "[runners.gantry]\ngit_mirror_limit = \"1Gi\"\n".to_owned()),
        ("trial", "[runners.experimental.boot_verify]\ntimeout = \"3m\"\n".to_owned()),
        (
            "environment",
            "environment = [\"KUBERNETES_CPU_LIMIT=2\", \"KUBERNETES_POD_LABELS_1=a=b\", \"FF_USE_FATZIP=1\", \"FF_TIMESTAMPS=false\", \"FF_USE_ADAPTIVE_REQUEST_CONCURRENCY=false\"]\n\
             [runners.feature_flags]\nFF_TIMESTAMPS = true\n"
                .to_owned(),
        ),
    ];
    let said = cases.map(|(name, config)| format!("{name}\n{}", good(&runner(&config)).1));
    let session = format!("sessions\n{}", good("[session_server]\nadvertise_address = \"h:8093\"\n").1);
    insta::assert_snapshot!(said.join("") + &session);
}

#[test]
fn flags_in_the_environment_are_judged_as_those_in_their_table() {
    let said = |variable: &str| good(&runner(&format!("environment = [{variable:?}]\n"))).1;
    for (variable, words) in [
        (
            "FF_GITLAB_REGISTRY_HELPER_IMAGE=1",
            "FF_GITLAB_REGISTRY_HELPER_IMAGE is no feature flag: nothing but scripts",
        ),
        ("FF_KUBERNETES_HONOR_ENTRYPOINT=yes", "FF_KUBERNETES_HONOR_ENTRYPOINT is neither true nor false, and has no"),
        ("FF_TIMESTAMPS=off", "FF_TIMESTAMPS is neither true nor false"),
        ("FF_NETWORK_PER_BUILD=$ON", "FF_NETWORK_PER_BUILD is neither true nor false"),
        ("FF_TIMESTAMP=1", "FF_TIMESTAMP is no feature flag and has no effect: did you mean FF_TIMESTAMPS?"),
    ] {
        let said = said(variable);
        assert!(said.contains(&format!("environment[0]: {words}")) && said.lines().count() == 1, "{variable}: {said}");
    }
    for variable in ["FF_TIMESTAMPS=T", "FF_KUBERNETES_HONOR_ENTRYPOINT=1", "FF_TIMESTAMPS=", "FFX=1", "MY_FF_X=1"] {
        assert_eq!(said(variable), "", "{variable}");
    }
}

#[test]
fn what_acts_is_not_said_to_do_nothing() {
    for config in [
        "[runners.kubernetes]\nhost = \"h:6443\"\ncert_file = \"/c\"\nkey_file = \"/k\"\nca_file = \"/a\"\n",
        "[runners.kubernetes]\ncontext = \"x\"\nhelper_image_flavor = \"ubuntu\"\nhelper_image_autoset_arch_and_os = true\n",
        "[runners.kubernetes]\nhelper_image = \"$HELPER\"\nhelper_image_flavor = \"ubuntu\"\n",
        "[runners.kubernetes]\nimage_pull_secrets = []\nuse_service_account_image_pull_secrets = true\n",
        "[runners.kubernetes]\npod_annotations = { \"job.runner.gitlab.com/name\" = \"x\" }\npod_labels = { pod = \"x\" }\n",
        "prepare_timeout = \"1m\"\n",
        "[runners.cache]\nMaxUploadedArchiveSize = 0\n[runners.cache.s3]\nAssumeRoleMaxConcurrency = 0\n[runners.cache.gcs]\n",
        "[runners.experimental.boot_verify]\nenabled = false\n",
        "environment = [\"KUBERNETES_CPU_LIMIT=2\"]\n[runners.kubernetes]\ncpu_limit_overwrite_max_allowed = \"4\"\n",
    ] {
        assert_eq!(good(&runner(config)).1, "", "{config}");
    }
}

/// A list with nothing in it but mistakes is no list that allows everybody.
#[test]
fn a_list_of_no_numbers_allows_nobody() {
    let users = |config: &str| good(&runner(config)).0.runners[0].kubernetes.allowed_users.clone();
    assert_eq!(users("[runners.kubernetes]\nallowed_users = [\"bob\"]\n"), Some(Vec::new()));
    assert_eq!(users("[runners.kubernetes]\nallowed_users = [\"bob\", \"7\"]\n"), Some(vec![7]));
    assert_eq!(users("[runners.kubernetes]\nallowed_users = []\n"), None);
    assert_eq!(users(""), None);
}

#[test]
fn what_an_api_server_would_refuse_is_found_in_the_file() {
    let affinity = "runners.kubernetes.affinity";
    let required = "required_during_scheduling_ignored_during_execution";
    let volume = |kind: &str, lines: &str| format!("[[runners.kubernetes.volumes.{kind}]]\n{lines}\n");
    let cases = [
        ("host", "[runners.kubernetes]\nhost = \"ftp://h\"\n".to_owned()),
        ("key without certificate", "[runners.kubernetes]\nhost = \"h\"\nkey_file = \"/k\"\n".to_owned()),
        ("limits of the pod", "[runners.kubernetes]\ncpu_limit = \"8\"\npod_cpu_limit = \"2\"\n".to_owned()),
        (
            "requests of the pod",
            "[runners.kubernetes]\ncpu_limit = \"2\"\nhelper_cpu_request = \"1500m\"\npod_cpu_request = \"3\"\n".to_owned(),
        ),
        (
            "limit of the pod",
            "[runners.kubernetes]\nmemory_request = \"2Gi\"\nhelper_memory_limit = \"2Gi\"\npod_memory_limit = \"3Gi\"\n".to_owned(),
        ),
        ("toleration", "[runners.kubernetes]\nnode_tolerations = { \"=x\" = \"NoSchedule\" }\n".to_owned()),
        ("search domain", "[runners.kubernetes.dns_config]\nsearches = [\"a_b.local.\", \"Bad!\"]\n".to_owned()),
        (
            "host alias",
            "[[runners.kubernetes.host_aliases]]\nip = \"::1\"\nhostnames = [\"good.local\", \"Bad_Host\"]\n".to_owned(),
        ),
        ("our volume", volume("pvc", "name = \"gantry\"\nmount_path = \"/data\"")),
        ("our directory", volume("pvc", "name = \"data\"\nmount_path = \"/gantry-tmp/x\"")),
        ("everything", volume("pvc", "name = \"data\"\nmount_path = \"/\"")),
        ("our directory, relative", volume("pvc", "name = \"data\"\nmount_path = \"gantry/x\"")),
        ("repo elsewhere", volume("empty_dir", "name = \"repo\"\nmount_path = \"/data\"")),
        ("builds_dir", "builds_dir = \"/gantry/builds\"\n".to_owned()),
        (
            "items",
            volume("config_map", "name = \"c\"\nmount_path = \"/c\"\nitems = { a = \"/abs\", b = \"../up\", c = \"\", d = \"fine/x\" }"),
        ),
        ("steps up", volume("host_path", "name = \"h\"\nmount_path = \"/h\"\nhost_path = \"/a/../b\"")),
        ("nfs", volume("nfs", "name = \"n\"\nmount_path = \"/n\"\nserver = \"s\"\npath = \"export\"")),
        ("csi", volume("csi", "name = \"d\"\nmount_path = \"/d\"\ndriver = \"not a driver\"")),
        ("size", volume("empty_dir", "name = \"e\"\nmount_path = \"/e\"\nsize_limit = \"-1Gi\"")),
        (
            "seccomp",
            "[runners.kubernetes.pod_security_context.seccomp_profile]\ntype = \"Localhost\"\nlocalhost_profile = \"/etc/x\"\n"
                .to_owned(),
        ),
        (
            "port",
            "[runners.kubernetes.container_lifecycle.pre_stop.tcp_socket]\nport = 70000\n".to_owned(),
        ),
        (
            "near other pods",
            format!(
                "[[{affinity}.pod_affinity.{required}]]\ntopology_key = \"a b\"\nnamespaces = [\"Bad\"]\n\
                 [{affinity}.pod_affinity.{required}.label_selector]\nmatch_labels = {{ \"a b\" = \"x\", c = \"x y\" }}\n\
                 [[{affinity}.pod_affinity.{required}.label_selector.match_expressions]]\nkey = \"a b\"\noperator = \"Gt\"\nvalues = [\"1\"]\n"
            ),
        ),
        (
            "nodes",
            format!(
                "[[{affinity}.node_affinity.{required}.node_selector_terms]]\n\
                 [[{affinity}.node_affinity.{required}.node_selector_terms.match_expressions]]\nkey = \"a\"\noperator = \"In\"\nvalues = [\"x y\"]\n\
                 [[{affinity}.node_affinity.{required}.node_selector_terms.match_fields]]\nkey = \"spec.x\"\noperator = \"Exists\"\n"
            ),
        ),
    ];
    let said = cases.map(|(name, config)| {
        let said = broken(&runner(&config));
        assert!(!said.is_empty(), "{name} is taken");
        format!("{name}\n{said}")
    });
    insta::assert_snapshot!(said.join(""));
}

#[test]
fn what_an_api_server_takes_is_no_error() {
    let required = "runners.kubernetes.affinity.node_affinity.required_during_scheduling_ignored_during_execution";
    for config in [
        "[[runners.kubernetes.volumes.empty_dir]]\nname = \"repo\"\nmount_path = \"/builds/\"\n".to_owned(),
        "builds_dir = \"/work\"\n[[runners.kubernetes.volumes.empty_dir]]\nname = \"repo\"\nmount_path = \"/work\"\n".to_owned(),
        "[[runners.kubernetes.volumes.pvc]]\nname = \"repo\"\nmount_path = \"$WHERE\"\nsub_path = \"$CI_JOB_ID\"\n".to_owned(),
        "[[runners.kubernetes.volumes.csi]]\nname = \"d\"\nmount_path = \"/d\"\ndriver = \"Secrets-Store.csi.k8s.io\"\n".to_owned(),
        format!(
            "[[{required}.node_selector_terms]]\n[[{required}.node_selector_terms.match_expressions]]\nkey = \"example.com/n\"\n\
             operator = \"Gt\"\nvalues = [\"3\"]\n[[{required}.node_selector_terms.match_fields]]\nkey = \"metadata.name\"\n\
             operator = \"In\"\nvalues = [\"n1\"]\n"
        ),
        "[runners.kubernetes]\ncpu_limit = \"2\"\npod_cpu_limit = \"2\"\npod_cpu_request = \"2\"\nnode_tolerations = { \"\" = \"\" }\n"
            .to_owned(),
    ] {
        assert_eq!(broken(&runner(&config)), "", "{config}");
    }
}

#[test]
fn mount_paths_with_a_colon_or_from_nowhere_are_taken() {
    let said = |path: &str, more: &str| {
        let volume = format!("[[runners.kubernetes.volumes.empty_dir]]\nname = \"repo\"\nmount_path = {path:?}\n");
        good(&runner(&format!("{more}{volume}"))).1
    };
    assert_eq!(said("/builds", ""), "");
    assert_eq!(said("/etc/docker/certs.d/10.0.0.1:5000", "builds_dir = \"/etc/docker/certs.d/10.0.0.1:5000\"\n"), "");
    assert_eq!(
        said("builds", ""),
        "Warning config.toml:7: runners[0].kubernetes.volumes.empty_dir[0].mount_path: \"builds\" does not begin with /, and is taken as \"/builds\"\n"
    );
}

#[test]
fn a_key_that_stands_there_twice_is_named() {
    assert_eq!(
        super::bad("concurrent = 1\nconcurrent = 2\n"),
        "Error config.toml:2: duplicate key: concurrent stands there twice\n"
    );
}

#[test]
fn a_store_that_is_asked_in_another_way_than_its_address_says() {
    let said = |keys: &str| {
        good(&runner(&format!("[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nBucketName = \"b\"\n{keys}"))).1
    };
    let keys = "AccessKey = \"a\"\nSecretKey = \"s\"\n";
    for (config, words) in [
        ("ServerAddress = \"http://minio:9000\"\n", "cache.s3.ServerAddress: http:// in it has no effect"),
        ("ServerAddress = \"https://m\"\nInsecure = true\n", "cache.s3.ServerAddress: https:// in it has no effect"),
        ("ServerAddress = \"m\"\nAccessKey = \"a\"\n", "cache.s3.AccessKey: has no effect: SecretKey is not set"),
        ("ServerAddress = \"m\"\nSecretKey = \"s\"\n", "cache.s3.SecretKey: has no effect: AccessKey is not set"),
        (keys, "cache.s3.AccessKey: has no effect: neither ServerAddress nor AuthenticationType"),
        (&format!("{keys}AuthenticationType = \"iam\"\n"), "AccessKey: has no effect: AuthenticationType is iam"),
    ] {
        assert!(said(config).contains(words), "{config}{}", said(config));
    }
    for config in [
        "",
        &format!("{keys}ServerAddress = \"http://minio:9000\"\nInsecure = true\n"),
        &format!("{keys}ServerAddress = \"minio:9000\"\n"),
        &format!("{keys}AuthenticationType = \"access-key\"\n"),
    ] {
        assert_eq!(said(config), "", "{config}");
    }
}

#[test]
fn stores_that_can_keep_nothing() {
    let said = |kind: &str, keys: &str| {
        let text = format!("[runners.cache]\nType = {kind:?}\n[runners.cache.{kind}]\n{keys}\n");
        good(&runner(&text)).1
    };
    let bucket = "BucketName = \"b\"\n";
    for (kind, keys, words) in [
        ("s3", String::new(), "BucketName: is missing: no"),
        ("s3", "BucketName = \"s3://b\"".to_owned(), "BucketName: is \"s3://b\", an address: write the name alone: no"),
        (
            "s3",
            format!("{bucket}ServerSideEncryption = \"AES-256\""),
            "ServerSideEncryption: is \"AES-256\", and not S3, KMS or DSSE-KMS: no",
        ),
        (
            "s3",
            format!("{bucket}AuthenticationType = \"access-key\"\nAccessKey = \"a\""),
            "AuthenticationType: is access-key, which needs both AccessKey and SecretKey: no",
        ),
        (
            "gcs",
            "BucketName = \"gs://b\"".to_owned(),
            "BucketName: is \"gs://b\", an address: write the name alone: no",
        ),
        (
            "gcs",
            format!("{bucket}AccessID = \"a\""),
            "PrivateKey: is missing beside AccessID: set both, or neither: no",
        ),
        (
            "gcs",
            format!("{bucket}PrivateKey = \"k\""),
            "AccessID: is missing beside PrivateKey: set both, or neither: no",
        ),
        ("azure", "ContainerName = \"c\"".to_owned(), "AccountName: is missing: no"),
        ("azure", "AccountName = \"a\"".to_owned(), "ContainerName: is missing: no"),
        (
            "azure",
            "AccountName = \"a\"\nContainerName = \"c\"\nStorageDomain = \"https://d\"".to_owned(),
            "StorageDomain: is \"https://d\", an address: write the domain alone: no",
        ),
    ] {
        let said = said(kind, &keys);
        let words = format!("runners[0].cache.{kind}.{words} cache is kept\n");
        assert!(said.ends_with(&words) && said.lines().count() == 1, "{words}{said}");
    }
    for (kind, keys) in [
        ("s3", format!("{bucket}ServerSideEncryption = \"aes256\"")),
        ("gcs", format!("{bucket}AccessID = \"a\"\nCredentialsFile = \"/f\"")),
        ("azure", "AccountName = \"a\"\nContainerName = \"c\"\nStorageDomain = \"localhost:10000\"".to_owned()),
    ] {
        assert_eq!(said(kind, &keys), "", "{keys}");
    }
}

/// As the reference does, whose jobs run with such a word.
#[test]
fn words_of_caches_that_nobody_knows_leave_the_entry_usable() {
    for (kind, hint) in [("empty_dir", ""), ("File", ""), ("s4", " (did you mean s3?)")] {
        let (settings, said) = good(&runner(&format!("[runners.cache]\nType = {kind:?}\n")));
        assert_eq!((settings.runners.len(), settings.runners[0].cache.kind), (1, None));
        let words =
            format!("cache.Type: {kind:?} is not one of s3, gcs, azure: no object storage keeps caches{hint}\n");
        assert!(said.ends_with(&words) && said.lines().count() == 1, "{said}");
    }
    let store =
        "[runners.cache]\nType = \"s3\"\n[runners.cache.s3]\nBucketName = \"b\"\nAuthenticationType = \"irsa\"\n";
    let (settings, said) = good(&runner(store));
    assert_eq!(settings.runners[0].cache.s3.authentication, Some(S3Authentication::Iam));
    assert!(
        said.ends_with("AuthenticationType: \"irsa\" is not one of access-key, iam, and is taken as iam\n"),
        "{said}"
    );
}

#[test]
fn scripts_that_outlast_a_shutdown_that_ends_them() {
    let said = |outside: &str, inside: &str| good(&format!("{outside}{}{inside}", runner(""))).1;
    let abort = "shutdown_timeout = 6\n[gantry]\non_terminate = \"abort\"\n";
    let words = "runners[0].gantry.script_termination_grace_period: 30s is longer than shutdown_timeout (6 s)";
    assert!(said(abort, "").contains(words), "{}", said(abort, ""));
    assert_eq!(said(abort, "[runners.gantry]\nscript_termination_grace_period = \"3s\"\n"), "");
    assert_eq!(said("shutdown_timeout = 6\n", ""), "", "jobs are handed over");
    assert_eq!(said("[gantry]\non_terminate = \"abort\"\n", ""), "");
}
