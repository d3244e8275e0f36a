//! An object store that speaks S3 and checks every signature by the rules of Amazon's
//! documentation, from what arrives and from nothing of the product's: a wrong belief about signing
//! must not be on both sides.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};

/// How far clocks may differ (Amazon: 15 minutes).
const SKEW: SignedDuration = SignedDuration::from_mins(15);

/// What a process shows to the token service.
pub const IDENTITY: &str = "web-identity-of-the-runner";

/// Access keys of the role begin with it.
const ROLE: &str = "ROLE";

/// A bucket and the keys that open it: one for good, and those of a role, which end.
#[derive(Debug)]
pub struct Store {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    bucket: String,
    access_key: String,
    secret_key: String,
    /// Those of the role, with their end; the number is in their name.
    role_keys: Mutex<Vec<(Timestamp, String)>>,
    role_life: SignedDuration,
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Uploads that have begun: their parts by number.
    uploads: Mutex<BTreeMap<String, BTreeMap<u32, Bytes>>>,
    requests: Mutex<Vec<String>>,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store {
    /// Listens on a free port of `host`. Needs a `LocalSet`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(host: IpAddr, bucket: &str, key: (&str, &str)) -> anyhow::Result<Self> {
        Self::start_with_role(host, bucket, key, SignedDuration::from_hours(1)).await
    }

