//! Google Cloud Storage without a key of our own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_storage::{Access, GcsSettings, Settings};

use crate::world::{Net, ReceivedRequest, now, request};

#[tokio::test]
async fn googles_own_service_signs_for_the_account_of_a_pod() {
    let net = Net::new(|asked: &ReceivedRequest| {
        let path = asked.url.path();
        if let Some(what) = path.strip_prefix("/computeMetadata/v1/instance/service-accounts/default/") {
            assert_eq!(asked.headers["metadata-flavor"], "Google");
            let token = r#"{"access_token": "tok3n", "expires_in": 3000}"#;
            return Some((200, None, if what == "email" { "ci@p.iam.example".into() } else { token.into() }));
        }
        assert_eq!(asked.url.host_str(), Some("iamcredentials.googleapis.com"));
        assert_eq!(
            (path, asked.headers["authorization"].as_str()),
            ("/v1/projects/-/serviceAccounts/ci@p.iam.example:signBlob", "Bearer tok3n")
        );
        let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        let text = STANDARD.decode(body["payload"].as_str().unwrap()).unwrap();
        assert!(text.starts_with(b"GOOG4-RSA-SHA256\n20261128T120000Z\n20261128/auto/storage/goog4_request\n"));
        Some((200, None, r#"{"signedBlob": "AQL/"}"#.to_owned()))
    });
    let settings = GcsSettings { bucket: "caches".into(), ..GcsSettings::default() };
    let store = net.store(Settings::Gcs(settings), &[]);
    for _ in 0..2 {
        let link = store.sign_at(&request(Access::Read), now()).await.unwrap();
        assert!(link.url.expose().ends_with("&X-Goog-Signature=0102ff"), "{}", link.url.expose());
    }
    assert_eq!(net.asked().len(), 4, "the account is asked for once, and each signature");
}
