//! How the job token reaches git: by rules that put it into URLs, in a file that belongs to this
//! pod alone. The repositories that the runner makes include that file, so that the rules hold
//! however a script cleans its environment or changes its user, and a repository that outlives the
//! pod includes nothing. The rules are for the project and its submodules only. What else a script
//! asks the same server for is its own affair first (`.netrc`, credential helpers, other tokens),
//! and within the work tree a helper offers the job token where it has nothing.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use gantry_core::Secret;
use gantry_wire::plan::{GitCredential, Sources};
use gantry_wire::shim::SecretText;

use crate::process::handed::quote;

/// One setting; for URL rewriting the key is the secret.
pub(crate) type Setting = (Secret, Secret);

/// The rules for whole servers, for as long as submodules are fetched whose URLs nobody knows yet.
pub(super) fn for_servers(sources: &Sources) -> Vec<Setting> {
    sources.credentials.iter().map(setting).collect()
}

fn setting(rule: &GitCredential) -> Setting {
    (format!("url.{}.insteadOf", rule.with.expose()).into(), rule.without.as_str().into())
}

/// Writes the file with the rules for the project itself and for `submodules`, which are URLs. It
/// appears complete, because it may be in use.
pub(super) fn write(path: &Path, sources: &Sources, submodules: &[String]) -> io::Result<()> {
    let own: &[String] = &sources.own_urls;
    let own = if own.is_empty() { std::slice::from_ref(&sources.url) } else { own };
    let rules = own.iter().chain(submodules).filter_map(|url| exact(url, &sources.credentials));
    let section = |rule: GitCredential| {
        format!("[url {}]\n\tinsteadOf = {}\n", quoted(rule.with.expose()), quoted(&rule.without))
    };
    replace(path, &rules.map(section).collect::<String>())
}

/// Writes the file with the helper for whatever else is on the servers of the project.
pub(super) fn write_helper(path: &Path, sources: &Sources) -> io::Result<()> {
    replace(path, &sources.credentials.iter().filter_map(helper).collect::<String>())
}

/// A section with a helper that knows the user and password of `rule`. It is silent where a script
/// has said by whom git is to be told them, but for helpers that git asks before it.
fn helper(rule: &GitCredential) -> Option<String> {
    let server = rule.without.strip_suffix('/').filter(|url| url.starts_with("http"))?;
    let (scheme, host) = server.split_once("://")?;
    let with = rule.with.expose().strip_prefix(scheme)?.strip_prefix("://")?;
    let (user, password) = with.strip_suffix('/')?.strip_suffix(host)?.strip_suffix('@')?.split_once(':')?;
    if rule.with.expose().contains(|c: char| c.is_control()) {
        return None;
    }
    let others = format!(
        "git config core.askPass; git config --local --get-urlmatch credential.helper {url}; \
         git config --show-scope --get-regexp '^credential[.].*helper$' | grep '^command'",
        url = quote(server)
    );
    let command = format!(
        "!f() {{ [ \"$1\" = get ] && [ -z \"$GIT_ASKPASS$({others})\" ] && ! grep '^username=' | grep -qvx {name} \
         && printf '%s\\n' {name} {password}; }} 2>/dev/null; f",
        name = quote(&format!("username={user}")),
        password = quote(&format!("password={password}")),
    );
    Some(format!("[credential {}]\n\thelper = {}\n", quoted(server), quoted(&command)))
}

/// Writes a file of settings.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let hidden = path.with_extension("new");
    remove(&hidden)?;
    // Every user of the build container may become the one who calls git.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&hidden)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&hidden, path)
}

/// Removes the file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The rule for one URL, from that for its server. Git compares beginnings only: `g/a.git` is also
/// that of `g/a.github.io.git`.
fn exact(url: &str, servers: &[GitCredential]) -> Option<GitCredential> {
    if url.contains(|c: char| c.is_control()) {
        return None;
    }
    let rule = servers.iter().filter(|rule| url.starts_with(&rule.without)).max_by_key(|rule| rule.without.len())?;
    let rest = url.get(rule.without.len()..).filter(|rest| !rest.is_empty())?;
    Some(GitCredential { with: format!("{}{rest}", rule.with.expose()).into(), without: url.to_owned() })
}

/// A string of git's configuration.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The setting that includes the file.
pub(crate) fn include(path: &Path) -> Setting {
    ("include.path".into(), path.to_string_lossy().into_owned().into())
}

