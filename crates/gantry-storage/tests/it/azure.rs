//! Azure without the key of the account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_storage::{Access, AzureSettings, Settings};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::world::{Net, ReceivedRequest, now, pairs, request};

#[tokio::test]
async fn a_delegated_key_signs() {
    let net = Net::new(|asked: &ReceivedRequest| match asked.url.host_str()? {
        "login.microsoftonline.com" => {
            assert_eq!(asked.url.path(), "/tenant/oauth2/v2.0/token");
            let form = asked.form();
            assert_eq!(
                (form["client_secret"].as_str(), form["scope"].as_str()),
                ("secret", "https://storage.azure.com/.default")
            );
            Some((200, None, r#"{"access_token": "tok3n"}"#.to_owned()))
        }
        "acme.blob.core.windows.net" => {
            assert_eq!(
                (asked.headers["authorization"].as_str(), asked.url.query()),
                ("Bearer tok3n", Some("restype=service&comp=userdelegationkey"))
            );
            Some((
                200,
                None,
                "<UserDelegationKey><SignedOid>oid</SignedOid><SignedTid>tid</SignedTid><SignedStart>a</SignedStart>\
                 <SignedExpiry>b</SignedExpiry><SignedService>b</SignedService><SignedVersion>2020-12-06</SignedVersion>\
                 <Value>a2V5</Value></UserDelegationKey>"
                    .to_owned(),
            ))
        }
        _ => None,
    });
    let settings = AzureSettings { account: "acme".into(), container: "caches".into(), ..AzureSettings::default() };
    let variables = [("AZURE_CLIENT_ID", "client"), ("AZURE_TENANT_ID", "tenant"), ("AZURE_CLIENT_SECRET", "secret")];
    let store = net.store(Settings::Azure(settings), &variables);
    for _ in 0..2 {
        let link = store.sign_at(&request(Access::Read), now()).await.unwrap();
        let pairs = pairs(link.url.expose());
        // As the documentation of user delegation writes it down, from what is in the URL.
        let text = format!(
            "{}\n{}\n{}\n/blob/acme/caches/project/7/key\n{}\n{}\n{}\n{}\n{}\n{}\n\n\n\n\n{}\n{}\n{}\n\n\n\n\n\n\n",
            pairs["sp"],
            pairs["st"],
            pairs["se"],
            pairs["skoid"],
            pairs["sktid"],
            pairs["skt"],
            pairs["ske"],
            pairs["sks"],
            pairs["skv"],
            pairs["spr"],
            pairs["sv"],
            pairs["sr"]
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
        mac.update(text.as_bytes());
        assert_eq!(pairs["sig"], STANDARD.encode(mac.finalize().into_bytes()));
    }
    assert_eq!(net.asked().len(), 2, "a key serves for days");
}
