//! AWS Secrets Manager, by the job's own web identity, or by the credentials of this process. A
//! `secret_id` that is the ARN of a parameter is read from the Parameter Store (`service.rs`).

mod service;
mod sign;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::job::AwsSecret;
use http::Method;
use serde_json::Value;

use crate::Store;
use crate::ask::Question;
use crate::error::SecretError;
use crate::text::{element, form, plain, server};
use crate::world::World;

use service::Service;
use sign::{Call, Keys};

/// For errors that come before anything is asked.
const WHO: &str = "AWS Secrets Manager";
const STS: &str = "AWS token service";

/// Longest name of a session that AWS takes.
const SESSION_NAME: usize = 64;

/// Longest part of a host's name.
const LONGEST_REGION: usize = 63;

/// The name of a session where nobody says another (GitLab Runner 19.4).
const USUAL_SESSION: &str = "${CI_JOB_ID}-${CI_PROJECT_ID}-${CI_SERVER_HOST}";

/// A secret of AWS.
pub(crate) struct Aws {
    secret_id: String,
    version_id: String,
    version_stage: String,
    field: String,
    region: String,
    role_arn: String,
    session: String,
    jwt: Secret,
}

impl Aws {
    pub(crate) fn new(secret: &AwsSecret, expand: &dyn Fn(&str) -> String) -> Self {
        let place = &secret.server;
        // What the secret itself says beats its server.
        let first = |own: &str, servers: &str| {
            let own = expand(own);
            if own.is_empty() { expand(servers) } else { own }
        };
        let session = first(&secret.role_session_name, &place.role_session_name);
        let session = if session.is_empty() { expand(USUAL_SESSION) } else { session };
        Self {
            secret_id: expand(&secret.secret_id),
            version_id: expand(&secret.version_id),
            version_stage: expand(&secret.version_stage),
            field: expand(&secret.field),
            region: first(&secret.region, &place.region),
            role_arn: first(&secret.role_arn, &place.role_arn),
            session: session.chars().take(SESSION_NAME).collect(),
            jwt: expand(place.jwt.expose()).into(),
        }
    }

    async fn get(&self, world: &World) -> Result<Secret, SecretError> {
        let service = Service::of(&self.secret_id);
        let region = Some(self.region.clone()).filter(|region| !region.is_empty());
        let region = region
            .or_else(|| Service::region(&self.secret_id))
            .or_else(|| world.get("AWS_REGION"))
            .or_else(|| world.get("AWS_DEFAULT_REGION"));
        let region = region.ok_or_else(|| {
            SecretError::Settings(format!("{WHO}: there is no region: set `region` of the secret, or AWS_REGION"))
        })?;
        // It is a part of the host that gets keys and tokens, and a job may name it.
        if !is_region(&region) {
            let what = format!("{WHO}: {region:?} is no region: those are like eu-west-1");
            return Err(SecretError::Settings(what));
        }
        let keys = self.keys(world, &region).await?;
        let body = service.body(&self.secret_id, &self.version_id, &self.version_stage);
        let url = endpoint(world, service.variable(), service.host(), &region);
        let call = Call {
            host: authority(&url),
            service: service.host(),
            region: &region,
            content_type: "application/x-amz-json-1.1",
            target: Some(service.target()),
            body: body.to_string(),
        };
        let headers = call.signed(&keys, (world.now)());
        let wish = "the read of the secret";
        let question = Question { who: service.who(), wish, method: Method::POST, url, headers, body: call.body };
        let answer = question.any(world).await?;
        if !answer.status.is_success() {
            let is_missing = service.is_missing(&answer.text);
            return Err(if is_missing { self.missing() } else { question.refused(&answer) });
        }
        let answer: Value = serde_json::from_str(&answer.text).map_err(|_| question.odd("it is not JSON"))?;
        let text = service.value(&answer).ok_or_else(|| question.odd("the secret is no text"))?;
        if self.field.is_empty() {
            return Ok(text.into());
        }
        let object: Value = serde_json::from_str(text).map_err(|_| {
            SecretError::Settings(format!(
                "{WHO}: {:?} is no JSON object, so it has no field {:?}",
                self.secret_id, self.field
            ))
        })?;
        match &object[self.field.as_str()] {
            Value::Array(_) | Value::Object(_) => Err(SecretError::Settings(format!(
                "{WHO}: field {:?} of {:?} is neither a text, a number nor a truth value",
                self.field, self.secret_id
            ))),
            value => plain(value).map(Secret::new).ok_or_else(|| self.missing()),
        }
    }

    fn missing(&self) -> SecretError {
        let field = if self.field.is_empty() { String::new() } else { format!("field {:?} of ", self.field) };
        SecretError::Missing {
            who: Service::of(&self.secret_id).who().to_owned(),
            what: format!("{field}{:?}", self.secret_id),
        }
    }

