use super::*;

fn remote(host: &str) -> RemoteAccess {
    RemoteAccess { host: host.to_owned(), bearer_token: Some(Secret::new("hunter2")), ..RemoteAccess::default() }
}

async fn problem(remote: RemoteAccess) -> String {
    remote_config(remote).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_bare_host_means_https() {
    let config = remote_config(remote("10.0.0.1:6443")).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://10.0.0.1:6443/");
    let url = remote_config(remote("http://localhost:8001")).await.unwrap().cluster_url;
    assert_eq!(url.to_string(), "http://localhost:8001/");
}

#[tokio::test]
async fn the_token_is_not_shown() {
    let access = Access::Remote(remote("10.0.0.1"));
    assert!(!format!("{access:?}").contains("hunter2"));
    let config = remote_config(remote("10.0.0.1")).await.unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[tokio::test]
async fn problems_name_the_key_and_the_file() {
    assert!(problem(remote("ftp://x")).await.starts_with(r#"host "ftp://x" is not the URL of an API server"#));
    assert!(problem(remote("")).await.starts_with(r#"host """#));
    let missing = RemoteAccess { ca_file: Some("/nowhere/ca.crt".into()), ..remote("x") };
    assert!(problem(missing).await.starts_with(r#"ca_file "/nowhere/ca.crt" cannot be used: No such file"#));
    let half = RemoteAccess { cert_file: Some("/nowhere/client.crt".into()), ..remote("x") };
    assert_eq!(problem(half).await, "cert_file and key_file belong together, and key_file is not set");

    let empty = tempfile::NamedTempFile::new().unwrap();
    let no_certificate = RemoteAccess { ca_file: Some(empty.path().to_owned()), ..remote("x") };
    assert!(problem(no_certificate).await.ends_with("it holds no certificate in PEM form"));
}

#[tokio::test]
async fn a_client_can_be_made_without_any_certificate_file() {
    assert!(client(&Access::Remote(remote("https://10.0.0.1:6443"))).await.is_ok());
}

#[test]
fn an_api_server_of_this_machine_is_never_behind_a_proxy() {
    let proxies = Proxies::new(Some("http://proxy:3128"), Some("http://u:hunter2@proxy:3128"), "10.1.2.3:6443,*.svc");
    let of = |server: &str| proxy_of(&proxies, &server.parse().unwrap()).unwrap().map(|proxy| proxy.to_string());
    for direct in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443", "https://10.1.2.3:6443"] {
        assert_eq!(of(direct), None, "{direct}");
    }
    assert_eq!(of("https://kubernetes.default.svc"), None);
    assert_eq!(of("https://10.1.2.3").as_deref(), Some("http://u:hunter2@proxy:3128/"));
    assert_eq!(of("http://10.1.2.4:8080").as_deref(), Some("http://proxy:3128/"));
    let broken = Proxies::new(None, Some("http://u:hunter2 @"), "");
    let error = proxy_of(&broken, &"https://10.1.2.3".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("is not a URL") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_kubeconfig_gives_host_and_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
                clusters: [{name: c, cluster: {server: 'https://10.1.2.3:6443'}}]\n\
                users: [{name: u, user: {token: hunter2}}]\n\
                contexts: [{name: here, context: {cluster: c, user: u}}]\n";
    std::fs::write(file.path(), text).unwrap();
    let config = kubeconfig(Some(file.path().to_owned()), None).await.unwrap();
    assert_eq!(config.cluster_url.to_string(), "https://10.1.2.3:6443/");
    let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
    let found = place(&access).await.unwrap();
    assert_eq!((found.server.as_str(), found.namespace.as_str()), ("https://10.1.2.3:6443", "default"));
    assert_eq!((found.host.as_str(), found.port), ("10.1.2.3", 6443));
    let files = files(&Access::Kubeconfig { path: Some(file.path().to_owned()), context: None });
    assert_eq!(files, [file.path()]);

    let proxied = text.replace("6443'}", "6443', proxy-url: 'http://proxy:1', certificate-authority: /nowhere/ca.crt}");
    let parsed = Kubeconfig::from_yaml(&proxied).unwrap();
    assert_eq!(own_proxy(&parsed, None).as_deref(), Some("http://proxy:1"));
    let wrong = kubeconfig(Some(file.path().to_owned()), Some("elsewhere".into())).await.unwrap_err();
    assert!(wrong.to_string().contains("elsewhere"), "{wrong}");
}

#[tokio::test]
async fn an_empty_authority_of_a_kubeconfig_is_none() {
    let (file, ca) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(ca.path(), authority()).unwrap();
    let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
    let with = |key: &str, value: &str, insecure: bool| {
        let mut cluster = serde_json::json!({"server": "https://10.1.2.3:6443", "certificate-authority-data": ""});
        cluster[key] = value.into();
        cluster["insecure-skip-tls-verify"] = insecure.into();
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "c", "cluster": cluster}],
            "contexts": [{"name": "here", "context": {"cluster": "c"}}],
        });
        std::fs::write(file.path(), text.to_string()).unwrap();
    };
    let data = "certificate-authority-data";
    let no_certificate = "bm90aGluZw==";
    for (key, value, insecure, trusted) in [
        (data, "", true, None),
        (data, "", false, None),
        ("certificate-authority", ca.path().to_str().unwrap(), false, Some(1)),
        (data, no_certificate, true, Some(0)),
    ] {
        with(key, value, insecure);
        let config = config(&access).await.unwrap();
        assert_eq!(config.root_cert.map(|trusted| trusted.len()), trusted, "{key} {value:?}");
        assert!(client(&access).await.is_ok(), "{key} {value:?} {insecure}");
    }
    with(data, no_certificate, false);
    let error = client(&access).await.err().unwrap().to_string();
    assert!(error.contains("there is no certificate: set certificate-authority-data"), "{error}");
}

/// A kubeconfig whose credentials come from this script.
fn with_plugin(script: &str) -> (tempfile::NamedTempFile, Access) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.1.2.3:6443"}}],
        "users": [{"name": "u", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", script],
        }}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(file.path(), text.to_string()).unwrap();
    let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
    (file, access)
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_does_not_answer_is_given_up_and_named() {
    let end = tempfile::NamedTempFile::new().unwrap();
    // Ends with the test, and some time after one that was killed.
    let script = format!("for _ in $(seq 100); do [ -e {} ] || exit 1; sleep 0.1; done", end.path().display());
    let (_file, access) = with_plugin(&script);
    let error = client(&access).await.err().unwrap().to_string();
    let words = "the credential plugin \"sh\" of the kubeconfig has not answered in 30 s";
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn what_a_plugin_answers_is_used() {
    let answer =
        r#"{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}"#;
    let (_file, access) = with_plugin(&format!("echo '{answer}'"));
    assert!(client(&access).await.is_ok());
    let (_file, access) = with_plugin("exit 3");
    let error = client(&access).await.err().unwrap().to_string();
    assert!(error.contains("auth exec command") && error.contains("exit status: 3"), "{error}");
}

const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn authority() -> String {
    rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap().cert.pem()
}

#[tokio::test]
async fn a_damaged_authority_leaves_the_others() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{DAMAGED}{}", authority())).unwrap();
    let bundle = RemoteAccess { ca_file: Some(file.path().to_owned()), ..remote("x") };
    assert_eq!(remote_config(bundle.clone()).await.unwrap().root_cert.unwrap().len(), 1);
    assert!(client(&Access::Remote(bundle.clone())).await.is_ok());
    std::fs::write(file.path(), DAMAGED).unwrap();
    let error = problem(bundle).await;
    assert!(error.starts_with("ca_file ") && error.ends_with("1 of 1 certificates cannot be used"), "{error}");
    let target = Target { ca_from: "the authorities in the kubeconfig k".to_owned(), ..Target::default() };
    let good = CertificateDer::from_pem_slice(authority().as_bytes()).unwrap().to_vec();
    assert_eq!(usable(vec![vec![0; 3], good.clone()], &target).unwrap(), [good]);
    let error = usable(vec![vec![0; 3]], &target).unwrap_err().to_string();
    assert!(error.contains("the authorities in the kubeconfig k: 1 of 1 certificates cannot be used: "), "{error}");
    assert!(usable(Vec::new(), &target).is_err(), "no other authority takes its place");
}

#[test]
fn a_kubeconfig_of_several_that_does_not_exist_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let first = write("first", "current-context: here\n");
    let second = write("second", "current-context: there\nclusters: [{name: c, cluster: {server: 'https://a'}}]\n");
    let missing = directory.path().join("missing");
    let all = merged(vec![missing.clone(), first, second]).unwrap();
    assert_eq!((all.current_context.as_deref(), all.clusters.len()), (Some("here"), 1));
    let error = chain(&merged(vec![missing.clone()]).unwrap_err());
    assert!(error.contains(&missing.display().to_string()), "{error}");
}
