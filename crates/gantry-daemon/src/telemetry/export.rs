//! Sends a trace to a collector that GitLab has named: OTLP over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::error_chain::chain;
use gantry_core::job::{OtelEndpoint, TracingAuth};
use gantry_http::retry::Idempotency;
use gantry_http::{HttpTransport, Options, ProxySettings, Timeouts, TlsFiles, read, send};
use http::{Method, Request, header};
use tokio::time::timeout;
use url::Url;

/// For all of it (GitLab Runner 19.4: 5 s).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a collector's URL names no path (OTLP over HTTP).
const PATH: &str = "/v1/traces";

/// Who vouches for a machine of Google's cloud, and the variable with which its own kits name
/// another one.
const METADATA: &str = "metadata.google.internal";
const METADATA_HOST: &str = "GCE_METADATA_HOST";

/// Longest answer that is read: a token of that service is far shorter.
const ANSWER: usize = 16 << 10;

/// What a log may show of the URL of a collector: people write keys into queries and before hosts.
pub(super) fn shown(url: &str) -> String {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| "a collector whose URL is none".to_owned())
}

/// Sends it once, and says what went wrong in one sentence.
pub(super) async fn post(endpoint: &OtelEndpoint, body: String, directories: &[PathBuf]) -> Result<(), String> {
    let url = address(&endpoint.url)?;
    let sending = async {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(body))
            .map_err(|error| error.to_string())?;
        if let Some(auth) = &endpoint.auth {
            let mut value: header::HeaderValue =
                format!("Bearer {}", token(auth).await?).parse().map_err(|_| "its token is none".to_owned())?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let files = TlsFiles { directories: directories.to_vec(), ..TlsFiles::default() };
        ask(&url, Options { files, ..Options::default() }, request).await.map(drop)
    };
    timeout(TIMEOUT, sending).await.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())))
}

/// Where a trace goes.
fn address(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("its URL is none: {error}"))?;
    match url.scheme() {
        "http" | "https" => {}
        "grpc" | "grpcs" => return Err("OTLP over gRPC is not spoken: offer the collector's HTTP port".to_owned()),
        other => return Err(format!("nothing is known of the scheme {other}")),
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    Ok(url)
}

async fn ask(url: &Url, options: Options, request: Request<Bytes>) -> Result<Bytes, String> {
    let transport = HttpTransport::new(url, options).map_err(|error| chain(&error))?;
    let timeouts = Timeouts { head: TIMEOUT, idle: TIMEOUT };
    let answer = send(&transport, request, &[], timeouts, Idempotency::NotIdempotent)
        .await
        .answer
        .map_err(|error| chain(&error))?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    Ok(read(answer.into_body(), ANSWER, TIMEOUT).await.bytes)
}

/// The identity of this machine in Google's cloud, for this collector (`http_bearer_gcp_oidc`,
/// GitLab Runner 19.4).
async fn token(auth: &TracingAuth) -> Result<String, String> {
    let audience = match (auth.kind.as_str(), &auth.http_bearer_gcp_oidc) {
        ("http_bearer_gcp_oidc", Some(settings)) => &settings.audience,
        ("http_bearer_gcp_oidc", None) => return Err("GitLab names no audience for its token".to_owned()),
        (other, _) => return Err(format!("nothing is known of the authentication {other:?}")),
    };
    let host = std::env::var(METADATA_HOST).ok().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| METADATA.to_owned());
    let path = "computeMetadata/v1/instance/service-accounts/default/identity";
    let url = Url::parse_with_params(&format!("http://{host}/{path}"), [("audience", audience.as_str())])
        .map_err(|error| format!("{METADATA_HOST} is no host: {error}"))?;
    let request = Request::builder().uri(url.as_str()).header("metadata-flavor", "Google").body(Bytes::new());
    let request = request.map_err(|error| error.to_string())?;
    let options = Options { proxy: ProxySettings::Direct, ..Options::default() };
    let answer = ask(&url, options, request).await;
    let token = answer.map_err(|why| format!("{host} gives this machine no identity: {why}"))?;
    String::from_utf8(token.to_vec()).map(|text| text.trim().to_owned()).map_err(|_| "its token is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |text: &str| address(text).map(String::from);
        assert_eq!(of("https://otel.test:4318").unwrap(), "https://otel.test:4318/v1/traces");
        assert_eq!(of("http://otel.test/").unwrap(), "http://otel.test/v1/traces");
        assert_eq!(of("https://otel.test/tenant/a?key=x").unwrap(), "https://otel.test/tenant/a?key=x");
        assert!(of("grpcs://otel.test:4317").unwrap_err().contains("HTTP port"));
        assert!(of("otel.test").is_err() && of("ftp://otel.test").is_err());
        assert_eq!(shown("https://user:key@otel.test/v1/traces?key=x"), "otel.test");
        assert_eq!(shown("none"), "a collector whose URL is none");
    }
}
