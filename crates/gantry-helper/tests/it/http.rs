//! What small servers of tests share.

use std::io::BufRead;
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::socket::{setsockopt, sockopt};

/// What a server is sent and does not read waits at most in so many bytes: a busy machine's kernel
/// lets that grow to tens of MB, and then a client has sent all of an object that its server
/// refused in the middle.
const UNREAD: usize = 1 << 18;

/// Serves every connection in a thread of its own. Gives the address.
pub(crate) fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &UNREAD).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The first line of a request and its headers.
pub(crate) fn head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
    head
}
