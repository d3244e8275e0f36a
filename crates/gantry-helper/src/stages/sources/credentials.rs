//! Settings for git that travel in the environment (`GIT_CONFIG_COUNT`, `GIT_CONFIG_KEY_n`, `GIT_CONFIG_VALUE_n`; git 2.31 and newer), so
//! that a token is never in a file, an argument or a remote. Submodules and git-lfs inherit them.

use gantry_core::Secret;
use gantry_wire::plan::Sources;
use gantry_wire::shim::SecretText;

/// One setting; for URL rewriting the key is the secret.
pub(crate) type Setting = (Secret, Secret);

/// The rules that put credentials into URLs as git uses them.
pub(crate) fn rules(sources: &Sources) -> Vec<Setting> {
    let rule = |with: &str, without: &str| (format!("url.{with}.insteadOf").into(), without.into());
    sources.credentials.iter().map(|found| rule(found.with.expose(), &found.without)).collect()
}

/// Settings as environment variables, after `before` others that the environment has already.
pub(crate) fn as_variables(settings: &[Setting], before: usize) -> Vec<(String, SecretText)> {
    if settings.is_empty() {
        return Vec::new();
    }
    let mut variables = vec![("GIT_CONFIG_COUNT".to_owned(), text((before + settings.len()).to_string()))];
    for (at, (key, value)) in settings.iter().enumerate() {
        let at = before + at;
        variables.push((format!("GIT_CONFIG_KEY_{at}"), SecretText(key.clone())));
        variables.push((format!("GIT_CONFIG_VALUE_{at}"), SecretText(value.clone())));
    }
    variables
}

/// How many settings `variables` have already: jobs may pass settings of their own this way.
pub(crate) fn count(variables: &[(String, SecretText)]) -> usize {
    variables
        .iter()
        .rev()
        .find(|(key, _)| key == "GIT_CONFIG_COUNT")
        .and_then(|(_, value)| value.0.expose().parse().ok())
        .unwrap_or(0)
}

fn text(value: String) -> SecretText {
    SecretText(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_job_stay() {
        let job = [("GIT_CONFIG_COUNT".to_owned(), text("2".into()))];
        let settings = [(Secret::new("a.b"), Secret::new("c"))];
        let variables = as_variables(&settings, count(&job));
        let shown: Vec<_> = variables.iter().map(|(key, value)| format!("{key}={}", value.0.expose())).collect();
        assert_eq!(shown, ["GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_2=a.b", "GIT_CONFIG_VALUE_2=c"]);
    }
}