    /// The keys to sign with: of the role that the job's token opens, else of this process.
    async fn keys(&self, world: &World, region: &str) -> Result<Keys, SecretError> {
        if !self.jwt.is_empty() {
            if self.role_arn.is_empty() {
                return Err(SecretError::Settings(format!("{WHO}: a token needs a role: set role_arn of the secret")));
            }
            return self.assume(world, region, &self.role_arn, self.jwt.expose()).await;
        }
        if let (Some(id), Some(key)) = (world.get("AWS_ACCESS_KEY_ID"), world.get("AWS_SECRET_ACCESS_KEY")) {
            let session = world.get("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok(Keys { id, key: key.into(), session });
        }
        // What Amazon's clusters put into pods for service accounts with a role.
        let file = world.get("AWS_WEB_IDENTITY_TOKEN_FILE");
        if let (Some(file), Some(role)) = (file, world.get("AWS_ROLE_ARN")) {
            let token = tokio::fs::read_to_string(&file).await.map_err(|error| {
                SecretError::Settings(format!("{WHO}: AWS_WEB_IDENTITY_TOKEN_FILE cannot be read: {error}"))
            })?;
            return self.assume(world, region, &role, token.trim()).await;
        }
        Err(SecretError::Settings(format!(
            "{WHO}: there is nothing to log in with: add id_tokens to the job and name one as `token` of the secret, or give \
             this runner AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a service account with a role"
        )))
    }

    async fn assume(&self, world: &World, region: &str, role: &str, token: &str) -> Result<Keys, SecretError> {
        let body = form(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", &self.session),
            ("WebIdentityToken", token),
        ]);
        let question = Question {
            who: STS,
            wish: "the request for the role",
            method: Method::POST,
            url: endpoint(world, "STS", "sts", region),
            headers: vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())],
            body,
        };
        let answer = question.any(world).await?;
        if !answer.status.is_success() {
            let said = element(&answer.text, "Message").unwrap_or_else(|| crate::text::shortened(&answer.text));
            return Err(SecretError::Refused { who: STS.to_owned(), wish: question.wish, status: answer.status, said });
        }
        let get = |name: &str| element(&answer.text, name).ok_or_else(|| question.odd("it holds no credentials"));
        Ok(Keys {
            id: get("AccessKeyId")?,
            key: get("SecretAccessKey")?.into(),
            session: Some(get("SessionToken")?.into()),
        })
    }
}

impl Store for Aws {
    fn provider(&self) -> &'static str {
        "aws_secrets_manager"
    }

    fn fetch<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<Secret, SecretError>> {
        self.get(world).boxed()
    }
}

/// Whether this can be the name of a region, and nothing but a name.
fn is_region(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_REGION).contains(&text.len()) && text.bytes().all(is_part)
}

/// Where a service is: the variables of Amazon's own kits come first.
fn endpoint(world: &World, variable: &str, service: &str, region: &str) -> String {
    let own = world.get(&format!("AWS_ENDPOINT_URL_{variable}")).or_else(|| world.get("AWS_ENDPOINT_URL"));
    let top = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = own.unwrap_or_else(|| format!("https://{service}.{region}.{top}"));
    format!("{}/", url.trim_end_matches('/'))
}

