//! Keys for S3: from the environment, a file, a pod, a container, a machine; roles for one object;
//! regions.

use gantry_storage::{Access, RoleEvent, RoleSettings, S3Settings, Settings, StoreError};

use crate::world::{Net, ReceivedRequest, StubAnswer, now, pairs, request};

fn bucket() -> S3Settings {
    S3Settings { bucket: "caches".into(), region: Some("eu-west-1".into()), ..S3Settings::default() }
}

fn s3(settings: S3Settings) -> Settings {
    Settings::S3(Box::new(settings))
}

/// When temporary keys end.
const END: &str = "2026-11-28T13:00:00Z";

fn credentials(key: &str) -> String {
    format!(
        "<R><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t/{key}</SessionToken>\
         <Expiration>{END}</Expiration></Credentials></R>"
    )
}

fn json(key: &str) -> String {
    format!(
        r#"{{"AccessKeyId": "{key}", "SecretAccessKey": "s", "Token": "t/{key}", "Expiration": "2026-11-28T18:00:00Z"}}"#
    )
}

fn ok(body: String) -> StubAnswer {
    (200, None, body)
}

/// Who has signed, and with which session token.
async fn signer(
    net: &Net,
    settings: S3Settings,
    variables: &[(&str, &str)],
) -> Result<(String, Option<String>), StoreError> {
    let link = net.store(s3(settings), variables).sign_at(&request(Access::Read), now()).await?;
    let pairs = pairs(link.url.expose());
    let key = pairs["X-Amz-Credential"].split('/').next().unwrap().to_owned();
    Ok((key, pairs.get("X-Amz-Security-Token").cloned()))
}

