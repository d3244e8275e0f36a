//! Where a bucket is: host, style of paths, region (GitLab Runner 19.4 with Amazon's kit).

use jiff::Timestamp;

use super::presign::{RequestTarget, Signed, presign};
use super::{Credentials, S3Settings};
use crate::ask::Question;
use crate::encode::{element, uri_path};
use crate::world::World;

/// Where nothing else is known (Amazon's first region, and what others take for any).
pub(super) const USUAL_REGION: &str = "us-east-1";

/// What the reference takes for Amazon itself.
const AMAZON: &str = "s3.amazonaws.com";

/// Where objects of a bucket are.
pub(super) struct Address {
    scheme: &'static str,
    /// With its port, unless that is the usual one.
    pub(super) host: String,
    /// What stands before an object's name.
    prefix: String,
}

impl Address {
    pub(super) fn of(settings: &S3Settings, region: &str) -> Self {
        let S3Settings { bucket, insecure, dual_stack, accelerate, .. } = settings;
        let scheme = if *insecure { "http" } else { "https" };
        let custom = custom(settings);
        // A certificate for `*.s3.amazonaws.com` is none for names with further dots.
        let path_style = settings.path_style.unwrap_or_else(|| match custom {
            Some(address) => !has_virtual_hosts(address),
            None => bucket.contains('.') && !insecure,
        });
        let host = if let Some(address) = custom {
            let usual = if *insecure { ":80" } else { ":443" };
            address.strip_suffix(usual).unwrap_or(address).to_owned()
        } else {
            let domain = amazon_domain(region);
            let stack = if *dual_stack { "dualstack." } else { "" };
            if *accelerate && !path_style {
                format!("s3-accelerate.{stack}{domain}")
            } else {
                format!("s3.{stack}{region}.{domain}")
            }
        };
        if path_style {
            Self { scheme, host, prefix: format!("/{}/", uri_path(bucket)) }
        } else {
            Self { scheme, host: format!("{bucket}.{host}"), prefix: "/".to_owned() }
        }
    }

    pub(super) fn path(&self, object: &str) -> String {
        format!("{}{}", self.prefix, uri_path(object))
    }

    pub(super) fn place<'a>(&'a self, path: &'a str) -> RequestTarget<'a> {
        RequestTarget { scheme: self.scheme, host: &self.host, path, query: Vec::new() }
    }
}

/// An address that is not Amazon's own.
fn custom(settings: &S3Settings) -> Option<&str> {
    let address = settings.server_address.as_deref()?;
    let address = address.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    (!address.is_empty() && address != AMAZON).then_some(address)
}

/// Stores that give each bucket a name of its own.
fn has_virtual_hosts(address: &str) -> bool {
    let host = address.split(':').next().unwrap_or_default();
    ["amazonaws.com", "amazonaws.com.cn", "storage.googleapis.com", "aliyuncs.com"]
        .iter()
        .any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

pub(super) fn amazon_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Asks the store for the bucket's region; nothing if it cannot say so now. Where it refuses to,
/// the usual one is tried: requests then say what is wrong with it.
pub(super) async fn find_region(
    settings: &S3Settings,
    credentials: &Credentials,
    world: &World,
    now: Timestamp,
) -> Option<String> {
    let settings = S3Settings { path_style: Some(true), accelerate: false, dual_stack: false, ..settings.clone() };
    let address = Address::of(&settings, USUAL_REGION);
    let path = address.path("");
    let path = path.trim_end_matches('/');
    let place = RequestTarget { query: vec![("location".to_owned(), String::new())], ..address.place(path) };
    let signed = Signed { method: "GET", credentials, region: USUAL_REGION, now, seconds: 60 };
    let url = presign(&signed, &place, &[]);
    let answer = match Question::get("the bucket's store", &url).ask(world).await {
        Ok(answer) => answer,
        Err(error) => {
            let error = gantry_core::error_chain::chain(&error);
            tracing::warn!(bucket = settings.bucket, "the region of the cache bucket is not known: {error}");
            return None;
        }
    };
    let header = answer.headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let constraint = element(&answer.text, "LocationConstraint").filter(|_| answer.status.is_success());
    let named = header.or(constraint).or_else(|| element(&answer.text, "Region"));
    match named.as_deref().map(str::trim) {
        None | Some("") if answer.status.is_server_error() => None,
        None | Some("") => Some(USUAL_REGION.to_owned()),
        Some("EU") => Some("eu-west-1".to_owned()),
        Some(region) => Some(region.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(settings: &S3Settings, region: &str) -> String {
        let address = Address::of(settings, region);
        format!("{}://{}{}", address.scheme, address.host, address.path("project/1/a b"))
    }

    #[test]
    fn addresses_of_buckets() {
        let amazon = S3Settings { bucket: "caches".into(), dual_stack: true, ..S3Settings::default() };
        let at = |address: &str| S3Settings { server_address: Some(address.into()), ..amazon.clone() };
        for (settings, region, expected) in [
            (amazon.clone(), "eu-west-1", "https://caches.s3.dualstack.eu-west-1.amazonaws.com/project/1/a%20b"),
            (
                at("s3.amazonaws.com"),
                "eu-west-1",
                "https://caches.s3.dualstack.eu-west-1.amazonaws.com/project/1/a%20b",
            ),
            (
                S3Settings { dual_stack: false, ..amazon.clone() },
                "cn-north-1",
                "https://caches.s3.cn-north-1.amazonaws.com.cn/project/1/a%20b",
            ),
            (
                S3Settings { accelerate: true, dual_stack: false, ..amazon.clone() },
                "us-east-1",
                "https://caches.s3-accelerate.amazonaws.com/project/1/a%20b",
            ),
            (
                S3Settings { bucket: "my.caches".into(), dual_stack: false, ..amazon.clone() },
                "us-east-1",
                "https://s3.us-east-1.amazonaws.com/my.caches/project/1/a%20b",
            ),
            (at("minio:9000"), "us-east-1", "https://minio:9000/caches/project/1/a%20b"),
            (S3Settings { insecure: true, ..at("minio:80") }, "us-east-1", "http://minio/caches/project/1/a%20b"),
            (
                S3Settings { path_style: Some(false), ..at("minio.example.com:443") },
                "us-east-1",
                "https://caches.minio.example.com/project/1/a%20b",
            ),
            (at("storage.googleapis.com"), "x", "https://caches.storage.googleapis.com/project/1/a%20b"),
            (at("oss-cn-hangzhou.aliyuncs.com"), "x", "https://caches.oss-cn-hangzhou.aliyuncs.com/project/1/a%20b"),
        ] {
            assert_eq!(url(&settings, region), expected);
        }
    }
}
