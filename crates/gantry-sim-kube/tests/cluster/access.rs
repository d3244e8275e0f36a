//! Tokens and roles.

use std::collections::BTreeMap;

use gantry_sim_kube::{Config, Error, SimKube};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::{
    Api,
    api::{AttachParams, DeleteParams, ListParams, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{LOOK, TIMEOUT, World, never, sh};

fn refusal<T>(result: kube::Result<T>) -> (u16, String) {
    match result.err().expect("refused") {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn roles_are_enforced_in_kubernetes_own_words() {
    let world = World::new().await;
    let secrets: Api<Secret> = Api::namespaced(world.runner(), "ci");
    let (code, message) = refusal(secrets.get("x").await);
    assert_eq!(code, 403);
    assert_eq!(
        message,
        r#"secrets "x" is forbidden: User "system:serviceaccount:ci:runner" cannot get resource "secrets" in API group "" in the namespace "ci""#
    );
    let elsewhere: Api<Pod> = Api::namespaced(world.runner(), "default");
    assert_eq!(refusal(elsewhere.list(&ListParams::default()).await).0, 403);
    assert!(world.pods().list(&ListParams::default()).await.is_ok());
    assert_eq!(refusal(world.pods().get("x").await), (404, r#"pods "x" not found"#.to_owned()));
    world.stop().await;
}

#[tokio::test]
async fn a_token_ends_with_its_account() {
    let world = World::new().await;
    let nobody: Api<Pod> = Api::namespaced(world.client("nonsense"), "ci");
    assert_eq!(refusal(nobody.get("x").await).0, 401);
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin(), "ci");
    accounts.delete("runner", &DeleteParams::default()).await.expect("deleted");
    assert_eq!(refusal(world.pods().get("x").await).0, 401);
    world.stop().await;
}

#[tokio::test]
async fn newer_clusters_ask_for_create_to_exec() {
    let world = World::with(|config| config.exec_needs_create = true).await;
    let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get"]}]});
    let roles: Api<k8s_openapi::api::rbac::v1::Role> = Api::namespaced(world.admin(), "ci");
    world.pod("p", never(&json!([sh("a", "sleep 600")]))).await;
    assert!(crate::exec::until_it_works(&world, "p", "a").await);
    roles.patch("runner", &PatchParams::default(), &kube::api::Patch::Merge(rules)).await.expect("patched");
    let error = world.pods().exec("p", ["true"], &AttachParams::default()).await.err().expect("refused");
    assert!(format!("{error:?}").contains("403"), "{error:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_one_clear_error() {
    let world = World::new().await;
    let address = world.url.trim_start_matches("https://").parse().expect("an address");
    let error = SimKube::bind(Config::new(address, "/bin/false")).await.expect_err("the port is taken");
    assert!(matches!(error, Error::PortInUse { addr } if addr == address));
    world.stop().await;
}

#[tokio::test]
async fn a_connection_needs_no_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let sim = SimKube::bind(Config::new(([127, 0, 0, 1], 0).into(), "/bin/false")).await.expect("bound");
    let (mut client, server) = tokio::io::duplex(4_096);
    let connector = sim.connector();
    let request = format!(
        "GET /api/v1/namespaces/default HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        sim.admin_token()
    );
    let ask = async {
        client.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("read");
        answer
    };
    let (answer, ()) = tokio::join!(ask, connector.serve(server));
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(r#""phase":"Active""#), "{answer}");
}

/// What the controller of tokens has put into a Secret, as text.
async fn filled(secrets: &Api<Secret>, name: &str) -> BTreeMap<String, String> {
    let filled = async {
        loop {
            let data = secrets.get(name).await.expect("the Secret").data.unwrap_or_default();
            if data.contains_key("token") {
                return data.into_iter().map(|(key, value)| (key, String::from_utf8(value.0).expect("text"))).collect();
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(TIMEOUT, filled).await.expect("the Secret is filled")
}

#[tokio::test]
async fn a_secret_for_a_service_accounts_token_is_filled() {
    let world = World::new().await;
    let secrets: Api<Secret> = Api::namespaced(world.admin(), "ci");
    let secret = |name: &str, annotations: Value| {
        let object = json!({"type": "kubernetes.io/service-account-token",
            "metadata": {"name": name, "annotations": annotations}});
        serde_json::from_value::<Secret>(object).expect("a Secret")
    };
    let error = secrets.create(&PostParams::default(), &secret("nobodys", json!({}))).await.expect_err("refused");
    assert!(error.to_string().contains("metadata.annotations[kubernetes.io/service-account.name]: Required value"));
    let runners = secret("runner-token", json!({"kubernetes.io/service-account.name": "runner"}));
    secrets.create(&PostParams::default(), &runners).await.expect("created");
    let data = filled(&secrets, "runner-token").await;
    assert_eq!((data["namespace"].as_str(), &data["ca.crt"]), ("ci", &world.ca));
    let pods: Api<Pod> = Api::namespaced(world.client(&data["token"]), "ci");
    pods.list(&ListParams::default()).await.expect("the token is the runner's");
    // With the account the Secret goes, and with the Secret the token.
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin(), "ci");
    accounts.delete("runner", &DeleteParams::default()).await.expect("deleted");
    tokio::time::timeout(TIMEOUT, async {
        while secrets.get_opt("runner-token").await.expect("an answer").is_some() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .expect("the Secret goes");
    assert_eq!(refusal(pods.list(&ListParams::default()).await).0, 401);
    world.stop().await;
}

#[tokio::test]
async fn before_1_24_every_service_account_has_a_token_in_a_secret() {
    let world = World::with(|config| config.version = (1, 20)).await;
    let secrets: Api<Secret> = Api::namespaced(world.admin(), "ci");
    let name = tokio::time::timeout(TIMEOUT, async {
        let accounts: Api<ServiceAccount> = Api::namespaced(world.admin(), "ci");
        loop {
            let account = accounts.get("runner").await.expect("the account");
            if let Some(name) = account.secrets.unwrap_or_default().into_iter().find_map(|secret| secret.name) {
                return name;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    let name = name.await.expect("a Secret");
    assert!(name.starts_with("runner-token-"), "{name}");
    let pods: Api<Pod> = Api::namespaced(world.client(&filled(&secrets, &name).await["token"]), "ci");
    pods.list(&ListParams::default()).await.expect("the token is the runner's");
    world.stop().await;
}