/// Host and port as a request names them.
fn authority(url: &str) -> String {
    let port = url::Url::parse(url).ok().and_then(|url| url.port());
    port.map_or_else(|| server(url), |port| format!("{}:{port}", server(url)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stub::{Stub, fetch};

    const CREDENTIALS: &str = "<R><Credentials><AccessKeyId>AKID</AccessKeyId><SecretAccessKey>canary-key</SecretAccessKey>\
        <SessionToken>canary-session</SessionToken></Credentials></R>";

    fn secret(more: &Value) -> Value {
        let mut secret = json!({"secret_id": "prod/db", "field": "password", "server":
            {"region": "eu-west-1", "jwt": "$TOKEN", "role_arn": "arn:aws:iam::1:role/ci"}});
        for (key, value) in more.as_object().unwrap() {
            secret[key] = value.clone();
        }
        json!({"aws_secrets_manager": secret})
    }

    fn aws() -> Stub {
        Stub::new(&[
            ("TOKEN", "canary-jwt"),
            ("CI_JOB_ID", "7"),
            ("CI_PROJECT_ID", "8"),
            ("CI_SERVER_HOST", "gitlab.test"),
        ])
        .answers("POST https://sts.eu-west-1.amazonaws.com/", 200, CREDENTIALS)
    }

    #[tokio::test]
    async fn a_role_is_taken_and_a_field_read() {
        let read = "POST https://secretsmanager.eu-west-1.amazonaws.com/";
        let stub =
            aws().answers(read, 200, r#"{"SecretString": "{\"password\": \"s3cret\", \"port\": 5432, \"more\": []}"}"#);
        assert_eq!(fetch(&stub, &secret(&json!({}))).await.unwrap().expose(), "s3cret");
        assert_eq!(fetch(&stub, &secret(&json!({"field": "port"}))).await.unwrap().expose(), "5432");
        assert!(fetch(&stub, &secret(&json!({"field": "none"}))).await.unwrap_err().is_missing());
        assert!(
            fetch(&stub, &secret(&json!({"field": "more"}))).await.unwrap_err().to_string().contains("neither a text")
        );
        assert!(stub.request(0).body.contains("RoleSessionName=7-8-gitlab.test&"), "{}", stub.request(0).body);
        let read = stub.request(1);
        assert!(read.header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKID/20130524/eu-west-1/secretsmanager/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="));
        assert_eq!(
            (read.header("x-amz-security-token"), read.header("x-amz-target")),
            ("canary-session", "secretsmanager.GetSecretValue")
        );
    }

    #[tokio::test]
    async fn other_credentials_and_refusals() {
        let no_token = secret(&json!({"server": {"region": "eu-west-1"}, "field": ""}));
        let error = fetch(&Stub::new(&[]), &no_token).await.unwrap_err().to_string();
        assert!(error.contains("nothing to log in with"), "{error}");
        let own = Stub::new(&[]).variables(&[
            ("AWS_ACCESS_KEY_ID", "OWN"),
            ("AWS_SECRET_ACCESS_KEY", "k"),
            ("AWS_ENDPOINT_URL", "http://aws.test:4566"),
        ]);
        let own = own.answers("POST http://aws.test:4566/", 200, r#"{"SecretString": "whole"}"#);
        assert_eq!(fetch(&own, &no_token).await.unwrap().expose(), "whole");
        let refused = Stub::new(&[("TOKEN", "canary-jwt")]).answers(
            "POST https://sts.eu-west-1.amazonaws.com/",
            403,
            "<E><Error><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></E>",
        );
        let error = fetch(&refused, &secret(&json!({}))).await.unwrap_err();
        assert!(error.to_string().ends_with("Not authorized to perform sts:AssumeRoleWithWebIdentity"), "{error}");
        assert_eq!(error.kind(), crate::Kind::Configuration);
        let missing = aws().answers(
            "POST https://secretsmanager.eu-west-1.amazonaws.com/",
            400,
            r#"{"__type": "ResourceNotFoundException"}"#,
        );
        assert!(fetch(&missing, &secret(&json!({}))).await.unwrap_err().is_missing());
    }
    /// Keys and tokens of the runner go to no host that a job has made up.
    #[tokio::test]
    async fn a_region_is_a_name() {
        let own = Stub::new(&[]).variables(&[("AWS_ACCESS_KEY_ID", "OWN"), ("AWS_SECRET_ACCESS_KEY", "k")]);
        for region in
            ["evil.test/x", "evil.test#", "evil.test?", "x@evil.test", "evil.test:1", "EU", "a".repeat(64).as_str()]
        {
            let arn = format!("arn:aws:secretsmanager:{region}:1:secret:y");
            for more in [json!({"server": {"region": region}}), json!({"secret_id": arn, "server": {}})] {
                let error = fetch(&own, &secret(&more)).await.unwrap_err().to_string();
                assert!(error.contains("is no region"), "{region}: {error}");
            }
        }
        assert!(is_region("us-gov-west-1") && is_region("cn-north-1"));
    }

    #[tokio::test]
    async fn what_a_secret_says_is_not_what_the_answer_says() {
        let read = "POST https://secretsmanager.eu-west-1.amazonaws.com/";
        let stub = aws().answers(read, 200, r#"{"SecretString": "look for ResourceNotFoundException"}"#);
        let text = fetch(&stub, &secret(&json!({"field": ""}))).await.unwrap();
        assert_eq!(text.expose(), "look for ResourceNotFoundException");
    }

    #[tokio::test]
    async fn a_parameter_by_its_arn() {
        let arn = "arn:aws:ssm:eu-central-1:1:parameter/prod/db";
        let of = |more: &Value| {
            let mut all = json!({"secret_id": arn, "server": {"jwt": "$TOKEN", "role_arn": "arn:aws:iam::1:role/ci"}});
            for (key, value) in more.as_object().unwrap() {
                all[key] = value.clone();
            }
            secret(&all)
        };
        let read = "POST https://ssm.eu-central-1.amazonaws.com/";
        let found = r#"{"Parameter": {"Name": "x", "Value": "{\"password\": \"s3cret\"}"}}"#;
        let network = || aws().answers("POST https://sts.eu-central-1.amazonaws.com/", 200, CREDENTIALS);
        let stub = network().answers(read, 200, found);
        assert_eq!(fetch(&stub, &of(&json!({"version_id": "3"}))).await.unwrap().expose(), "s3cret");
        let asked = stub.request(1);
        assert_eq!(asked.header("x-amz-target"), "AmazonSSM.GetParameter");
        assert!(asked.header("authorization").contains("/eu-central-1/ssm/aws4_request"), "{asked:?}");
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body, json!({"Name": format!("{arn}:3"), "WithDecryption": true}));
        let none = network().answers(read, 400, r#"{"__type": "ParameterNotFound"}"#);
        let error = fetch(&none, &of(&json!({}))).await.unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("Parameter Store"), "{error}");
    }
}
