//! Over a real connection on the loopback address: what only the network's own transport can show.

use gantry_core::error_chain::chain;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::ClientOptions;

/// Far more than a loopback connection needs.
const LONG: Duration = Duration::from_secs(30);

/// An answer that is small on the wire and large once it is read.
#[tokio::test]
async fn a_compressed_answer_is_bounded_by_what_it_becomes() {
    // After a full flush what follows refers to nothing before, so that the same piece may come
    // again and again.
    let mut piece = Vec::with_capacity(1 << 16);
    let mut compress = flate2::Compress::new(flate2::Compression::fast(), false);
    compress.compress_vec(&vec![b' '; 1 << 20], &mut piece, flate2::FlushCompress::Full).unwrap();
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(piece.repeat(limits::MAX_JOB_PAYLOAD / (1 << 20) + 8));
    assert!(packed.len() < 1 << 20, "{}", packed.len());
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            let mut connection = BufReader::new(connection);
            let mut line = String::new();
            while connection.read_line(&mut line).await.is_ok_and(|_| line != "\r\n") {
                line.clear();
            }
            let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n";
            let _ = connection.write_all(head.as_bytes()).await;
            let _ = connection.write_all(&packed).await;
            open.push(connection);
        }
    });
    let client = Client::new(ClientOptions::new(url)).unwrap();
    let info = crate::RunnerInfo::kubernetes("bash", std::collections::BTreeMap::new());
    let request = crate::JobRequest {
        token: &"glrt-a".into(),
        system_id: "r_0123456789ab",
        info: &info,
        last_update: None,
        session: None,
    };
    let poll = tokio::time::timeout(LONG, client.request_job(request)).await.unwrap();
    let crate::JobAnswer::Failed(error) = poll.answer else { panic!("{:?}", poll.answer) };
    assert!(chain(&error).contains("larger than"), "{}", chain(&error));
}
