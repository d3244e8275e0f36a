//! Over real connections on the loopback address: TLS and time-outs. What is sent is tested
//! elsewhere.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server shows: certificates (its own first), and its key.
struct ServerIdentity {
    chain_pem: String,
    key_pem: String,
}

/// A CA and a server certificate that it signed.
fn ca_and_server() -> (String, ServerIdentity) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "our own CA");
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &Issuer::from_params(&params, &ca_key)).unwrap();
    (ca.pem(), ServerIdentity { chain_pem: server.pem(), key_pem: key.serialize_pem() })
}

/// One certificate that is server and CA at once, as `openssl req -x509` makes it.
fn self_signed(name: &str) -> ServerIdentity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    ServerIdentity { chain_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() }
}

/// Reads a request's head and answers `answer`, then keeps the connection open.
async fn answer(connection: impl AsyncRead + AsyncWrite + Unpin, answer: &'static str) {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if connection.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let _ = connection.write_all(answer.as_bytes()).await;
    let _ = connection.flush().await;
    std::future::pending::<()>().await;
}

/// A server on `localhost`, and the port it listens on.
async fn server(shown: Option<&ServerIdentity>, words: &'static str) -> (u16, JoinSet<()>) {
    server_for(1, shown, words).await
}

/// The same, which answers nobody until so many connections are there.
async fn server_for(together: usize, shown: Option<&ServerIdentity>, words: &'static str) -> (u16, JoinSet<()>) {
    let acceptor = shown.map(|shown| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = CertificateDer::pem_slice_iter(shown.chain_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
    });
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let (mut connections, mut held, mut accepted) = (JoinSet::new(), Vec::new(), 0);
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
            accepted += 1;
            if accepted < together {
                continue;
            }
            for connection in held.drain(..) {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    match acceptor {
                        None => answer(connection, words).await,
                        Some(acceptor) => {
                            if let Ok(connection) = acceptor.accept(connection).await {
                                answer(connection, words).await;
                            }
                        }
                    }
                });
            }
        }
    });
    (port, serving)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn transport(url: &str, ca: Option<&str>) -> HttpTransport {
    let ca_pem = ca.map(str::to_owned);
    made(url, Options { ca_pem, connection_max_age: Duration::ZERO, ..Options::default() }).unwrap()
}