    /// The same; keys that its token service gives end after `role_life`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_with_role(
        host: IpAddr,
        bucket: &str,
        (access_key, secret_key): (&str, &str),
        role_life: SignedDuration,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await.context("no port for a store")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            bucket: bucket.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            role_keys: Mutex::default(),
            role_life,
            objects: Mutex::default(),
            uploads: Mutex::default(),
            requests: Mutex::default(),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let router = router.layer(axum::extract::DefaultBodyLimit::disable());
        let task = spawn_local(async move {
            // Ends with its owner.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, task })
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names of the objects.
    pub fn names(&self) -> Vec<String> {
        self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// How often its token service has given keys.
    pub fn roles_assumed(&self) -> usize {
        self.shared.role_keys.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Uploads in parts that have begun and neither ended nor been given up.
    pub fn unfinished(&self) -> usize {
        self.shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests so far, in order: status, method and path.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    State(store): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = Timestamp::now();
    let answer = match store.check(&method, &uri, &headers, now) {
        _ if uri.path() == "/" && method == Method::POST => store.assume_role(&body, now),
        Ok(()) => store.answer(&method, &uri, &headers, body),
        Err((status, code)) => refuse(status, code),
    };
    let line = format!("{} {method} {}", answer.status().as_u16(), uri.path());
    store.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    answer
}

fn refuse(status: StatusCode, code: &str) -> Response {
    (status, format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>See the code.</Message></Error>"))
        .into_response()
}

impl Shared {
    /// The token service.
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
    fn assume_role(&self, body: &Bytes, now: Timestamp) -> Response {
        let form = String::from_utf8_lossy(body);
        if !form.contains("Action=AssumeRoleWithWebIdentity") || !form.contains(&format!("WebIdentityToken={IDENTITY}"))
        {
            return refuse(StatusCode::FORBIDDEN, "AccessDenied");
        }
        let mut keys = self.role_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, end) = (keys.len(), now + self.role_life);
        let secret = format!("secret-of-role-{number}");
        keys.push((end, secret.clone()));
        format!(
            "<R><Credentials><AccessKeyId>{ROLE}{number}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>token-{number}</SessionToken><Expiration>{end}</Expiration></Credentials></R>"
        )
        .into_response()
    }

    /// The secret key that belongs to an access key, and the session token that must come with it.
    fn secret(&self, access_key: &str, now: Timestamp) -> Result<(String, Option<String>), &'static str> {
        if access_key == self.access_key {
            return Ok((self.secret_key.clone(), None));
        }
        let number = access_key.strip_prefix(ROLE).and_then(|number| number.parse::<usize>().ok());
        let number = number.ok_or("InvalidAccessKeyId")?;
        let keys = self.role_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, secret) = keys.get(number).ok_or("InvalidAccessKeyId")?;
        if *end <= now { Err("ExpiredToken") } else { Ok((secret.clone(), Some(format!("token-{number}")))) }
    }

    fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<(), (StatusCode, &'static str)> {
        let forbidden = |code| (StatusCode::FORBIDDEN, code);
        let query = uri.query().unwrap_or_default();
        let mut pairs: Vec<(&str, &str)> =
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| decoded(value));
        let malformed = (StatusCode::BAD_REQUEST, "AuthorizationQueryParametersError");
        let (algorithm, credential) = (get("X-Amz-Algorithm"), get("X-Amz-Credential").ok_or(malformed)?);
        let (date, expires) = (get("X-Amz-Date").ok_or(malformed)?, get("X-Amz-Expires").ok_or(malformed)?);
        let (names, signature) =
            (get("X-Amz-SignedHeaders").ok_or(malformed)?, get("X-Amz-Signature").ok_or(malformed)?);
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key, day, region, "s3", "aws4_request"] = scope.as_slice() else { return Err(malformed) };
        if algorithm.as_deref() != Some("AWS4-HMAC-SHA256") || !date.starts_with(day) {
            return Err(malformed);
        }
        let (secret_key, session_token) = self.secret(access_key, now).map_err(forbidden)?;
        if get("X-Amz-Security-Token") != session_token {
            return Err(forbidden("InvalidToken"));
        }
        let signed_at = time(&date).ok_or(malformed)?;
        let seconds: i64 = expires.parse().map_err(|_| malformed)?;
        if !(1..=604_800).contains(&seconds) || signed_at > now + SKEW {
            return Err(malformed);
        }
        if signed_at + SignedDuration::from_secs(seconds) < now {
            return Err(forbidden("AccessDenied"));
        }
        let names: Vec<&str> = names.split(';').collect();
        let unsigned =
            headers.keys().any(|name| name.as_str().starts_with("x-amz-") && !names.contains(&name.as_str()));
        if unsigned || !names.contains(&"host") {
            return Err(forbidden("AccessDenied"));
        }
        pairs.retain(|(name, _)| *name != "X-Amz-Signature");
        pairs.sort_unstable();
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut canonical = format!("{method}\n{}\n{}\n", uri.path(), query.join("&"));
        for name in &names {
            let value = headers.get(*name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let _ = writeln!(canonical, "{name}:{}", value.trim());
        }
        let _ = write!(canonical, "\n{}\nUNSIGNED-PAYLOAD", names.join(";"));
        let text =
            format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/s3/aws4_request\n{}", hex(&Sha256::digest(&canonical)));
        let mut key = mac(format!("AWS4{secret_key}").as_bytes(), day);
        for part in [region, "s3", "aws4_request"] {
            key = mac(&key, part);
        }
        if hex(&mac(&key, &text)) == signature { Ok(()) } else { Err(forbidden("SignatureDoesNotMatch")) }
    }

    fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Response {
        let path = decoded(uri.path());
        let Some(name) = path.strip_prefix(&format!("/{}/", self.bucket)) else {
            return if path == format!("/{}", self.bucket) && uri.query().unwrap_or_default().contains("location=") {
                "<LocationConstraint>eu-central-1</LocationConstraint>".into_response()
            } else {
                refuse(StatusCode::NOT_FOUND, "NoSuchBucket")
            };
        };
        let pairs: BTreeMap<&str, String> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key, decoded(value)))
            .collect();
        if pairs.contains_key("uploads") || pairs.contains_key("uploadId") {
            return self.in_parts(method, name, &pairs, body);
        }
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if method == Method::PUT {
            if !headers.contains_key(header::CONTENT_LENGTH) {
                return refuse(StatusCode::LENGTH_REQUIRED, "MissingContentLength");
            }
            objects.insert(name.to_owned(), body);
            return StatusCode::OK.into_response();
        }
        let Some(object) = objects.get(name) else { return refuse(StatusCode::NOT_FOUND, "NoSuchKey") };
        let range =
            headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
        let Some((Ok(start), Ok(end))) = range.map(|(start, end)| (start.parse::<usize>(), end.parse::<usize>()))
        else {
            return object.clone().into_response();
        };
        let end = end.saturating_add(1).min(object.len());
        if start >= end {
            return refuse(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let range = format!("bytes {start}-{}/{}", end - 1, object.len());
        (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], object.slice(start..end)).into_response()
    }
}

impl Shared {
    /// An upload in parts. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>
    fn in_parts(&self, method: &Method, name: &str, pairs: &BTreeMap<&str, String>, body: Bytes) -> Response {
        const LEAST: usize = 5 * 1024 * 1024;
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.contains_key("uploads") {
            let id = format!("{name}+upload/{}", uploads.len());
            uploads.insert(id.clone(), BTreeMap::new());
            return format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>")
                .into_response();
        }
        let id = pairs.get("uploadId").cloned().unwrap_or_default();
        let Some(parts) = uploads.get_mut(&id) else { return refuse(StatusCode::NOT_FOUND, "NoSuchUpload") };
        match (method, pairs.get("partNumber").and_then(|number| number.parse().ok())) {
            (&Method::PUT, Some(number)) => {
                let tag = format!("\"{}\"", hex(&Sha256::digest(&body)));
                parts.insert(number, body);
                (StatusCode::OK, [(header::ETAG, tag)]).into_response()
            }
            (&Method::POST, None) => {
                let list = String::from_utf8_lossy(&body);
                let named = list.matches("<PartNumber>").count();
                let all_but_last = parts.values().rev().skip(1);
                if named != parts.len() || named == 0 {
                    return refuse(StatusCode::BAD_REQUEST, "InvalidPart");
                }
                if all_but_last.into_iter().any(|part| part.len() < LEAST) {
                    return refuse(StatusCode::BAD_REQUEST, "EntityTooSmall");
                }
                let tags = parts.values().all(|part| list.contains(&hex(&Sha256::digest(part))));
                if !tags {
                    return refuse(StatusCode::BAD_REQUEST, "InvalidPart");
                }
                let whole: Vec<u8> = parts.values().flatten().copied().collect();
                uploads.remove(&id);
                let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
                objects.insert(name.to_owned(), whole.into());
                "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>".into_response()
            }
            (&Method::DELETE, None) => {
                uploads.remove(&id);
                StatusCode::NO_CONTENT.into_response()
            }
            _ => refuse(StatusCode::BAD_REQUEST, "InvalidRequest"),
        }
    }
}

/// `20130524T000000Z`.
fn time(text: &str) -> Option<Timestamp> {
    let part = |from: usize, to: usize| text.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(9, 11)?, part(11, 13)?, part(13, 15)?);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = || [rest.clone().next(), rest.clone().nth(1)];
        match (byte, digits()) {
            (b'%', [Some(high), Some(low)]) => {
                let value =
                    |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0);
                bytes.push(value(high) * 16 + value(low));
                rest.nth(1);
            }
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes any key"));
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
