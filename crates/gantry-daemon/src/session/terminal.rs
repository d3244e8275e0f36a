//! A person's terminal: a shell in the build container on one side, GitLab's proxy on the other.

use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use gantry_kube::{AgentStream, ApiError, Fault};
use gantry_wire::layout::BUILD;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::Instrument as _;

use super::answer::{Body, sentence};
use super::open::{Claim, Session};
use super::websocket::{Form, Upgrade, WebSocket};
use crate::accepting::ConnectionPermit;
use crate::notices::{Notice as _, TerminalClosed, TerminalOpened, TerminalRefused, TerminalUnused};
use crate::tasks;

/// How long a terminal is waited for while the job's pod is being made (GitLab Runner 19.4: one
/// minute).
const TIMEOUT: Duration = Duration::from_secs(60);

/// Between two tries while the container does not run yet.
const AGAIN: Duration = Duration::from_millis(500);

/// How often the other side shows that it is there (GitLab Runner 19.4: 30 s).
const PING: Duration = Duration::from_secs(30);

/// How long one message may take to be taken: a person who looks at it for longer has a network
/// that is gone.
const WRITE: Duration = Duration::from_secs(30);

/// How long closing a terminal may take.
const CLOSE: Duration = Duration::from_secs(5);

/// What a terminal shows at once.
const PIECE: usize = 16 << 10;

/// End of transmission, as Ctrl-D: a shell ends by it.
const EOT: &[u8] = &[4];

/// Answers a request for a terminal. The order of the refusals is the reference's.
pub(super) async fn answer(
    session: Arc<Session>,
    mut request: Request<Incoming>,
    place: ConnectionPermit,
) -> Response<Body> {
    let Some(upgrade) = Upgrade::asked(&mut request) else {
        return sentence(StatusCode::METHOD_NOT_ALLOWED, "a terminal is a WebSocket");
    };
    let Some(form) = upgrade.form else {
        return sentence(StatusCode::BAD_REQUEST, "offer the subprotocol terminal.gitlab.com");
    };
    let until = Instant::now() + TIMEOUT;
    let Some(pod) = session.pod(TIMEOUT).await else {
        return sentence(StatusCode::SERVICE_UNAVAILABLE, "the job has no pod yet");
    };
    let Some(claim) = session.claim() else {
        return sentence(StatusCode::LOCKED, "somebody else is in the job's terminal");
    };
    let shell = match shell(&session, &pod, until).await {
        Ok(shell) => shell,
        Err(error) => {
            let _entered = session.span.enter();
            TerminalRefused { pod: &pod, error: &error }.say();
            return sentence(StatusCode::INTERNAL_SERVER_ERROR, "the build container could not be entered");
        }
    };
    let (answer, opening) = upgrade.accept();
    let span = session.span.clone();
    tasks::spawn(
        async move {
            let _place = place;
            match opening.await {
                Ok(socket) => converse(socket, shell, form, &claim).await,
                Err(error) => TerminalUnused(&error).say(),
            }
            drop(claim);
        }
        .instrument(span),
    );
    answer
}

/// A shell in the build container, as soon as that runs.
async fn shell(session: &Session, pod: &str, until: Instant) -> Result<AgentStream, ApiError> {
    loop {
        let target = &session.target;
        match target.cluster.open_shell(pod, BUILD, &session.directory).await {
            Ok(shell) => return Ok(shell),
            Err(error) => {
                let is_final = matches!(error.fault, Fault::Unauthenticated | Fault::Forbidden | Fault::Gone);
                if is_final || session.ended.is_cancelled() || Instant::now() >= until {
                    return Err(error);
                }
            }
        }
        sleep(AGAIN).await;
    }
}

/// Passes on what both sides say, until one ends or the job does.
async fn converse(mut socket: WebSocket, shell: AgentStream, form: Form, claim: &Claim) {
    let begun = Instant::now();
    TerminalOpened.say();
    let outcome = shell.outcome();
    let (mut output, mut input) = tokio::io::split(shell);
    {
        let (mut sink, mut source) = (&mut socket).split();
        tokio::select! {
            () = pass_on(&mut source, &mut input, form) => {}
            () = show(&mut output, &mut sink, form) => {}
            () = claim.session().ended.cancelled() => {}
        }
    }
    // So that the shell ends with its terminal.
    let _ = timeout(CLOSE, write(&mut input, EOT)).await;
    let closing = async {
        if let Some(gantry_kube::ExecEnd::Failed(message)) = outcome.end() {
            let _ = socket.send(form.message(format!("{message}\r\n").as_bytes())).await;
        }
        let _ = socket.close(None).await;
        // Closing with something unread would lose the end of what was shown.
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(CLOSE, closing).await;
    TerminalClosed(begun.elapsed()).say();
}

async fn write(input: &mut WriteHalf<AgentStream>, bytes: &[u8]) -> std::io::Result<()> {
    input.write_all(bytes).await?;
    input.flush().await
}

/// Types what the other side sends, until that closes or the shell takes no more.
async fn pass_on<S>(source: &mut S, input: &mut WriteHalf<AgentStream>, form: Form)
where
    S: futures::Stream<Item = Result<Message, Error>> + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
        if let Some(bytes) = form.bytes(message)
            && write(input, &bytes).await.is_err()
        {
            return;
        }
    }
}

/// Shows what the shell prints, and that we are there when it prints nothing.
async fn show<S>(output: &mut ReadHalf<AgentStream>, sink: &mut S, form: Form)
where
    S: futures::Sink<Message> + Unpin,
{
    let mut buffer = vec![0; PIECE];
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    loop {
        let message = tokio::select! {
            read = output.read(&mut buffer) => match read {
                Ok(length @ 1..) => form.message(buffer.get(..length).unwrap_or_default()),
                _ => return,
            },
            _ = ping.tick() => Message::Ping(bytes::Bytes::new()),
        };
        if !matches!(timeout(WRITE, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}