async fn get(transport: &HttpTransport, url: &str, limit: Duration) -> Result<String, TransportError> {
    let request = Request::builder().uri(url).body(Body::Bytes(Bytes::new())).unwrap();
    let answer = transport.send(request, Timeouts { head: limit, idle: limit }).await?;
    let pieces: Vec<Bytes> = answer.into_body().try_collect().await?;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

/// Far more than a loopback connection needs.
const LONG: Duration = Duration::from_secs(30);
/// Less than any server here takes that does not answer.
const SHORT: Duration = Duration::from_millis(50);

/// A node or a load balancer may vanish without a word, and with it all connections there were.
#[tokio::test]
async fn a_connection_that_was_idle_is_not_trusted_once_another_has_not_answered() {
    // The server answers each connection once, so the second request must not get the first's.
    let (port, _serving) = server_for(2, None, OK).await;
    let url = format!("http://localhost:{port}/");
    let transport = transport(&url, None);
    let (first, second) = tokio::join!(get(&transport, &url, LONG), get(&transport, &url, LONG));
    assert_eq!([first.unwrap(), second.unwrap()], ["ok", "ok"]);
    let silent = get(&transport, &url, SHORT).await.unwrap_err();
    assert_eq!(silent.fault(), TransportFault::Timeout);
    assert_eq!(get(&transport, &url, LONG).await.unwrap(), "ok");
}

#[tokio::test]
async fn a_configured_ca_is_trusted_and_the_whole_chain_is_remembered() {
    let (ca, shown) = ca_and_server();
    let (port, _serving) = server(Some(&shown), OK).await;
    let url = format!("https://localhost:{port}/");
    let trusting = transport(&url, Some(&ca));
    assert_eq!(trusting.verified_chain_pem(), None);
    assert_eq!(get(&trusting, &url, LONG).await.unwrap(), "ok");
    let chain = trusting.verified_chain_pem().unwrap();
    let both = [&shown.chain_pem, &ca].map(|pem| pem.replace('\r', ""));
    assert_eq!(chain, both.concat(), "the server's certificate, then its root");

    let error = get(&transport(&url, None), &url, LONG).await.unwrap_err();
    assert_eq!(error.fault(), TransportFault::Connect);
}

#[tokio::test]
async fn a_self_signed_server_is_trusted_only_if_it_is_configured_and_only_by_its_name() {
    let shown = self_signed("localhost");
    let (port, _serving) = server(Some(&shown), OK).await;
    let url = format!("https://localhost:{port}/");
    let trusting = transport(&url, Some(&shown.chain_pem));
    assert_eq!(get(&trusting, &url, LONG).await.unwrap(), "ok");
    assert_eq!(trusting.verified_chain_pem().unwrap(), shown.chain_pem.replace('\r', ""));
    assert!(get(&transport(&url, None), &url, LONG).await.is_err());
    assert!(get(&transport(&url, Some(&self_signed("localhost").chain_pem)), &url, LONG).await.is_err());

    let other = self_signed("gitlab.example.com");
    let (port, _serving) = server(Some(&other), OK).await;
    let url = format!("https://localhost:{port}/");
    assert!(get(&transport(&url, Some(&other.chain_pem)), &url, LONG).await.is_err(), "another name");
}

/// Options with files.
fn with_files(files: TlsFiles) -> Options {
    Options { files, connection_max_age: Duration::ZERO, ..Options::default() }
}

fn made(url: &str, options: Options) -> Result<HttpTransport, SetupError> {
    HttpTransport::new(&Url::parse(url).unwrap(), options)
}

/// The sentence about a failure.
async fn words(transport: &HttpTransport, url: &str) -> String {
    chain(&get(transport, url, LONG).await.unwrap_err())
}

#[tokio::test]
async fn a_certificate_beside_the_configuration_is_trusted_as_soon_as_it_is_there() {
    let ((ca, shown), (wrong, _)) = (ca_and_server(), ca_and_server());
    let (port, _serving) = server(Some(&shown), OK).await;
    let url = format!("https://localhost:{port}/");
    let directory = tempfile::tempdir().unwrap();
    let directories = vec![directory.path().to_owned()];
    let transport = made(&url, with_files(TlsFiles { directories, ..TlsFiles::default() })).unwrap();
    let place = directory.path().join("localhost.crt");
    let said = words(&transport, &url).await;
    assert!(said.contains(&format!("put it at {}", place.display())), "{said}");
    assert_eq!(transport.configured_ca_pem(), None);

    std::fs::write(&place, wrong).unwrap();
    let said = async {
        loop {
            let said = words(&transport, &url).await;
            if said.contains("does not hold") {
                return said;
            }
        }
    };
    let said = tokio::time::timeout(LONG, said).await.expect("the file is not used");
    assert!(said.contains(&format!("the file tls-ca-file {}", place.display())), "{said}");

    std::fs::write(&place, &ca).unwrap();
    let trusted = async { while get(&transport, &url, LONG).await.is_err() {} };
    tokio::time::timeout(LONG, trusted).await.expect("the right file is not used");
    assert_eq!(transport.configured_ca_pem(), Some(ca.clone()));
    assert!(transport.verified_chain_pem().unwrap().contains(&ca.replace('\r', "")));

    // A file that is being replaced may be gone or broken for a moment.
    std::fs::remove_file(&place).unwrap();
    transport.with(|pool| pool.looked -= limits::LOOK_AT_FILES);
    transport.client();
    assert_eq!(transport.configured_ca_pem(), Some(ca));
}

/// Says `words` to whoever connects, and ends the connection.
async fn greeter(words: &'static str) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(words.as_bytes()).await;
        }
    });
    (port, serving)
}

#[tokio::test]
async fn failures_say_which_setting_helps() {
    let (ca, shown) = ca_and_server();
    let (port, _serving) = server(Some(&shown), OK).await;
    let url = format!("https://localhost:{port}/");
    let unknown = words(&transport(&url, None), &url).await;
    assert!(
        unknown.contains("certificate of localhost comes from an authority") && unknown.contains("tls-ca-file"),
        "{unknown}"
    );

    let by_number = format!("https://127.0.0.1:{port}/");
    let other_name = words(&transport(&by_number, Some(&ca)), &by_number).await;
    assert!(other_name.contains("made out to localhost and not to 127.0.0.1"), "{other_name}");

    let plain = format!("http://localhost:{port}/");
    let needs_tls = words(&transport(&plain, None), &plain).await;
    assert!(needs_tls.contains("write https://"), "{needs_tls}");

    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let (port, _serving) = greeter(greeting).await;
        let url = format!("https://localhost:{port}/");
        let no_tls = words(&transport(&url, None), &url).await;
        assert!(no_tls.contains("write http://"), "{greeting:?}: {no_tls}");
    }

    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    let key = KeyPair::generate().unwrap();
    let old = params.self_signed(&key).unwrap();
    let shown = ServerIdentity { chain_pem: old.pem(), key_pem: key.serialize_pem() };
    let (port, _serving) = server(Some(&shown), OK).await;
    let url = format!("https://localhost:{port}/");
    let expired = words(&transport(&url, Some(&shown.chain_pem)), &url).await;
    assert!(expired.contains("has expired (on 2001-02-03"), "{expired}");
}

