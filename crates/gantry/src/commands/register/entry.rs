//! The text of a new `[[runners]]` entry: what flags, variables and GitLab say, over what a
//! template says. Pure.

use anyhow::{Context as _, bail};
use gantry_config::edit::{Editor, Value};
use gantry_core::Secret;
use gantry_daemon::config_write;
use jiff::Timestamp;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike};

use super::flags::Flag;
use super::overruled;
use super::values::{Setting, Settings};

/// What GitLab said about the runner, or what stands for it while it has not been asked.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: Option<i64>,
    pub(crate) token: Secret,
    pub(crate) obtained: Timestamp,
    /// `None` for a token that does not expire.
    pub(crate) expires: Option<Timestamp>,
}

/// Keys that are GitLab's to say; those of a template belong to another runner.
const GIVEN_BY_GITLAB: [&str; 4] = ["id", "token", "token_obtained_at", "token_expires_at"];

/// A file whose only `[[runners]]` entry fills what is not given otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
}

impl Template {
    /// The template that fills nothing.
    pub(crate) fn empty() -> Self {
        Self { text: "\n[[runners]]\n".to_owned() }
    }

    /// Reads a template. What it says outside of the entry is not used.
    ///
    /// # Errors
    /// It is not TOML, or has another number of entries than one.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut document = document(&Editor::parse(text)?.text())?;
        if let Some(idle) = idle(&document) {
            tracing::warn!("{idle}");
        }
        document.retain(|key, _| key.eq_ignore_ascii_case("runners"));
        let Some((key, mut entries)) = take_entries(&mut document) else {
            bail!("it has no [[runners]] entry, and must have exactly one")
        };
        let count = entries.len();
        let Some(entry) = entries.get_mut(0).filter(|_| count == 1) else {
            bail!("it has {count} [[runners]] entries, and must have exactly one")
        };
        entry.retain(|key, _| !GIVEN_BY_GITLAB.iter().any(|given| key.eq_ignore_ascii_case(given)));
        if entry.decor().prefix().and_then(|prefix| prefix.as_str()).is_none_or(str::is_empty) {
            entry.decor_mut().set_prefix("\n");
        }
        document.insert(&key, Item::ArrayOfTables(entries));
        Ok(Self { text: document.to_string() })
    }

    /// Its text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Which of its keys a flag or a variable overrules, in one line.
    pub(super) fn overruled(
        &self,
        flags: &[Flag],
        settings: &Settings,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let (_, entries) = take_entries(&mut document(&self.text).ok()?)?;
        let keys = overruled::keys(flags, settings, entries.get(0)?, env);
        (!keys.is_empty()).then(|| {
            format!(
                "of the template these do not count, because a flag or a variable says otherwise: {}",
                keys.join(", ")
            )
        })
    }

    /// The text of one of its keys, empty where it has none.
    pub(super) fn get(&self, key: &str) -> String {
        let Ok(mut document) = document(&self.text) else { return String::new() };
        let entry = take_entries(&mut document).and_then(|(_, entries)| entries.into_iter().next());
        let found = entry.as_ref().and_then(|entry| find(entry, key)).and_then(Item::as_str);
        found.unwrap_or_default().to_owned()
    }
}

/// What a template says in vain, in one line.
fn idle(template: &DocumentMut) -> Option<String> {
    let is = |key: &str, names: &[&str]| names.iter().any(|name| key.eq_ignore_ascii_case(name));
    let outside = template.iter().map(|(key, _)| key).filter(|key| !is(key, &["runners"])).map(str::to_owned);
    let entries = take_entries(&mut template.clone()).map(|(_, entries)| entries);
    let of_entry = entries.iter().flat_map(|entries| entries.iter().flat_map(Table::iter)).map(|(key, _)| key);
    let of_entry = of_entry.filter(|key| is(key, &GIVEN_BY_GITLAB) || is(key, &["name"]));
    let keys: Vec<String> = outside.chain(of_entry.map(|key| format!("runners.{key}"))).collect();
    (!keys.is_empty()).then(|| {
        format!(
            "of the template these have no effect: {} (it is for the entry alone, whose name is --name, and whose token is GitLab's)",
            keys.join(", ")
        )
    })
}

fn document(text: &str) -> anyhow::Result<DocumentMut> {
    text.parse().context("it is not TOML")
}

fn take_entries(document: &mut DocumentMut) -> Option<(String, ArrayOfTables)> {
    let key = document.iter().map(|(key, _)| key.to_owned()).find(|key| key.eq_ignore_ascii_case("runners"))?;
    let entries = document.remove(&key)?.into_array_of_tables().ok()?;
    Some((key, entries))
}

/// A key of a table, whatever its case.
fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Item> {
    table.get(key).or_else(|| table.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, item)| item))
}

/// The entry's text, beginning with an empty line or the template's comments.
///
/// # Errors
/// The template has something other than a table where one is needed.
pub(crate) fn text(
    flags: &[Flag],
    settings: &Settings,
    template: &Template,
    identity: &Identity,
) -> anyhow::Result<String> {
    let mut editor = Editor::parse(&template.text)?;
    let mut structured = Vec::new();
    for place in places(flags) {
        match place {
            EntryItem::Identity => put_identity(&mut editor, identity)?,
            EntryItem::Key(flag) => {
                let Some(setting) = settings.of(flag) else { continue };
                put(&mut editor, &flag.path, setting)?;
                structured.extend(setting.structure().map(|array| (flag.path.as_slice(), array)));
            }
        }
    }
    if structured.is_empty() {
        return Ok(editor.text());
    }
    let mut document = document(&editor.text())?;
    for (path, array) in structured {
        replace(&mut document, path, array)?;
    }
    Ok(document.to_string())
}

