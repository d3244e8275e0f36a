//! Over real connections on the loopback address: TLS and time-outs. What is sent is tested elsewhere.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server shows: certificates (its own first), and its key.
struct Shown {
    chain_pem: String,
    key_pem: String,
}

/// A CA and a server certificate that it signed.
fn ca_and_server() -> (String, Shown) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "our own CA");
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &Issuer::from_params(&params, &ca_key)).unwrap();
    (ca.pem(), Shown { chain_pem: server.pem(), key_pem: key.serialize_pem() })
}

/// One certificate that is server and CA at once, as `openssl req -x509` makes it.
fn self_signed(name: &str) -> Shown {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Shown { chain_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem() }
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
async fn server(shown: Option<&Shown>, words: &'static str) -> (u16, JoinSet<()>) {
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
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
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
    });
    (port, serving)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn transport(url: &str, ca: Option<&str>) -> HttpTransport {
    let identity = Identity { ca: ca.map(str::to_owned), ..Identity::default() };
    HttpTransport::new(&Url::parse(url).unwrap(), &identity, ProxySettings::Environment, Duration::ZERO).unwrap()
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
    let transport = HttpTransport::new(
        &Url::parse("http://localhost/").unwrap(),
        &Identity::default(),
        ProxySettings::Direct,
        Duration::from_nanos(1),
    )
    .unwrap();
    let before = transport.pool.lock().unwrap().since;
    transport.client();
    assert!(transport.pool.lock().unwrap().since > before);
}
