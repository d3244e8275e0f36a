//! Stores as the official runner names them where it signs no requests: an address of Go's
//! `gocloud.dev/blob`, and a file with keys for the one object (GitLab Runner 19.4: Azure always,
//! S3 where a role is assumed). The requests are signed here, and sent by whoever moves caches.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::Secret;
use gantry_core::error_chain::chain;
use gantry_core::feature_flags::parse_bool;
use gantry_http::{HttpTransport, Options, Transport};
use gantry_storage::{
    Access, Credentials, Encryption, ObjectRequest, Parts, S3Access, S3Settings, Settings, Store, World,
};
use gantry_wire::cache::{PartsUpload, S3Parts, SignedRequest};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Fatal, Flags};

/// How long a signature lives: as long as the keys that the runner gives.
const VALID_FOR: Duration = Duration::from_hours(1);

/// Where Azure is, unless the runner says something else.
const AZURE_DOMAIN: &str = "blob.core.windows.net";

/// Largest blob that Azure takes in one request, in bytes (5000 MiB).
const AZURE_SINGLE_PUT: u64 = 5000 * 1024 * 1024;

/// The request that gets or puts the object of the flag `name`, if that is given.
pub(super) fn request(flags: &Flags, name: &str, access: Access) -> Result<Option<SignedRequest>, Fatal> {
    let Some(address) = flags.get(name) else { return Ok(None) };
    let wrong = |what: &str| format!("--{name} cannot be used: {what}");
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    let keys = Keys::read(flags.get("env-file"))?;
    match url.scheme() {
        "azblob" => azure(&url, &keys, access),
        "s3" => s3(&url, &keys, access),
        scheme => Err(format!("this helper knows no stores of the scheme {scheme:?}, only azblob and s3")),
    }
    .map(Some)
    .map_err(|what| wrong(&what))
}

/// What the runner has written to the file of `--env-file`, and the environment behind it.
struct Keys(BTreeMap<String, String>);

impl Keys {
    fn read(file: Option<&str>) -> Result<Self, Fatal> {
        let text = file.map(fs::read_to_string).transpose();
        let text = text.map_err(|error| format!("the file of --env-file cannot be read: {error}"))?;
        Ok(Self(text.unwrap_or_default().lines().filter_map(variable).collect()))
    }

    fn get(&self, name: &str) -> Option<String> {
        let value = self.0.get(name).cloned().or_else(|| std::env::var(name).ok());
        value.filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<String, String> {
        self.get(name).ok_or_else(|| format!("{name} is neither in the file of --env-file nor in the environment"))
    }
}

/// A line such as `NAME="value"`, whose value has `\"`, `\\`, `\n` and `\r` for what they stand
/// for.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().split_once('=')?;
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return Some((name.to_owned(), value.to_owned()));
    };
    let (mut value, mut letters) = (String::new(), quoted.chars());
    while let Some(letter) = letters.next() {
        value.push(match letter {
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                other => other,
            },
            letter => letter,
        });
    }
    Some((name.to_owned(), value))
}

/// A blob, with the access signature that the runner has made for it.
fn azure(url: &Url, keys: &Keys, access: Access) -> Result<SignedRequest, String> {
    let container = url.host_str().ok_or("it names no container")?;
    let (account, signature) = (keys.need("AZURE_STORAGE_ACCOUNT")?, keys.need("AZURE_STORAGE_SAS_TOKEN")?);
    let domain = keys.get("AZURE_STORAGE_DOMAIN").unwrap_or_else(|| AZURE_DOMAIN.to_owned());
    let (path, signature) = (url.path(), signature.trim_start_matches('?'));
    let url = Secret::new(format!("https://{account}.{domain}/{container}{path}?{signature}"));
    Ok(match access {
        Access::Read => SignedRequest { url, ..SignedRequest::default() },
        Access::Write => SignedRequest {
            url,
            headers: vec![("x-ms-blob-type".to_owned(), "BlockBlob".to_owned())],
            most_bytes: Some(AZURE_SINGLE_PUT),
            parts: Some(PartsUpload::Azure),
        },
    })
}

