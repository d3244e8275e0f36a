use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::*;
use crate::encode::hmac_sha256;
use crate::world::Route;

const KEY: &str = "a2V5IG9mIHRoZSBhY2NvdW50";

#[tokio::test]
async fn blobs_are_signed_with_the_accounts_key() {
    let world = World {
        variable: Arc::new(|_| None),
        connect: Arc::new(|url, _: Route| panic!("{url} is asked for")),
        on_role: None,
    };
    let settings =
        AzureSettings { account: "acme".into(), key: Some(Secret::new(KEY)), container: "caches".into(), domain: None };
    let container = Container::new(settings, world);
    let request = ObjectRequest {
        name: "project/7/a b".into(),
        access: Access::Write,
        valid_for: Duration::from_secs(3600),
        key: "k".into(),
        most: None,
    };
    let link = container.sign(&request, "2026-11-28T12:00:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(link.headers, [("x-ms-blob-type".to_owned(), "BlockBlob".to_owned())]);
    let url = Url::parse(link.url.expose()).unwrap();
    assert_eq!((url.host_str(), url.path()), (Some("acme.blob.core.windows.net"), "/caches/project/7/a%20b"));
    let pairs: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    // As the documentation of version 2020-12-06 writes it down, from what is in the URL.
    let text = format!(
        "{}\n{}\n{}\n/blob/acme/caches/project/7/a b\n\n\n{}\n{}\n{}\n\n\n\n\n\n\n",
        pairs["sp"], pairs["st"], pairs["se"], pairs["spr"], pairs["sv"], pairs["sr"]
    );
    assert_eq!(pairs["sig"], STANDARD.encode(hmac_sha256(&STANDARD.decode(KEY).unwrap(), &text)));
    assert_eq!((pairs["st"].as_str(), pairs["se"].as_str()), ("2026-11-28T11:00:00Z", "2026-11-28T13:00:00Z"));
    assert_eq!((pairs["sp"].as_str(), pairs["spr"].as_str(), pairs["sr"].as_str()), ("w", "https", "b"));
}
