//! An HTTP proxy between managers and the API server, whose connections can be cut, refused and
//! stranded.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::commands::dev::spawn;

/// Longest request to be connected: clients send a few lines.
const LONGEST_HEAD: usize = 16 << 10;

/// How long it may take, and the connection that it asks for.
const CONNECT: Duration = Duration::from_secs(10);

/// What happens to the connections that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Cut,
    /// They stay open and move nothing any more, as after a node has vanished.
    Strand,
}

/// The proxy; it ends with its owner.
pub(super) struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Option<Order>>,
    refuses: watch::Sender<bool>,
    /// Somebody has connected.
    is_used: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on this machine alone.
    ///
    /// # Errors
    /// No port is free.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let (orders, refuses) = (watch::channel(None).0, watch::channel(false).0);
        let (ordered, refused) = (orders.subscribe(), refuses.subscribe());
        let is_used = Arc::<AtomicBool>::default();
        let used = Arc::clone(&is_used);
        spawn(async move {
            let mut ends = ordered.clone();
            loop {
                let client = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // An error means that the owner is gone.
                    () = async { while ends.changed().await.is_ok() {} } => return,
                };
                if let Ok((client, _)) = client
                    && !*refused.borrow()
                {
                    // It obeys what is ordered from now on.
                    let mut orders = ordered.clone();
                    orders.mark_unchanged();
                    used.store(true, Ordering::Relaxed);
                    spawn(serve(client, orders));
                }
            }
        });
        Ok(Self { address, orders, refuses, is_used })
    }

    /// Its URL, for the environment of managers.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether managers come by here: a kubeconfig may name a proxy of its own, and `NO_PROXY` the
    /// API server.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Cuts what is connected. New connections work.
    pub(super) fn cut(&self) {
        self.orders.send_replace(Some(Order::Cut));
    }

    /// Strands what is connected. New connections work.
    pub(super) fn strand(&self) {
        self.orders.send_replace(Some(Order::Strand));
    }

    /// For some time nothing is connected.
    pub(super) async fn refuse_for(&self, time: Duration) {
        self.refuses.send_replace(true);
        self.cut();
        sleep(time).await;
        self.refuses.send_replace(false);
    }
}

/// One connection, until somebody ends it.
async fn serve(mut client: TcpStream, mut orders: watch::Receiver<Option<Order>>) {
    let Ok(Some(mut server)) = timeout(CONNECT, connect(&mut client)).await else { return };
    // Small messages must not wait for more.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        // An error means that the proxy is gone.
        changed = orders.changed() => if changed.is_err() { return },
    }
    let is_stranded = *orders.borrow() == Some(Order::Strand);
    // Both ends stay open until the proxy goes.
    while is_stranded && orders.changed().await.is_ok() {}
}

/// Does what the client's first lines ask for.
async fn connect(client: &mut TcpStream) -> Option<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_HEAD {
            return None;
        }
        // What follows the head is the server's, so nothing of it may be read here.
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let address = head.strip_prefix("CONNECT ")?.split_whitespace().next()?.to_owned();
    let server = TcpStream::connect(address).await.ok();
    let answer: &[u8] = match &server {
        Some(_) => b"HTTP/1.1 200 OK\r\n\r\n",
        None => b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
    };
    client.write_all(answer).await.ok()?;
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn through(proxy: &Proxy, server: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(format!("CONNECT {server} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 19];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
        stream
    }

    #[tokio::test]
    async fn what_is_connected_can_be_cut_and_stranded_and_nothing_else_is() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let proxy = Proxy::start().await.unwrap();
        let mut first = through(&proxy, server).await;
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(b"a").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'a');
        proxy.cut();
        assert!(first.read_u8().await.is_err(), "it is over");
        let mut second = through(&proxy, server).await;
        let (mut far, _) = listener.accept().await.unwrap();
        proxy.strand();
        let mut third = through(&proxy, server).await;
        let (mut other, _) = listener.accept().await.unwrap();
        far.write_all(b"b").await.unwrap();
        other.write_all(b"c").await.unwrap();
        assert_eq!(third.read_u8().await.unwrap(), b'c');
        drop(proxy);
        // It ends with the proxy, and nothing has come through before.
        assert!(second.read_u8().await.is_err());
    }
}
