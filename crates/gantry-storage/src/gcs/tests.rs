use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::*;
use crate::encode::sha256_hex;
use crate::world::Route;

fn nobody() -> World {
    World {
        variable: Arc::new(|_| None),
        connect: Arc::new(|url, _: Route| panic!("{url} is asked for")),
        on_role: None,
    }
}

fn request(access: Access) -> ObjectRequest {
    ObjectRequest {
        name: "project/7/a b".into(),
        access,
        valid_for: Duration::from_secs(3600),
        key: "key-1".into(),
        most: Some(1000),
    }
}

/// Verifies a URL as the server would: from what is in it, with the public key, and with no code of
/// the signing.
fn verify(url: &str, method: &str, headers: &[(&str, &str)], public: &[u8]) {
    let (unsigned, signature) = url.split_once("&X-Goog-Signature=").unwrap();
    let rest = unsigned.strip_prefix("https://storage.googleapis.com").unwrap();
    let (path, query) = rest.split_once('?').unwrap();
    let mut canonical = format!("{method}\n{path}\n{query}\n");
    for (name, value) in headers {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let _ = write!(canonical, "\n{}\nUNSIGNED-PAYLOAD", names.join(";"));
    let text = format!(
        "GOOG4-RSA-SHA256\n20261128T120000Z\n20261128/auto/storage/goog4_request\n{}",
        sha256_hex(canonical.as_bytes())
    );
    let bytes: Vec<u8> =
        (0..signature.len() / 2).map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).unwrap()).collect();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(text.as_bytes(), &bytes).unwrap();
}

#[tokio::test]
async fn requests_are_signed_with_the_accounts_key() {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let pem = pair.serialize_pem();
    let public = key::Key::read(&pem, "test").unwrap().public();
    let now = "2026-11-28T12:00:00Z".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.json");
    let json = serde_json::json!({"type": "service_account", "client_email": "ci@p.iam.example", "private_key": pem});
    std::fs::write(&file, json.to_string()).unwrap();
    for key in [
        GcsKey::File(file.display().to_string()),
        GcsKey::Pair { access_id: "ci@p.iam.example".into(), private_key: Secret::new(pem.replace('\n', "\\n")) },
    ] {
        let settings = GcsSettings { bucket: "caches".into(), universe_domain: None, key };
        let bucket = Bucket::new(settings, nobody());
        let get = bucket.sign(&request(Access::Read), now).await.unwrap();
        assert!(get.url.expose().starts_with(
            "https://storage.googleapis.com/caches/project/7/a%20b?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=\
             ci%40p.iam.example%2F20261128%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20261128T120000Z&X-Goog-Expires=3600&\
             X-Goog-SignedHeaders=host&X-Goog-Signature="
        ));
        verify(get.url.expose(), "GET", &[("host", "storage.googleapis.com")], &public);
        let put = bucket.sign(&request(Access::Write), now).await.unwrap();
        let headers = [
            ("content-type", "application/octet-stream"),
            ("host", "storage.googleapis.com"),
            ("x-goog-content-length-range", "0,1000"),
            ("x-goog-meta-cachekey", "key-1"),
        ];
        verify(put.url.expose(), "PUT", &headers, &public);
        let sent: Vec<&str> = put.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(sent, ["content-type", "x-goog-content-length-range", "x-goog-meta-cachekey"]);
    }
}

#[tokio::test]
async fn keys_that_are_none_are_said_so_and_not_shown() {
    let now = Timestamp::UNIX_EPOCH;
    let settings = GcsSettings {
        bucket: "caches".into(),
        universe_domain: None,
        key: GcsKey::Pair { access_id: "a".into(), private_key: Secret::new("s3cret-text") },
    };
    let error = Bucket::new(settings, nobody()).sign(&request(Access::Read), now).await.unwrap_err().to_string();
    assert!(error.contains("PrivateKey") && !error.contains("s3cret"), "{error}");
    let settings =
        GcsSettings { key: GcsKey::File("/nowhere.json".into()), bucket: "b".into(), ..GcsSettings::default() };
    let error = Bucket::new(settings, nobody()).sign(&request(Access::Read), now).await.unwrap_err().to_string();
    assert!(error.contains("/nowhere.json"), "{error}");
}
