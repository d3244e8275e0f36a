//! Makes an agent of today speak like one of the first version of the protocol, whose bytes are
//! recorded in `crates/gantry-wire/src/frame/protocol_1.txt`: it tells nothing of versions, of who
//! is in charge and of its job, and hears no greeting.

use bytes::BytesMut;
use gantry_wire::frame::{Frame, FrameReader, Hello, State};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

/// As much as a pipe holds.
const PIPE: usize = 64 << 10;

/// The agent's ends of a manager's connection, and what translates until the agent has closed it.
pub(crate) fn between(
    stdin: BufReader<DuplexStream>,
    stdout: DuplexStream,
) -> (BufReader<DuplexStream>, DuplexStream, impl Future<Output = ()>) {
    let (to_agent, agents_stdin) = tokio::io::duplex(PIPE);
    let (agents_stdout, from_agent) = tokio::io::duplex(PIPE);
    let inward = async move {
        pass(stdin, to_agent, |frame| match frame {
            Frame::Greet(_) | Frame::Release => None,
            frame => Some(frame),
        })
        .await;
        // The agent sees that the manager has gone, and closes its own end.
        std::future::pending::<()>().await;
    };
    let outward = pass(from_agent, stdout, |frame| match frame {
        Frame::Granted(_) => None,
        Frame::Hello(hello) => Some(Frame::Hello(of_first_version(hello))),
        Frame::State(state) => Some(Frame::State(State { reported: false, ..state })),
        frame => Some(frame),
    });
    let translating = async move {
        tokio::select! {
            () = inward => {}
            () = outward => {}
        }
    };
    (BufReader::new(agents_stdin), agents_stdout, translating)
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: DuplexStream, translate: impl Fn(Frame) -> Option<Frame>) {
    let mut reader = FrameReader::default();
    let mut buffer = BytesMut::new();
    while from.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        reader.push(&buffer.split());
        let mut out = BytesMut::new();
        while let Ok(Some(frame)) = reader.next_frame() {
            if let Some(frame) = translate(frame) {
                frame.encode(&mut out);
            }
        }
        if to.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn of_first_version(hello: Hello) -> Hello {
    let state = State { reported: false, ..hello.state };
    Hello { protocol: 1, protocols: None, relay: None, adoption: None, state, ..hello }
}
