//! The configuration of a single run, in a directory that ends with it: one entry, one job at a
//! time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use gantry_config::Problem;
use gantry_config::edit::{Editor, Value};
use jiff::Timestamp;

use super::args::{RunSingleArgs, all};
use crate::commands::config_path;
use crate::commands::register::entry::{self, Identity, Template};
use crate::commands::register::values::Settings;
use crate::commands::runner_file::{self, env};

/// A single run.
pub(super) struct Single {
    /// Its configuration.
    pub(super) config: PathBuf,
    /// Jobs after which it ends.
    pub(super) max_builds: Option<u32>,
    /// Time without a job after which it ends.
    pub(super) wait_timeout: Option<Duration>,
}

/// Writes the configuration into `directory`.
///
/// # Errors
/// A flag cannot be read, or what they say cannot work.
pub(super) fn make(args: &RunSingleArgs, directory: &Path) -> anyhow::Result<Single> {
    let flags = all();
    let settings = Settings::read(&flags, &args.given, &env)?;
    let source = config_path::or_default(Some(PathBuf::from(settings.text("config"))));
    let number = |long: &str| -> anyhow::Result<Option<u32>> {
        let number = settings.int(long);
        let number = u32::try_from(number).with_context(|| format!("--{long}: {number} is not a number from 0 on"))?;
        Ok(Some(number).filter(|number| *number > 0))
    };
    let name = settings.text("runner");
    let entry = if name.is_empty() {
        let identity =
            Identity { id: None, token: settings.secret("token"), obtained: Timestamp::UNIX_EPOCH, expires: None };
        entry::text(&flags, &settings, &Template::empty(), &identity)?
    } else {
        runner_file::entry_of(&source, &name)?
    };
    let text = text(&entry, number("shutdown-timeout")?)?;
    check(&text, name.is_empty())?;
    let config = directory.join("config.toml");
    runner_file::save(&config, &text)?;
    link_certificates(&source, directory)?;
    let wait_timeout = number("wait-timeout")?.map(|seconds| Duration::from_secs(seconds.into()));
    Ok(Single { config, max_builds: number("max-builds")?, wait_timeout })
}

/// The text of the whole file.
fn text(entry: &str, shutdown_timeout: Option<u32>) -> anyhow::Result<String> {
    let mut editor = Editor::parse(entry)?;
    let path = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    editor.set(&path(&["concurrent"]), &Value::Int(1))?;
    editor.set(&path(&["shutdown_timeout"]), &Value::Int(shutdown_timeout.unwrap_or(0).into()))?;
    // As the reference does: who starts a single run waits for its jobs, and nobody takes them
    // over.
    editor.set(&path(&["gantry", "on_terminate"]), &Value::Text("abort".to_owned()))?;
    Ok(editor.text())
}

/// Says what is wrong in words of flags, before anything is started.
fn check(text: &str, is_from_flags: bool) -> anyhow::Result<()> {
    let loaded = gantry_config::load(text, &env).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let place = |problem: &Problem| {
        let key = problem.path.strip_prefix("runners[0].").unwrap_or(&problem.path);
        let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let flag = if is_from_flags { "--" } else { "" };
        format!("{flag}{key}: {}{hint}", problem.message)
    };
    let problems: Vec<String> = loaded.unusable.iter().flat_map(|entry| &entry.errors).map(place).collect();
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(())
}

/// Certificates by host are looked for beside the configuration that was meant.
fn link_certificates(source: &Path, directory: &Path) -> anyhow::Result<()> {
    let beside = std::path::absolute(source)?.with_file_name("certs");
    if beside.is_dir() {
        std::os::unix::fs::symlink(&beside, directory.join("certs"))
            .with_context(|| format!("{} cannot be used", beside.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let entry = |name: &str| {
            format!(
                "[[runners]]\nname = \"{name}\"\nurl = \"http://{name}\"\ntoken = \"$PATH\"\nexecutor = \"kubernetes\"\n"
            )
        };
        std::fs::write(&file, format!("concurrent = 9\n{}{}", entry("a"), entry("b"))).unwrap();
        let text = text(&runner_file::entry_of(&file, "b").unwrap(), Some(5)).unwrap();
        assert!(text.contains("concurrent = 1\n") && text.contains("shutdown_timeout = 5\n"), "{text}");
        assert!(text.contains("http://b") && !text.contains("http://a") && text.contains("$PATH"), "{text}");
        check(&text, false).unwrap();
        assert!(runner_file::entry_of(&file, "c").unwrap_err().to_string().contains("\"c\" is not in config"));
    }

    #[test]
    fn what_is_missing_is_named_by_its_flag() {
        let error = check("[[runners]]\ntoken = \"x\"\nexecutor = \"kubernetes\"\n", true).unwrap_err().to_string();
        assert!(error.starts_with("--url: is missing"), "{error}");
    }
}
