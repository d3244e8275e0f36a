//! The lines before the frames: the shell's first word, the helper if it asks for one, and the
//! bridge's greeting.

use std::fmt::Write as _;

use gantry_wire::frame::Protocols;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    AttachError, ExecOutcome, Failed, HelperBinaries,
    binaries::{Content, Delivery},
    script::{self, FirstLine},
    stream::AgentStream,
};
use crate::limits;

/// Reads the first line. That the stream ends before it means "not yet".
pub(crate) async fn first_line(stream: &mut AgentStream) -> Result<FirstLine, Failed> {
    let outcome = stream.outcome();
    read_line(stream, &outcome).await
}

async fn read_line(reader: &mut (impl AsyncRead + Unpin), outcome: &ExecOutcome) -> Result<FirstLine, Failed> {
    let mut line = Vec::new();
    // Byte by byte out of memory, so that nothing of the frames that follow is taken.
    loop {
        match reader.read_u8().await {
            Ok(b'\n') => return Ok(FirstLine::parse(&String::from_utf8_lossy(&line))),
            Ok(byte) if line.len() < limits::LINE => line.push(byte),
            Ok(_) => return Ok(FirstLine::Other(String::from_utf8_lossy(&line).into_owned())),
            Err(_) => return Err(Failed::NotYet(outcome.explain())),
        }
    }
}

/// Goes on from the first line to the point where frames begin.
pub(crate) async fn finish(
    stream: AgentStream,
    line: FirstLine,
    helper: &HelperBinaries,
) -> Result<AgentStream, Failed> {
    let FirstLine::Push { machine, has_gzip } = line else { return greeted(stream, line) };
    let Some(binary) = helper.get(&machine) else {
        let available = helper.machines().collect::<Vec<_>>().join(", ");
        return Err(Failed::Final(AttachError::NoHelperFor { machine, available }));
    };
    let delivery = binary.for_container(has_gzip);
    tracing::debug!(machine, bytes = delivery.length(), packed = delivery.packed.is_some(), "pushing a helper");
    match timeout(limits::PUSH, push(stream, delivery)).await {
        Ok(result) => {
            let (stream, line) = result?;
            greeted(stream, line)
        }
        Err(_) => Err(Failed::NotYet(format!("pushing the helper took longer than {} s", limits::PUSH.as_secs()))),
    }
}

fn greeted(stream: AgentStream, line: FirstLine) -> Result<AgentStream, Failed> {
    let unusable = |message| Err(Failed::Final(AttachError::Unusable { message }));
    match line {
        FirstLine::Bridge(theirs) => {
            match Protocols::parse(&theirs).and_then(|theirs| theirs.common(Protocols::OURS)) {
                Some(_) => Ok(stream),
                None => Err(Failed::Final(AttachError::Protocol { theirs })),
            }
        }
        FirstLine::Failure(message) => unusable(message),
        FirstLine::Push { .. } | FirstLine::Continue => {
            unusable("it asks for a helper again after it has got one".to_owned())
        }
        FirstLine::Other(line) => unusable(format!("instead of a greeting it printed {line:?}")),
    }
}

/// Brings the helper, in one part or in two. In the end its shell has become a bridge, or has said
/// why not.
async fn push(stream: AgentStream, delivery: Delivery<'_>) -> Result<(AgentStream, FirstLine), Failed> {
    let form = if delivery.compressed { script::GZIP } else { script::PLAIN };
    let mut head = format!("{} {form}", delivery.first.length());
    if let Some(packed) = delivery.packed {
        let _ = write!(head, " {}", packed.length());
    }
    head.push('\n');
    let (stream, line) = part(stream, &head, delivery.first).await?;
    match (delivery.packed, &line) {
        (Some(packed), FirstLine::Continue) => part(stream, "", packed).await,
        _ => Ok((stream, line)),
    }
}

/// Sends one part, and reads meanwhile: a shell whose disk is full says so in the middle and stops
/// reading.
async fn part(stream: AgentStream, head: &str, content: &Content) -> Result<(AgentStream, FirstLine), Failed> {
    let outcome = stream.outcome();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let line = {
        let reading = read_line(&mut reader, &outcome);
        tokio::pin!(reading);
        tokio::select! {
            biased;
            line = &mut reading => line,
            // What went wrong with writing is better said by the shell or by the exec's status,
            // which come out of reading.
            _ = send(&mut writer, head, content) => reading.await,
        }
    }?;
    Ok((reader.unsplit(writer), line))
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), head: &str, content: &Content) -> std::io::Result<()> {
    writer.write_all(head.as_bytes()).await?;
    let mut sent = 0;
    loop {
        let piece = content.piece(sent, limits::STDIN_MESSAGE)?;
        if piece.is_empty() {
            return writer.flush().await;
        }
        writer.write_all(&piece).await?;
        sent += piece.len() as u64;
    }
}