/// Settings as environment variables (git 2.31 and newer), after `before` others that the
/// environment has already. Processes that git starts for submodules and for git-lfs inherit them.
pub(crate) fn as_variables(settings: &[Setting], before: usize) -> Vec<(String, SecretText)> {
    if settings.is_empty() {
        return Vec::new();
    }
    // A job may say any number. Git refuses one that is too large, and says why.
    let count = before.saturating_add(settings.len());
    let mut variables = vec![("GIT_CONFIG_COUNT".to_owned(), text(count.to_string()))];
    for (at, (key, value)) in settings.iter().enumerate() {
        let at = before.saturating_add(at);
        variables.push((format!("GIT_CONFIG_KEY_{at}"), SecretText(key.clone())));
        variables.push((format!("GIT_CONFIG_VALUE_{at}"), SecretText(value.clone())));
    }
    variables
}

/// Those of `settings` that `variables` do not pass on yet.
pub(crate) fn missing(settings: &[Setting], variables: &[(String, SecretText)]) -> Vec<Setting> {
    let value = |key: &str| variables.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &value.0);
    // A job may say any number.
    let passed: Vec<_> = (0..count(variables))
        .map_while(|at| value(&format!("GIT_CONFIG_KEY_{at}")).zip(value(&format!("GIT_CONFIG_VALUE_{at}"))))
        .collect();
    let is_missing = |(key, value): &&Setting| {
        !passed.iter().any(|(name, of)| name.expose() == key.expose() && of.expose() == value.expose())
    };
    settings.iter().filter(is_missing).cloned().collect()
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

    #[test]
    fn settings_are_passed_on_once() {
        let setting = |key: &str| (Secret::new(key), Secret::new("c"));
        let settings = [setting("a.b"), setting("d.e")];
        let mut variables = as_variables(&settings, 0);
        assert!(missing(&settings, &variables).is_empty());
        // A hook begins anew.
        variables.push(("GIT_CONFIG_COUNT".to_owned(), text("1".into())));
        assert_eq!(missing(&settings, &variables), [setting("d.e")]);
        assert_eq!(missing(&settings, &[]), settings);
    }

    /// More than git takes, which git itself says best.
    #[test]
    fn a_number_of_settings_that_nobody_has_stays_one() {
        let job = [("GIT_CONFIG_COUNT".to_owned(), text(usize::MAX.to_string()))];
        let settings = [(Secret::new("a.b"), Secret::new("c")), (Secret::new("d.e"), Secret::new("f"))];
        let variables = as_variables(&settings, count(&job));
        assert_eq!(variables[0].1.0.expose(), usize::MAX.to_string());
    }

    #[test]
    fn a_rule_is_for_one_url() {
        let server = |with: &str, without: &str| GitCredential { with: with.into(), without: without.to_owned() };
        let servers = [
            server("https://u:t@h/", "https://h/"),
            server("https://u:t@h/sub/", "https://h/sub/"),
            server("https://u:t@h/", "git@h:"),
        ];
        for (url, with) in [
            ("https://h/g/p.git", Some("https://u:t@h/g/p.git")),
            ("https://h/sub/g/p.git", Some("https://u:t@h/sub/g/p.git")),
            ("git@h:g/p.git", Some("https://u:t@h/g/p.git")),
            ("https://h/", None),
            ("https://other/g/p.git", None),
            ("https://h/g\n[core]", None),
        ] {
            let rule = exact(url, &servers);
            assert_eq!(rule.as_ref().map(|rule| rule.with.expose()), with, "{url}");
            assert!(rule.is_none_or(|rule| rule.without == url));
        }
    }

    #[test]
    fn a_helper_knows_the_token_of_one_server() {
        let rule = |with: &str, without: &str| GitCredential { with: with.into(), without: without.to_owned() };
        let text = helper(&rule("https://u:t'@h:8443/", "https://h:8443/")).unwrap();
        assert!(text.starts_with("[credential \"https://h:8443\"]\n\thelper = \"!f() { "), "{text}");
        assert!(text.contains(r"'username=u' 'password=t'\\''';") && text.lines().count() == 2, "{text}");
        for (with, without) in
            [("https://u:t@h/", "git@h:"), ("https://u:t@other/", "https://h/"), ("https://u:t\n@h/", "https://h/")]
        {
            assert_eq!(helper(&rule(with, without)), None);
        }
    }

    #[test]
    fn strings_cannot_end_early() {
        assert_eq!(quoted("a\"b\\c"), r#""a\"b\\c""#);
    }
}
