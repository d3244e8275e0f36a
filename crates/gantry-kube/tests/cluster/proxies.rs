//! API servers that are reached through the proxy that a kubeconfig names.

use gantry_kube::{Access, Cluster, PodNow, PodRef};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::renewal::{authority, server};

/// What a proxy was told before it opened the way: the head of an HTTP request, or where SOCKS
/// wants to go.
type ProxyRequests = mpsc::Receiver<String>;

/// A proxy for HTTP's `CONNECT`, and for SOCKS 5 without authentication; its port.
async fn proxy() -> (u16, ProxyRequests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (head, answer) = if client.read_u8().await.unwrap() == 5 {
                (socks(&mut client).await, &b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"[..])
            } else {
                (http_head(&mut client).await, &b"HTTP/1.1 200 OK\r\n\r\n"[..])
            };
            let port: u16 =
                head.split_once("localhost:").unwrap().1.split([' ', '\r']).next().unwrap().parse().unwrap();
            tell.send(head).await.unwrap();
            client.write_all(answer).await.unwrap();
            let mut server = TcpStream::connect(("localhost", port)).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    });
    (port, told)
}

/// The head but for its first letter, which has been read.
async fn http_head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// RFC 1928: methods, then version, command, nothing, kind of address, and here a name with its
/// length, and a port.
async fn socks(client: &mut TcpStream) -> String {
    let mut methods = vec![0; usize::from(client.read_u8().await.unwrap())];
    client.read_exact(&mut methods).await.unwrap();
    client.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 5];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..4], [5, 1, 0, 3]);
    let mut name = vec![0; usize::from(request[4])];
    client.read_exact(&mut name).await.unwrap();
    format!("{}:{}", String::from_utf8(name).unwrap(), client.read_u16().await.unwrap())
}

/// Asks a server behind the proxy for a pod that it does not have.
async fn ask(ca: &str, port: u16, proxy: &str) -> PodNow {
    let file = tempfile::NamedTempFile::new().unwrap();
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), ca).unwrap();
    let text = format!(
        "{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{}}}}], \
         clusters: [{{name: c, cluster: {{server: 'https://localhost:{port}', certificate-authority: {}, proxy-url: '{proxy}'}}}}]}}",
        ca_file.path().display()
    );
    std::fs::write(file.path(), text).unwrap();
    let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
    let (cluster, _driver) = Cluster::connect(access, "ci".to_owned(), String::new()).await.unwrap();
    cluster.get_pod(&PodRef { name: "a".to_owned(), uid: "1".to_owned() }).await
}

#[tokio::test]
async fn an_http_proxy_gets_the_name_and_password_of_its_url() {
    let (ca, acceptor) = authority();
    let (port, (proxy, mut told)) = (server(acceptor).await, proxy().await);
    let answer = ask(&ca, port, &format!("http://user:pa%40ss@127.0.0.1:{proxy}")).await;
    assert!(matches!(answer, PodNow::Gone), "{answer:?}");
    let head = told.recv().await.unwrap();
    assert!(head.starts_with(&format!("ONNECT localhost:{port} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYUBzcw==\r\n"), "{head}");
}

#[tokio::test]
async fn a_socks_proxy_resolves_the_name() {
    let (ca, acceptor) = authority();
    let (port, (proxy, mut told)) = (server(acceptor).await, proxy().await);
    let answer = ask(&ca, port, &format!("socks5://127.0.0.1:{proxy}")).await;
    assert!(matches!(answer, PodNow::Gone), "{answer:?}");
    assert_eq!(told.recv().await.unwrap(), format!("localhost:{port}"));
}