/// What is written at a place of the entry.
enum EntryItem<'f> {
    Key(&'f Flag),
    Identity,
}

/// The keys in the order in which the reference writes them.
fn places(flags: &[Flag]) -> Vec<EntryItem<'_>> {
    let named = |long: &'static str| flags.iter().filter(move |flag| flag.long == long);
    let is_elsewhere = |flag: &Flag| ["name", "url", "executor"].contains(&flag.long.as_str());
    let keys: Vec<&Flag> = flags.iter().filter(|flag| !flag.path.is_empty() && !is_elsewhere(flag)).collect();
    let before = |long: &str| keys.iter().position(|flag| flag.long == long).unwrap_or(0);
    let (connection, behaviour) = (before("tls-ca-file"), before("builds-dir"));
    let some = |range: std::ops::Range<usize>| keys.get(range).unwrap_or_default().iter().copied();
    let first = named("name").chain(some(0..connection)).chain(named("url")).map(EntryItem::Key);
    let then = some(connection..behaviour).chain(named("executor")).chain(some(behaviour..keys.len()));
    first.chain([EntryItem::Identity]).chain(then.map(EntryItem::Key)).collect()
}

fn put_identity(editor: &mut Editor, identity: &Identity) -> anyhow::Result<()> {
    let id = identity.id.map(Value::Int);
    let values = [
        ("id", id),
        ("token", Some(Value::Secret(identity.token.clone()))),
        ("token_obtained_at", Some(Value::Time(identity.obtained))),
        ("token_expires_at", Some(Value::Time(identity.expires.unwrap_or_else(config_write::never)))),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            editor.set_runner(0, &[key.to_owned()], &value)?;
        }
    }
    Ok(())
}

/// Writes one setting. What has more structure than the editor can write is left empty here; see
/// [`Setting::structure`].
fn put(editor: &mut Editor, path: &[String], setting: &Setting) -> anyhow::Result<()> {
    let mut set = |value: Value| editor.set_runner(0, path, &value);
    match setting {
        Setting::Text(text) => set(Value::Text(text.clone()))?,
        Setting::Secret(secret) => set(Value::Secret(secret.clone()))?,
        Setting::Int(number) => set(Value::Int(*number))?,
        Setting::Bool(value) => set(Value::Bool(*value))?,
        Setting::List(list) => set(Value::List(list.clone()))?,
        Setting::Ints(_) | Setting::HostAliases(_) => set(Value::List(Vec::new()))?,
        // Key by key: those that only the template has stay.
        Setting::Map(map) => {
            put_all(editor, path, map.iter().map(|(key, text)| (key, Value::Text(text.clone()))))?;
        }
        Setting::Switches(map) => {
            put_all(editor, path, map.iter().map(|(key, value)| (key, Value::Bool(*value))))?;
        }
        Setting::Counts(map) => {
            put_all(editor, path, map.iter().map(|(key, number)| (key, Value::Int(*number))))?;
        }
    }
    Ok(())
}

fn put_all<'k>(
    editor: &mut Editor,
    path: &[String],
    pairs: impl Iterator<Item = (&'k String, Value)>,
) -> anyhow::Result<()> {
    for (key, value) in pairs {
        let path: Vec<String> = path.iter().chain([key]).cloned().collect();
        editor.set_runner(0, &path, &value)?;
    }
    Ok(())
}

/// Puts a list in the place that [`put`] made for it.
fn replace(document: &mut DocumentMut, path: &[String], array: Array) -> anyhow::Result<()> {
    let runners = document.iter_mut().find(|(key, _)| key.get().eq_ignore_ascii_case("runners"));
    let entry = runners.and_then(|(_, item)| item.as_array_of_tables_mut()?.get_mut(0));
    let mut table: Option<&mut dyn TableLike> = entry.map(|entry| entry as _);
    let (last, above) = path.split_last().context("a key has no name")?;
    for key in above {
        table = table.and_then(|table| find_mut(table, key)?.as_table_like_mut());
    }
    let value = table.and_then(|table| find_mut(table, last)?.as_value_mut());
    let value = value.with_context(|| format!("{} cannot be written", path.join(".")))?;
    *value = array.into();
    Ok(())
}

fn find_mut<'t>(table: &'t mut dyn TableLike, key: &str) -> Option<&'t mut Item> {
    let name = if table.contains_key(key) {
        key.to_owned()
    } else {
        table.iter().map(|(name, _)| name).find(|name| name.eq_ignore_ascii_case(key))?.to_owned()
    };
    table.get_mut(&name)
}

/// The text of a configuration with one more entry. What was there before is not changed by a
/// single byte.
///
/// # Errors
/// The file is such that an entry cannot simply be appended.
pub(super) fn appended(existing: &str, entry: &str) -> anyhow::Result<String> {
    let count = |text: &str| anyhow::Ok(Editor::parse(text)?.runners(&|_| None).len());
    let line_end = if existing.is_empty() || existing.ends_with('\n') { "" } else { "\n" };
    let text = format!("{existing}{line_end}{entry}");
    if count(&text).ok() != Some(count(existing)? + 1) {
        bail!("an entry cannot be appended to it: write its runners as [[runners]] tables");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