/// An object of S3, for which the runner has assumed a role.
fn s3(url: &Url, keys: &Keys, access: Access) -> Result<SignedRequest, String> {
    let query: BTreeMap<_, _> = url.query_pairs().collect();
    let text = |name: &str| query.get(name).filter(|value| !value.is_empty()).map(|value| value.clone().into_owned());
    let is_on = |name: &str| text(name).and_then(|text| parse_bool(&text)).unwrap_or(false);
    let endpoint = text("endpoint");
    let settings = S3Settings {
        insecure: endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
        path_style: Some(is_on("use_path_style") || is_on("hostname_immutable")),
        server_address: endpoint,
        bucket: url.host_str().ok_or("it names no bucket")?.to_owned(),
        region: text("region").or_else(|| keys.get("AWS_REGION")),
        dual_stack: is_on("dualstack"),
        accelerate: is_on("accelerate"),
        access: S3Access::Keys(Credentials {
            access_key: keys.need("AWS_ACCESS_KEY_ID")?,
            secret_key: Secret::new(keys.need("AWS_SECRET_ACCESS_KEY")?),
            session_token: keys.get("AWS_SESSION_TOKEN").map(Secret::new),
        }),
        encryption: text("ssetype").and_then(|kind| Encryption::of_header(&kind)),
        encryption_key: text("kmskeyid"),
        role: None,
    };
    let connect = |url: &Url, _| Ok(Arc::new(HttpTransport::new(url, Options::default())?) as Arc<dyn Transport>);
    let world =
        World { variable: Arc::new(|name| std::env::var(name).ok()), connect: Arc::new(connect), on_role: None };
    let request = ObjectRequest {
        name: percent_decode_str(url.path().trim_start_matches('/')).decode_utf8_lossy().into_owned(),
        access,
        valid_for: VALID_FOR,
        key: String::new(),
        // Of any size, so in parts, as the official helper does.
        most: Some(u64::MAX),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let signed = runtime.block_on(Store::new(Settings::S3(Box::new(settings)), world).sign(&request));
    let link = signed.map_err(|error| chain(&error))?;
    let parts = match link.parts {
        Some(Parts::S3(gantry_storage::S3Parts { before_number, after_number, signatures, complete, abort })) => {
            Some(PartsUpload::S3(S3Parts { before_number, after_number, signatures, complete, abort }))
        }
        _ => None,
    };
    Ok(SignedRequest { url: link.url, headers: link.headers, most_bytes: link.most, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Keys {
        Keys(text.lines().filter_map(variable).collect())
    }

    #[test]
    fn lines_of_the_file_are_read_as_the_runner_writes_them() {
        let keys = keys("A=\"b\\\"c\\\\d\\ne\"\nB=plain\n\nC=\"\"\nno variable");
        assert_eq!(keys.0.get("A").map(String::as_str), Some("b\"c\\d\ne"));
        assert_eq!((keys.get("B").as_deref(), keys.get("C"), keys.0.len()), (Some("plain"), None, 3));
    }

    #[test]
    fn a_blob_of_azure_has_the_runners_signature() {
        let keys =
            keys("AZURE_STORAGE_ACCOUNT=\"acc\"\nAZURE_STORAGE_DOMAIN=\"\"\nAZURE_STORAGE_SAS_TOKEN=\"sv=1&sig=a%2B\"");
        let url = Url::parse("azblob://caches/runner/x/project/7/a%20key").unwrap();
        let request = azure(&url, &keys, Access::Write).unwrap();
        let expected = "https://acc.blob.core.windows.net/caches/runner/x/project/7/a%20key?sv=1&sig=a%2B";
        assert_eq!((request.url.expose(), &request.parts), (expected, &Some(PartsUpload::Azure)));
        assert!(azure(&url, &super::tests::keys(""), Access::Read).unwrap_err().contains("AZURE_STORAGE_ACCOUNT"));
    }

    #[test]
    fn an_object_of_s3_is_signed_with_the_keys_of_its_role() {
        let keys = keys("AWS_ACCESS_KEY_ID=\"AKI\"\nAWS_SECRET_ACCESS_KEY=\"s\"\nAWS_SESSION_TOKEN=\"t/1\"");
        for (address, expected) in [
            (
                "s3://b/project/7/a%20key?awssdk=v2&region=eu-west-1&dualstack=true",
                "https://b.s3.dualstack.eu-west-1.amazonaws.com/project/7/a%20key?",
            ),
            (
                "s3://b/k?awssdk=v2&endpoint=http%3A%2F%2Fminio%3A9000&hostname_immutable=true&region=r&use_path_style=true",
                "http://minio:9000/b/k?",
            ),
        ] {
            let request = s3(&Url::parse(address).unwrap(), &keys, Access::Read).unwrap();
            let url = request.url.expose();
            assert!(url.starts_with(expected) && url.contains("X-Amz-Security-Token=t%2F1"), "{url}");
            assert!(url.contains("X-Amz-Credential=AKI%2F"), "{url}");
        }
    }
}
