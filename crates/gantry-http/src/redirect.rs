//! Where a redirect leads and what may go there. Pure. A token never leaves the server it belongs
//! to: the reference forwards it to any host, we send only downloads elsewhere, and those without
//! it.

use http::header::{AUTHORIZATION, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use url::Url;

/// The request to send after `status` was answered to `request`; nothing if the answer stands. 301
/// to 303 would turn a POST into a GET without body, so they are followed for GET only; bodies are
/// repeated (307, 308) only to the same server. The headers `tokens` stay with it too, as those do
/// that HTTP itself knows as secret.
pub fn next<B: Clone>(
    request: &Request<B>,
    tokens: &[HeaderName],
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Request<B>> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let from = Url::parse(&request.uri().to_string()).ok()?;
    let to = from.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    if !matches!(to.scheme(), "http" | "https") {
        return None;
    }
    let trusted = same_server(&from, &to);
    let repeats_body = matches!(status.as_u16(), 307 | 308) && trusted;
    if request.method() != Method::GET && !repeats_body {
        return None;
    }
    let mut next = request.clone();
    *next.uri_mut() = to.as_str().parse().ok()?;
    if !trusted {
        for secret in tokens.iter().chain(&[AUTHORIZATION, COOKIE]) {
            next.headers_mut().remove(secret);
        }
    }
    Some(next)
}

/// Same host and port, or the same host under https instead of http.
fn same_server(from: &Url, to: &Url) -> bool {
    from.origin() == to.origin() || (from.host() == to.host() && from.scheme() == "http" && to.scheme() == "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");

    fn follow(method: Method, from: &str, status: u16, to: &str) -> Option<(String, bool)> {
        let request = Request::builder().method(method).uri(from).header(JOB_TOKEN, "glcbt-1").body(()).unwrap();
        let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
        let next = next(&request, &[JOB_TOKEN], StatusCode::from_u16(status).unwrap(), &headers)?;
        assert_eq!(next.method(), request.method());
        Some((next.uri().to_string(), next.headers().contains_key(JOB_TOKEN)))
    }

    #[test]
    fn downloads_go_anywhere_but_their_token_does_not() {
        let gitlab = "https://gitlab.example.com/api/v4/jobs/1/artifacts";
        let storage = "https://storage.example.com/a?signature=1";
        for status in [301, 302, 303, 307, 308] {
            assert_eq!(follow(Method::GET, gitlab, status, storage), Some((storage.to_owned(), false)));
        }
        assert_eq!(follow(Method::GET, gitlab, 302, "/x"), Some(("https://gitlab.example.com/x".to_owned(), true)));
        assert!(!follow(Method::GET, gitlab, 302, "http://gitlab.example.com/x").unwrap().1, "no longer encrypted");
        assert!(!follow(Method::GET, gitlab, 302, "https://gitlab.example.com:8443/x").unwrap().1);
        assert_eq!(follow(Method::GET, gitlab, 302, "file:///etc/passwd"), None);
        assert_eq!(follow(Method::GET, gitlab, 200, storage), None);
    }

    #[test]
    fn bodies_stay_with_their_instance() {
        let plain = "http://gitlab.example.com/api/v4/jobs/1";
        let target = "https://gitlab.example.com/api/v4/jobs/1";
        assert_eq!(follow(Method::PUT, plain, 308, target), Some((target.to_owned(), true)));
        assert_eq!(follow(Method::PUT, plain, 301, target), None, "would become a GET");
        assert_eq!(follow(Method::POST, plain, 307, "https://elsewhere.example.com/"), None);
    }
}
