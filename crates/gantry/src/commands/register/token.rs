//! Which token registers how (GitLab Runner 19.4), and what GitLab answered. The decision is pure;
//! only [`register`] speaks to GitLab.

use anyhow::{anyhow, bail};
use gantry_core::Secret;
use gantry_gitlab::{CallError, Client, Registered, Registration, RunnerInfo, VerifyOutcome};

use super::values::Settings;
use crate::commands::coordinator::is_created;

/// The three ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A new runner is made with a registration token.
    RegistrationToken(Secret),
    /// A runner that was created in GitLab.
    Created(Secret),
    /// The authentication token of a runner that was registered before.
    Existing(Secret),
}

impl TokenKind {
    /// The token that is sent.
    pub(super) fn token(&self) -> &Secret {
        match self {
            Self::RegistrationToken(token) | Self::Created(token) | Self::Existing(token) => token,
        }
    }

    /// Whether GitLab has made something that was not there before, and that can be undone.
    pub(super) fn makes(&self, is_there: bool) -> bool {
        match self {
            Self::RegistrationToken(_) => true,
            // A manager of the runner, unless another entry has made it.
            Self::Created(_) => !is_there,
            Self::Existing(_) => false,
        }
    }

    /// What is said when GitLab has taken it (GitLab Runner 19.4): a token that was there before is
    /// only verified.
    pub(super) fn succeeded(&self) -> &'static str {
        match self {
            Self::RegistrationToken(_) => "Registering runner... succeeded",
            Self::Created(_) => "Verifying runner... is valid",
            Self::Existing(_) => "Verifying runner... is alive",
        }
    }
}

/// Chooses the way, and checks that what only works with a registration token is not asked for
/// without one.
///
/// # Errors
/// No token; or options that GitLab keeps itself, beside a token of `--token`.
pub(super) fn choose(settings: &Settings) -> anyhow::Result<TokenKind> {
    let (token, registration) = (settings.secret("token"), settings.secret("registration-token"));
    if !token.is_empty() {
        if !is_created(&token) {
            return Ok(TokenKind::Existing(token));
        }
        let kept = kept_by_gitlab(settings);
        if !kept.is_empty() {
            bail!(
                "{} cannot be given with a runner authentication token: they are set in GitLab, where the runner was created; leave them out, and their variables",
                kept.join(", ")
            );
        }
        return Ok(TokenKind::Created(token));
    }
    if registration.is_empty() {
        bail!("a token is needed: --token (glrt-…, of a runner created in GitLab) or --registration-token");
    }
    Ok(if is_created(&registration) {
        TokenKind::Created(registration)
    } else {
        TokenKind::RegistrationToken(registration)
    })
}

/// What is to be said of the way before it is gone.
pub(super) fn warning(settings: &Settings, way: &TokenKind) -> Option<String> {
    match way {
        TokenKind::Existing(_) => Some(
            "the token does not begin with glrt-: it is taken for that of a runner that was registered before, and no new runner is made"
                .to_owned(),
        ),
        TokenKind::RegistrationToken(_) => Some(
            "registration tokens are deprecated in GitLab: create the runner in GitLab and give its token with --token"
                .to_owned(),
        ),
        // Beside a token of --token there are none.
        TokenKind::Created(_) => Some(kept_by_gitlab(settings)).filter(|kept| !kept.is_empty()).map(|kept| {
            format!(
                "the registration token is a runner authentication token (glrt-…): {} are ignored, because they are set in GitLab",
                kept.join(", ")
            )
        }),
    }
}

/// Options that GitLab keeps for a runner that was created there (GitLab Runner 19.4).
fn kept_by_gitlab(settings: &Settings) -> Vec<&'static str> {
    let text = |long: &'static str| (!settings.text(long).is_empty()).then_some(long);
    let flag = |long: &'static str| settings.flag(long, false).then_some(long);
    let found = [
        (!settings.flag("locked", true)).then_some("locked"),
        text("access-level"),
        flag("run-untagged"),
        (settings.int("maximum-timeout") != 0).then_some("maximum-timeout"),
        flag("paused"),
        text("tag-list"),
        text("maintenance-note"),
    ];
    found.into_iter().flatten().collect()
}

/// What is told to GitLab with a registration token.
pub(super) fn attributes(settings: &Settings, name: &str) -> Registration {
    Registration {
        description: name.to_owned(),
        maintenance_note: settings.text("maintenance-note"),
        tag_list: settings.text("tag-list"),
        run_untagged: settings.flag("run-untagged", false),
        locked: settings.flag("locked", true),
        access_level: settings.text("access-level"),
        maximum_timeout: settings.int("maximum-timeout"),
        paused: settings.flag("paused", false),
    }
}

