//! A headless Chromium, spoken to as its developer tools would: open a page, ask it things, look
//! for errors in it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// No answer of the browser takes longer, on however busy a machine.
const CALL: Duration = Duration::from_secs(90);
/// The page itself gives up a condition after this, and says what it shows instead.
const CONDITION_MILLISECONDS: u32 = 60_000;
/// Names under which Chromium is installed.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// It needs no sandbox for our own page, and must not look for its maker's hosts.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
];

pub(crate) struct Browser {
    socket: WebSocketStream<TcpStream>,
    session: Option<String>,
    last_id: u64,
    /// What went wrong in the page.
    errors: Vec<String>,
    _child: Child,
    _profile: TempDir,
}

impl Browser {
    /// A browser with one empty page; `None`, said on standard error, where there is no Chromium.
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) = chromium() else {
            // Not by a macro: the test's own output is shown only when it fails, and a skipped test
            // must be seen.
            let said = writeln!(
                std::io::stderr(),
                "SKIPPED: no Chromium here, so nobody looks at the page (Debian: apt-get install chromium)"
            );
            said.expect("standard error can be written to");
            return None;
        };
        let profile = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Chromium starts");
        let stderr = child.stderr.take().expect("a pipe");
        let url = tokio::time::timeout(CALL, devtools_url(stderr)).await.expect("Chromium listens in time");
        let address = url.trim_start_matches("ws://").split('/').next().expect("an address").to_owned();
        let stream = TcpStream::connect(address).await.expect("a connection to Chromium");
        let (socket, _) = tokio_tungstenite::client_async(url.as_str(), stream).await.expect("a WebSocket");
        let mut browser =
            Self { socket, session: None, last_id: 0, errors: Vec::new(), _child: child, _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true})).await;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        Some(browser)
    }

    /// One call of the protocol.
    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).await.expect("Chromium takes calls");
        let answered = tokio::time::timeout(CALL, self.answer()).await;
        answered.unwrap_or_else(|_| panic!("{method} is not answered in time"))
    }

    async fn answer(&mut self) -> Value {
        loop {
            let message = self.socket.next().await.expect("Chromium lives").expect("a message");
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == json!(self.last_id) {
                assert!(message["error"].is_null(), "{message}");
                return message["result"].clone();
            }
            let is_error = match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Log.entryAdded") => message["params"]["entry"]["level"] == "error",
                _ => false,
            };
            if is_error {
                self.errors.push(message["params"].to_string());
            }
        }
    }

    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url})).await;
    }

    /// The size of the window, and whether the system wants dark colours.
    pub(crate) async fn resize(&mut self, width: u32, height: u32, dark: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// The value of an expression of the page's language.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true, in the page itself.
    pub(crate) async fn until(&mut self, expression: &str) -> Value {
        let waiting = format!(
            "new Promise((resolve, reject) => {{
                const begun = performance.now();
                const look = () => {{
                    let value;
                    try {{ value = ({expression}); }} catch (error) {{ value = false; }}
                    if (value) resolve(value);
                    else if (performance.now() - begun > {CONDITION_MILLISECONDS})
                        reject(new Error('the page shows: ' + document.body.innerText.slice(0, 1000)));
                    else setTimeout(look, 20);
                }};
                look();
            }})"
        );
        self.value(&waiting).await
    }

    /// Presses the button with these words inside the first element that fits `within`.
    pub(crate) async fn press(&mut self, within: &str, words: &str) {
        let find = format!(
            "[...document.querySelector({within:?}).querySelectorAll('button')].find((one) => one.textContent === {words:?})"
        );
        self.until(&format!("{find} && !{find}.disabled")).await;
        self.value(&format!("{find}.click()")).await;
    }

    /// A picture of the page for people, if `GANTRY_SCREENSHOTS` names a directory.
    pub(crate) async fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("GANTRY_SCREENSHOTS").map(PathBuf::from) else { return };
        let shot = self.call("Page.captureScreenshot", json!({})).await;
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            shot["data"].as_str().expect("a picture"),
        );
        std::fs::write(directory.join(format!("{name}.png")), bytes.expect("base64")).expect("a file");
    }

    /// What went wrong in the page so far.
    pub(crate) fn errors(&self) -> &[String] {
        &self.errors
    }
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    PROGRAMS.iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file())
}

/// Chromium says on standard error where it listens; the rest is read as well, so that it never
/// waits for a reader.
async fn devtools_url(stderr: tokio::process::ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await.expect("Chromium's output") {
        if let Some((_, url)) = line.split_once("DevTools listening on ") {
            drain(lines);
            return url.trim().to_owned();
        }
    }
    panic!("Chromium ended before it listened");
}

#[expect(clippy::disallowed_methods, reason = "the browser's output is read beside the test, until the browser ends")]
fn drain(mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>) {
    drop(tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} }));
}
