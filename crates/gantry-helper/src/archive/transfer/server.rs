//! A GitLab for tests of downloads, which gives one archive in parts, and a job for it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gantry_wire::plan::Coordinator;
use gantry_wire::shim::SecretText;

use crate::archive::job::{Direction, MoverJob};

/// The archive.
pub(super) const CONTENT: &[u8] = b"0123456789abcdefghijklmnop";

/// What a request is answered with.
pub(super) struct Answer {
    /// Status and reason.
    pub(super) status: &'static str,
    /// Of `Content-Range`, if there is one.
    pub(super) range: Option<String>,
    pub(super) body: &'static [u8],
    /// The connection breaks in the middle of the body.
    pub(super) breaks: bool,
}

/// What was asked for: ranges as `0-9`, or `all`.
pub(super) type Asked = Arc<Mutex<Vec<String>>>;

/// Answers what was asked for, which is the last of all that were until now.
pub(super) fn server(mut answer: impl FnMut(&[String]) -> Answer + Send + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
            let lower = head.to_lowercase();
            let range = lower.split("range: bytes=").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("all");
            noted.lock().unwrap().push(range.to_owned());
            let Answer { status, range, body, breaks } = answer(&noted.lock().unwrap());
            let range = range.map(|range| format!("Content-Range: bytes {range}\r\n")).unwrap_or_default();
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\n{range}Content-Length: {length}\r\nConnection: close\r\n\r\n");
            let sent = if breaks { &body[..length / 2] } else { body };
            stream.write_all(&[head.as_bytes(), sent].concat()).unwrap();
        }
    });
    (url, asked)
}

/// A job that downloads from there.
pub(super) fn job(url: String, scratch: &Path) -> MoverJob {
    MoverJob {
        coordinator: Coordinator {
            url,
            ca_pem: None,
            identity: None,
            proxies: None,
            upload_timeout_ms: 1000,
            response_header_timeout_ms: 1000,
        },
        builds_dir: String::new(),
        project_dir: String::new(),
        object_format: String::new(),
        tool_path: String::new(),
        scratch_dir: scratch.to_string_lossy().into_owned(),
        job_id: 7,
        token: SecretText("t".into()),
        direction: Direction::Download,
    }
}
