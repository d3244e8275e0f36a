//! A TCP proxy that misbehaves on demand: what lies between the parts of a real installation.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until};

/// Bytes that are passed on at once; small, so that a cut after a number of bytes is exact enough.
const PIECE: usize = 16 * 1024;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// They work.
    Pass,
    /// They are closed as soon as they are made.
    Refuse,
    /// They stay open and nothing moves: a half-open stream.
    Stall,
}

#[derive(Debug)]
struct Shared {
    mood: watch::Sender<Mood>,
    /// Raised to cut everything that is open.
    cut: watch::Sender<u64>,
    /// Connections up to this number move nothing any more.
    stranded: watch::Sender<u64>,
    /// Bytes from the server until the next cut.
    budget: Cell<Option<u64>>,
    /// Bytes from the server so far.
    passed: Cell<u64>,
    /// Bytes in a second, both ways of all connections together.
    rate: Cell<Option<u32>>,
    /// When what was passed on so far is through at that rate.
    through: Cell<Instant>,
    connections: Cell<u64>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// A proxy between two parts of the world. Ends with its owner.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Rc<Shared>,
}

impl Proxy {
    /// Listens on a free port of `host` and passes on to `server`. Needs a `LocalSet`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(host: IpAddr, server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let shared = Rc::new(Shared {
            mood: watch::channel(Mood::Pass).0,
            cut: watch::channel(0).0,
            stranded: watch::channel(0).0,
            budget: Cell::new(None),
            passed: Cell::new(0),
            rate: Cell::new(None),
            through: Cell::new(Instant::now()),
            connections: Cell::new(0),
            tasks: RefCell::default(),
        });
        let accepting = Rc::clone(&shared);
        let task = spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                accepting.connections.set(accepting.connections.get() + 1);
                if *accepting.mood.borrow() == Mood::Refuse {
                    continue;
                }
                let number = accepting.connections.get();
                let connection = spawn_local(serve(number, client, server, Rc::clone(&accepting)));
                accepting.tasks.borrow_mut().push(connection);
            }
        });
        shared.tasks.borrow_mut().push(task);
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.get()
    }

    /// How many bytes have come from the server.
    pub fn passed(&self) -> u64 {
        self.shared.passed.get()
    }

    /// Cuts every connection now. New ones work.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Cuts every connection once the server has sent that many more bytes.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.budget.set(Some(bytes));
    }

    /// Cuts every connection and takes no new ones until [`Proxy::pass`].
    pub fn refuse(&self) {
        self.shared.mood.send_replace(Mood::Refuse);
        self.cut();
    }

    /// Keeps connections open but moves nothing until [`Proxy::pass`] or [`Proxy::cut`].
    pub fn stall(&self) {
        self.shared.mood.send_replace(Mood::Stall);
    }

    /// The same for some time.
    pub async fn refuse_for(&self, time: Duration) {
        self.refuse();
        tokio::time::sleep(time).await;
        self.pass();
    }

    /// Lets so many bytes pass in a second, both ways of all connections together, for some time.
    pub async fn slow_for(&self, bytes_per_second: u32, time: Duration) {
        self.shared.rate.set(Some(bytes_per_second));
        tokio::time::sleep(time).await;
        self.shared.rate.set(None);
    }

    /// What is connected now stays open and moves nothing for ever, as after a node has vanished.
    /// New connections work.
    pub fn strand(&self) {
        self.shared.stranded.send_replace(self.shared.connections.get());
    }

    /// Works again.
    pub fn pass(&self) {
        self.shared.mood.send_replace(Mood::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in self.shared.tasks.borrow_mut().drain(..) {
            task.abort();
        }
    }
}

async fn serve(number: u64, client: TcpStream, server: SocketAddr, shared: Rc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Pieces are small; waiting to fill packets would slow down every exchange.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = cut.changed() => {}
        () = async {
            tokio::join!(copy(from_client, to_server, number, &shared, false), copy(from_server, to_client, number, &shared, true));
        } => {}
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    shared: &Shared,
    counts: bool,
) {
    let mut mood = shared.mood.subscribe();
    let mut piece = vec![0; PIECE];
    loop {
        let Ok(read) = from.read(&mut piece).await else { return };
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if mood.wait_for(|mood| *mood != Mood::Stall).await.is_err() {
            return;
        }
        if *shared.stranded.borrow() >= number {
            std::future::pending::<()>().await;
        }
        shared.take_time(read).await;
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
        if counts {
            shared.count(read as u64);
        }
    }
}

impl Shared {
    /// As long as so many bytes take, behind those that are on their way.
    async fn take_time(&self, bytes: usize) {
        let (Some(rate), Ok(bytes)) = (self.rate.get(), u32::try_from(bytes)) else { return };
        let through =
            self.through.get().max(Instant::now()) + Duration::from_secs_f64(f64::from(bytes) / f64::from(rate));
        self.through.set(through);
        sleep_until(through).await;
    }

    fn count(&self, bytes: u64) {
        self.passed.set(self.passed.get() + bytes);
        let Some(left) = self.budget.get() else { return };
        if left > bytes {
            self.budget.set(Some(left - bytes));
        } else {
            self.budget.set(None);
            self.cut.send_modify(|count| *count += 1);
        }
    }
}
