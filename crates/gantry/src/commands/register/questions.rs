//! What is still open after flags, variables and template: asked, in the order of the reference
//! (GitLab Runner 19.4), or refused when nobody is there to answer.

use std::io::{BufRead, Write};

use anyhow::bail;

use super::entry::Template;
use super::prompt::{Asker, Question};
use super::values::{Setting, Settings};
use crate::commands::coordinator::is_created;

/// The only executor.
const EXECUTOR: &str = "kubernetes";

/// Completes the settings, by questions unless `--non-interactive` is given.
///
/// # Errors
/// Something is missing or impossible, and cannot be asked for.
pub(super) fn complete(settings: &mut Settings, template: &Template) -> anyhow::Result<()> {
    if !settings.is_set("name") {
        settings.answer("name", Setting::Text(hostname()));
    }
    if !settings.flag("non-interactive", false) {
        let asker = Asker { input: std::io::stdin().lock(), output: std::io::stderr() };
        ask(asker, settings, template)?;
    }
    if settings.text("url").is_empty() && template.get("url").is_empty() {
        bail!("the URL of GitLab is needed: --url or CI_SERVER_URL");
    }
    let given = settings.text("executor");
    let executor = if given.is_empty() { template.get("executor") } else { given };
    check_executor(&executor).map_err(|problem| anyhow::anyhow!(problem))
}

/// Asks everything, with what is known offered as the answer.
fn ask(mut asker: Asker<impl BufRead, impl Write>, settings: &mut Settings, template: &Template) -> anyhow::Result<()> {
    let known = |settings: &Settings, long: &str| {
        Some(settings.text(long)).filter(|known| !known.is_empty()).unwrap_or_else(|| template.get(long))
    };
    let default = known(settings, "url");
    let question =
        Question { text: "URL of GitLab (such as https://gitlab.example.com)", default: &default, secret: false };
    let url = asker.ask(&question, needed)?;
    // The template's own address stays in the words of the template.
    if url != default || !settings.text("url").is_empty() {
        settings.answer("url", Setting::Text(url));
    }
    let given = settings.secret("token");
    let token = if given.is_empty() {
        let known = settings.secret("registration-token");
        let question =
            Question { text: "Token of the runner, or registration token", default: known.expose(), secret: true };
        let token = asker.ask(&question, needed)?.into();
        settings.answer("registration-token", Setting::Secret(token));
        settings.secret("registration-token")
    } else {
        given.clone()
    };
    let is_existing = !given.is_empty() && !is_created(&given);
    let mut questions = Vec::new();
    if !is_existing {
        questions.push(("name", "Name of the runner"));
    }
    if given.is_empty() && !is_created(&token) {
        questions.push(("tag-list", "Tags of jobs to take, separated by commas"));
        questions.push(("maintenance-note", "Note for administrators"));
    }
    for (long, text) in questions {
        let answer = asker.ask(&Question { text, default: &settings.text(long), secret: false }, |_| Ok(()))?;
        settings.answer(long, Setting::Text(answer));
    }
    let question = Question { text: "Executor (kubernetes)", default: &known(settings, "executor"), secret: false };
    let executor = asker.ask(&question, check_executor)?;
    settings.answer("executor", Setting::Text(executor));
    Ok(())
}

fn needed(answer: &str) -> Result<(), String> {
    if answer.is_empty() { Err("an answer is needed".to_owned()) } else { Ok(()) }
}

fn check_executor(executor: &str) -> Result<(), String> {
    match executor {
        EXECUTOR => Ok(()),
        "" => Err("the executor is needed: --executor kubernetes or RUNNER_EXECUTOR=kubernetes".to_owned()),
        other => {
            Err(format!("executor {other:?} is not supported: this runner runs jobs on Kubernetes only (kubernetes)"))
        }
    }
}

/// The name of this host, empty where it has none.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::commands::register::flags;

    fn asked(env: &[(&str, &str)], answers: &str) -> (anyhow::Result<Settings>, String) {
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, text)| (*text).to_owned());
        let mut settings = Settings::read(&flags::all(), &BTreeMap::new(), &env).unwrap();
        let mut shown = Vec::new();
        let asker = Asker { input: answers.as_bytes(), output: &mut shown };
        let result = ask(asker, &mut settings, &Template::empty());
        (result.map(|()| settings), String::from_utf8(shown).unwrap())
    }

    #[test]
    fn the_order_of_questions() {
        let (settings, shown) =
            asked(&[], "https://gitlab.example.com\nGR1348941x\nmine\na,b\nnote\ndocker\nkubernetes\n");
        let settings = settings.unwrap();
        assert_eq!(settings.text("url"), "https://gitlab.example.com");
        assert_eq!(settings.secret("registration-token").expose(), "GR1348941x");
        assert_eq!(
            (settings.text("tag-list"), settings.text("maintenance-note")),
            ("a,b".to_owned(), "note".to_owned())
        );
        assert!(shown.contains("\"docker\" is not supported"), "{shown}");
    }

    #[test]
    fn less_is_asked_for_tokens_of_created_runners() {
        let env = [
            ("CI_SERVER_URL", "https://gitlab.example.com"),
            ("CI_SERVER_TOKEN", "glrt-hidden"),
            ("RUNNER_EXECUTOR", "kubernetes"),
        ];
        let (settings, shown) = asked(&env, "\nmine\n\n");
        assert_eq!(settings.unwrap().text("name"), "mine");
        assert!(!shown.contains("Tags") && !shown.contains("hidden"), "{shown}");
        let (settings, _) = asked(&[], "");
        assert!(settings.unwrap_err().to_string().contains("--non-interactive"));
    }
}
