//! Files for the access to the cluster that change while it is used.

use std::{path::Path, sync::Arc, time::Duration};

use gantry_kube::{Access, Cluster, PodNow, PodRef, RemoteAccess, limits};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// Far more than anything here takes.
const BOUND: Duration = Duration::from_secs(60);

/// A CA, and an acceptor with a certificate of it for `localhost`.
pub(crate) fn authority() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &Issuer::from_params(&params, &ca_key)).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(server.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    (ca.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// An API server that knows nothing; its port.
pub(crate) async fn server(acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let Ok(connection) = acceptor.accept(connection).await else { continue };
            let mut lines = BufReader::new(connection).lines();
            // Who does not trust the server ends the connection, at some point of it.
            while matches!(lines.next_line().await, Ok(Some(line)) if !line.is_empty()) {}
            let body = r#"{"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}"#;
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = lines.get_mut().write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn a_ca_file_that_was_replaced_is_used_without_a_restart() {
    let (right, acceptor) = authority();
    let (wrong, _) = authority();
    let port = server(acceptor).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wrong).unwrap();
    let access = RemoteAccess {
        host: format!("https://localhost:{port}"),
        ca_file: Some(file.path().to_owned()),
        ..RemoteAccess::default()
    };
    let (cluster, _driver) = Cluster::connect(Access::Remote(access), "ci".to_owned(), String::new()).await.unwrap();
    let pod = PodRef { name: "a".to_owned(), uid: "1".to_owned() };
    let PodNow::Unknown(error) = cluster.get_pod(&pod).await else { panic!("the wrong CA is trusted") };
    assert!(error.message.contains("was not signed by any of the authorities in ca_file"), "{error}");

    std::fs::write(file.path(), "half a file").unwrap();
    assert!(matches!(cluster.get_pod(&pod).await, PodNow::Unknown(_)));
    std::fs::write(file.path(), &right).unwrap();
    let trusted = async {
        while !matches!(cluster.get_pod(&pod).await, PodNow::Gone) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, trusted).await.expect("the right CA is not used");
}

/// A kubeconfig for a server of that CA, whose credentials come from this script.
fn write_kubeconfig(path: &Path, ca: &Path, port: u16, script: &str) {
    let text = json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://localhost:{port}"), "certificate-authority": ca,
        }}],
        "users": [{"name": "u", "user": {"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", script],
        }}}],
    });
    std::fs::write(path, text.to_string()).unwrap();
}

#[tokio::test]
async fn nobody_else_waits_for_credentials_that_are_asked_for_anew() {
    let (ca, acceptor) = authority();
    let port = server(acceptor).await;
    let directory = tempfile::tempdir().unwrap();
    let [file, ca_file, asked] = ["kubeconfig", "ca.crt", "asked"].map(|name| directory.path().join(name));
    std::fs::write(&ca_file, ca).unwrap();
    write_kubeconfig(&file, &ca_file, port, r#"echo '{"status": {"token": "t"}}'"#);
    let access = Access::Kubeconfig { path: Some(file.clone()), context: None };
    let (cluster, _driver) = Cluster::connect(access, "ci".to_owned(), String::new()).await.unwrap();
    let pod = PodRef { name: "a".to_owned(), uid: "1".to_owned() };
    assert!(matches!(cluster.get_pod(&pod).await, PodNow::Gone));

    // It does not answer before the test has ended, or was killed some time ago.
    let hanging = format!("touch {0}; for _ in $(seq 600); do [ -e {0} ] || exit 1; sleep 0.1; done", asked.display());
    write_kubeconfig(&file, &ca_file, port, &hanging);
    let asking = async {
        loop {
            cluster.get_pod(&pod).await;
        }
    };
    let other = async {
        while !asked.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.get_pod(&pod).await
    };
    let answer = tokio::select! {
        () = asking => unreachable!("it goes on for ever"),
        answer = timeout(limits::PLUGIN / 2, other) => answer.expect("it waits for the plugin"),
    };
    assert!(matches!(answer, PodNow::Gone), "{answer:?}");
}