/// Who registers.
pub(super) struct Manager<'m> {
    pub(super) system_id: &'m str,
    pub(super) info: &'m RunnerInfo,
    pub(super) attributes: &'m Registration,
}

/// Goes the chosen way. The answer holds the token to keep.
///
/// # Errors
/// A sentence about what to change.
pub(super) async fn register(client: &Client, way: &TokenKind, manager: &Manager<'_>) -> anyhow::Result<Registered> {
    match way {
        TokenKind::RegistrationToken(token) => client.register(token, manager.attributes).await.map_err(refused),
        TokenKind::Created(token) => match client.verify(token, manager.system_id, manager.info).await {
            VerifyOutcome::Valid(answer) if answer.id != 0 => Ok(Registered { token: token.clone(), ..answer }),
            VerifyOutcome::Valid(_) => bail!("GitLab did not say which runner the token belongs to"),
            VerifyOutcome::Invalid { message } => Err(unknown_token(&message)),
            VerifyOutcome::Unsure { message } => bail!("the token could not be verified: {message}"),
        },
        TokenKind::Existing(token) => match client.verify(token, manager.system_id, manager.info).await {
            VerifyOutcome::Valid(answer) => Ok(Registered { token: token.clone(), ..answer }),
            VerifyOutcome::Invalid { message } => Err(unknown_token(&message)),
            VerifyOutcome::Unsure { message } => {
                tracing::warn!("the token could not be verified and is taken as it is: {message}");
                Ok(Registered { id: 0, token: token.clone(), token_expires_at: None })
            }
        },
    }
}

fn unknown_token(message: &str) -> anyhow::Error {
    anyhow!(
        "GitLab does not know the runner authentication token ({message}): was the runner deleted, or its token reset?"
    )
}

fn refused(error: CallError) -> anyhow::Error {
    match &error {
        CallError::Status { status: 403, message } => anyhow!(
            "GitLab refused the registration token ({message}): copy it again from the CI/CD settings of the instance, group or project; it may have been reset"
        ),
        CallError::Status { status: 410, message } => anyhow!(
            "this GitLab does not take registration tokens any more ({message}): create the runner in GitLab and give its token (glrt-…) with --token or CI_SERVER_TOKEN"
        ),
        _ => anyhow::Error::new(error).context("the runner could not be registered"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::commands::register::flags;

    fn decide(env: &[(&str, &str)]) -> anyhow::Result<TokenKind> {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned());
        choose(&Settings::read(&flags::all(), &BTreeMap::new(), &env).unwrap())
    }

    #[test]
    fn the_prefix_decides() {
        for token in ["GR1348941abc", "glrtr-abc", "FoN6VUuscn2tfbHJwdsada"] {
            let way = decide(&[("REGISTRATION_TOKEN", token), ("RUNNER_TAG_LIST", "a")]).unwrap();
            assert_eq!(way, TokenKind::RegistrationToken(token.into()));
            assert_eq!(decide(&[("CI_SERVER_TOKEN", token)]).unwrap(), TokenKind::Existing(token.into()));
        }
        assert_eq!(decide(&[("CI_SERVER_TOKEN", "glrt-a")]).unwrap(), TokenKind::Created("glrt-a".into()));
        let both = [("CI_SERVER_TOKEN", "glrt-a"), ("REGISTRATION_TOKEN", "GR1348941abc")];
        assert_eq!(decide(&both).unwrap(), TokenKind::Created("glrt-a".into()), "the newer way wins");
        assert!(decide(&[("CI_SERVER_TOKEN", "")]).unwrap_err().to_string().starts_with("a token is needed"));
    }

    #[test]
    fn options_of_gitlab() {
        let options = [("REGISTER_LOCKED", "false"), ("RUNNER_TAG_LIST", "a"), ("REGISTER_PAUSED", "")];
        let with = |token| [options.as_slice(), &[token]].concat();
        let error = decide(&with(("CI_SERVER_TOKEN", "glrt-secret"))).unwrap_err().to_string();
        assert!(error.starts_with("locked, paused, tag-list cannot be given"), "{error}");
        assert!(!error.contains("secret"));
        let way = decide(&with(("REGISTRATION_TOKEN", "glrt-a"))).unwrap();
        assert_eq!(way, TokenKind::Created("glrt-a".into()), "only a warning");
        assert!(decide(&[("CI_SERVER_TOKEN", "glrt-a"), ("REGISTER_LOCKED", "true")]).is_ok());
    }
}