#[tokio::test]
async fn keys_are_found_in_the_order_of_amazons_kits() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let token = file("token", "web-identity-token\n");
    let profiles = file("credentials", "[ci]\naws_access_key_id=OFFILE\naws_secret_access_key=s\n");
    let container = file("container", "container-token");
    let net = Net::new(|asked: &ReceivedRequest| match (asked.url.host_str()?, asked.url.path()) {
        ("sts.us-east-1.amazonaws.com", "/") => {
            let form = asked.form();
            assert_eq!(
                (form["Action"].as_str(), form["WebIdentityToken"].as_str()),
                ("AssumeRoleWithWebIdentity", "web-identity-token")
            );
            Some(ok(credentials("OFPOD")))
        }
        ("169.254.170.23", "/v1/credentials") => {
            assert_eq!(asked.headers["authorization"], "container-token");
            Some(ok(json("OFCONTAINER")))
        }
        ("169.254.169.254", "/latest/api/token") => {
            assert_eq!(
                (asked.method.as_str(), asked.headers["x-aws-ec2-metadata-token-ttl-seconds"].as_str()),
                ("PUT", "21600")
            );
            Some(ok("imds-token".to_owned()))
        }
        ("169.254.169.254", path) => {
            assert_eq!(asked.headers["x-aws-ec2-metadata-token"], "imds-token");
            match path.strip_prefix("/latest/meta-data/iam/security-credentials/")? {
                "" => Some(ok("runner-role\n".to_owned())),
                "runner-role" => Some(ok(json("OFMACHINE"))),
                _ => None,
            }
        }
        _ => None,
    });
    let environment = [("AWS_ACCESS_KEY_ID", "OFENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
    let pod = [("AWS_ROLE_ARN", "arn:r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str())];
    let profile = [("AWS_SHARED_CREDENTIALS_FILE", profiles.as_str()), ("AWS_PROFILE", "ci")];
    let in_container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", container.as_str()),
    ];
    let all = [&environment[..], &pod, &profile, &in_container];
    let expected =
        [("OFENV", Some("t")), ("OFPOD", Some("t/OFPOD")), ("OFFILE", None), ("OFCONTAINER", Some("t/OFCONTAINER"))];
    for (number, (key, token)) in expected.into_iter().enumerate() {
        let variables = all[number..].concat();
        assert_eq!(signer(&net, bucket(), &variables).await.unwrap(), (key.to_owned(), token.map(str::to_owned)));
    }
    let machine = signer(&net, bucket(), &[("HOME", "/nowhere")]).await.unwrap();
    assert_eq!(machine, ("OFMACHINE".to_owned(), Some("t/OFMACHINE".to_owned())));
}

#[tokio::test]
async fn a_machine_without_keys_is_told_what_to_do() {
    let net = Net::new(|_| None);
    let error = signer(&net, bucket(), &[]).await.unwrap_err().to_string();
    assert!(error.contains("AccessKey") && error.contains("AWS_ACCESS_KEY_ID") && error.contains("role"), "{error}");
}

#[tokio::test]
async fn a_role_is_assumed_for_one_object() {
    let net = Net::new(|asked: &ReceivedRequest| {
        let form = asked.form();
        assert_eq!((form["Action"].as_str(), form["RoleArn"].as_str()), ("AssumeRole", "arn:aws:iam::1:role/cache"));
        assert!(
            asked.headers["authorization"]
                .starts_with("AWS4-HMAC-SHA256 Credential=OWN/20261128/eu-west-1/sts/aws4_request")
        );
        let action = if form["Policy"].contains("s3:PutObject") { "PUT" } else { "GET" };
        assert!(form["Policy"].contains("\"arn:aws:s3:::caches/project/7/key\""), "{}", form["Policy"]);
        Some(ok(credentials(&format!("ROLE{action}"))))
    });
    let own = [("AWS_ACCESS_KEY_ID", "OWN"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let role = |keeps| Some(RoleSettings { arn: "arn:aws:iam::1:role/cache".into(), concurrency: Some(5), keeps });
    let store = net.store(s3(S3Settings { role: role(true), ..bucket() }), &own);
    for (access, key) in [(Access::Read, "ROLEGET"), (Access::Write, "ROLEPUT"), (Access::Read, "ROLEGET")] {
        let mut request = request(access);
        request.valid_for = std::time::Duration::from_secs(600);
        let link = store.sign_at(&request, now()).await.unwrap();
        assert!(pairs(link.url.expose())["X-Amz-Credential"].starts_with(&format!("{key}/")));
        assert_eq!(link.ends, Some(END.parse().unwrap()), "a request ends with the keys behind it");
    }
    assert_eq!(net.asked().len(), 2, "what a role has brought is used again");
    let counted = net.roles.lock().unwrap().clone();
    let asked = |event: &&RoleEvent| matches!(event, RoleEvent::Asked { .. });
    let granted = |event: &&RoleEvent| matches!(event, RoleEvent::Over { granted: true, .. });
    assert_eq!((counted.iter().filter(asked).count(), counted.iter().filter(granted).count()), (2, 2));
    assert_eq!(counted.last(), Some(&RoleEvent::Reused));
    let kept = |event: &RoleEvent| if let RoleEvent::Kept(more) = event { *more } else { 0 };
    assert_eq!(counted.iter().map(kept).sum::<i64>(), 2);
    drop(store);
    assert_eq!(net.roles.lock().unwrap().iter().map(kept).sum::<i64>(), 0);
    let store = net.store(s3(S3Settings { role: role(false), ..bucket() }), &own);
    for _ in 0..2 {
        store.sign_at(&request(Access::Read), now()).await.unwrap();
    }
    assert_eq!(net.asked().len(), 4, "unless that is switched off");
}

#[tokio::test]
async fn the_region_is_asked_for_until_the_store_has_said_something() {
    for (answer, region) in [
        ((200, None, "<LocationConstraint>eu-north-1</LocationConstraint>".to_owned()), "eu-north-1"),
        ((200, None, "<LocationConstraint>EU</LocationConstraint>".to_owned()), "eu-west-1"),
        ((200, None, "<LocationConstraint/>".to_owned()), "us-east-1"),
        ((403, Some(("x-amz-bucket-region", "ap-south-1")), String::new()), "ap-south-1"),
        (
            (
                400,
                None,
                "<Error><Code>AuthorizationHeaderMalformed</Code><Region>sa-east-1</Region></Error>".to_owned(),
            ),
            "sa-east-1",
        ),
        ((500, None, String::new()), "us-east-1"),
    ] {
        let status = answer.0;
        tokio::time::pause();
        let net = Net::new(move |asked: &ReceivedRequest| {
            assert_eq!(asked.url.path(), "/caches");
            Some(answer.clone())
        });
        let own = [("AWS_ACCESS_KEY_ID", "OWN"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let store = net.store(s3(S3Settings { region: None, ..bucket() }), &own);
        let mut questions = Vec::new();
        for _ in 0..2 {
            let link = store.sign_at(&request(Access::Read), now()).await.unwrap();
            assert!(
                pairs(link.url.expose())["X-Amz-Credential"].contains(&format!("/{region}/")),
                "{}",
                link.url.expose()
            );
            questions.push(net.asked().len());
        }
        // Each question is tried several times where the store is not well.
        let asked_again = if status < 500 { 0 } else { questions[0] };
        assert_eq!(questions[1] - questions[0], asked_again, "{region}");
        tokio::time::resume();
    }
}