#[tokio::test]
async fn a_client_certificate_that_does_not_fit_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let (one, other) = (self_signed("a"), self_signed("b"));
    let cert = write("cert", &one.chain_pem);
    let files = |key| TlsFiles { cert: cert.clone(), key, ..TlsFiles::default() };
    let problem = |files| made("https://localhost/", with_files(files)).err().map(|error| chain(&error));
    let said = problem(files(write("other", &other.key_pem))).unwrap();
    assert!(said.contains("/other does not belong to the certificate in tls-cert-file"), "{said}");
    assert_eq!(problem(files(write("key", &one.key_pem))), None);
    let said = problem(files(Some("/nowhere/key".into()))).unwrap();
    assert!(said.starts_with("tls-key-file /nowhere/key cannot be read"), "{said}");
}

/// The first line of each request that a proxy got.
async fn through(proxy: &str, no_proxy: &str, url: &str) -> Option<String> {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let address = format!("{proxy}localhost:{}", listener.local_addr().unwrap().port());
    let proxies = Proxies::new(Some(&address), Some(&address), no_proxy);
    let options = Options { proxy: ProxySettings::Given(proxies), ..Options::default() };
    let transport = made(url, options).unwrap();
    let asked = async {
        let (connection, _) = listener.accept().await.unwrap();
        let mut lines = BufReader::new(connection).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        let mut authorization = String::new();
        while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
            if line.to_ascii_lowercase().starts_with("proxy-authorization") {
                authorization = format!(" {line}");
            }
        }
        format!("{first}{authorization}")
    };
    tokio::select! {
        asked = asked => Some(asked),
        _ = get(&transport, url, LONG) => None,
    }
}

#[tokio::test]
async fn proxies_are_used_by_the_rules_of_go() {
    let gone = TcpListener::bind("localhost:0").await.unwrap().local_addr().unwrap().port();
    let asked = through("", "*.example.com", "http://gitlab.test/a").await.unwrap();
    assert!(asked.starts_with("GET http://gitlab.test/a "), "{asked}");
    let asked = through("http://user:hunter2@", "", "https://gitlab.test/a").await.unwrap();
    assert!(asked.starts_with("CONNECT gitlab.test:443 ") && asked.contains("Basic dXNlcjpodW50ZXIy"), "{asked}");
    for no_proxy in ["", "gitlab.test"] {
        assert_eq!(through("", no_proxy, &format!("http://localhost:{gone}/")).await, None);
        assert_eq!(through("", no_proxy, &format!("http://127.0.0.1:{gone}/")).await, None);
    }
    let unusable = ProxySettings::Given(Proxies::new(None, Some("http://u:hunter2 @:x"), ""));
    let error = made("https://gitlab.test", Options { proxy: unusable, ..Options::default() });
    let said = error.err().map(|error| chain(&error)).unwrap();
    assert!(said.contains("https URLs") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn silence_has_an_end() {
    for silent in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"] {
        let (port, _serving) = server(None, silent).await;
        let url = format!("http://localhost:{port}/");
        let error = get(&transport(&url, None), &url, SHORT).await.unwrap_err();
        assert_eq!(error.fault(), TransportFault::Timeout, "{silent:?}");
    }
}

#[tokio::test]
async fn failures_do_not_name_the_url() {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let url = format!("http://localhost:{}/?signature=hunter2", listener.local_addr().unwrap().port());
    drop(listener);
    let error = get(&transport(&url, None), &url, LONG).await.unwrap_err();
    assert_eq!(error.fault(), TransportFault::Connect);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn old_connections_are_replaced() {
    let max_age = Duration::from_nanos(1);
    let options = Options { proxy: ProxySettings::Direct, connection_max_age: max_age, ..Options::default() };
    let transport = made("http://localhost/", options).unwrap();
    let before = transport.pool.lock().unwrap().since;
    transport.client();
    assert!(transport.pool.lock().unwrap().since > before);
}
