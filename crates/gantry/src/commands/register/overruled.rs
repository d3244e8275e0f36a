//! Keys of a template that a flag or a variable overrules. Pure.

use toml_edit::{Item, TableLike, Value};

use super::flags::Flag;
use super::values::{Setting, Settings};

/// The keys of the entry that do not count, because a flag or a variable says something else. The
/// name is not among them: that of a template never counts.
pub(super) fn keys(
    flags: &[Flag],
    settings: &Settings,
    template: &dyn TableLike,
    env: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut keys = Vec::new();
    for flag in flags.iter().filter(|flag| !flag.path.is_empty() && flag.long != "name") {
        let Some(setting) = settings.of(flag) else { continue };
        for (path, wanted) in values(&flag.path, setting) {
            let found = find(template, &path).and_then(|item| item.clone().into_value().ok());
            let is_same = |found: &Value| match (found.as_str(), wanted.as_str()) {
                // The only key that is expanded and that may be given.
                (Some(found), Some(wanted)) if flag.long == "url" => {
                    gantry_core::variables::expand(found, env) == wanted
                }
                _ => same(found, &wanted),
            };
            if found.is_some_and(|found| !is_same(&found)) {
                keys.push(format!("runners.{}", path.join(".")));
            }
        }
    }
    keys
}

/// What a setting writes, and where: tables are written key by key.
fn values(path: &[String], setting: &Setting) -> Vec<(Vec<String>, Value)> {
    let below = |key: &String| path.iter().chain([key]).cloned().collect();
    let whole = |value: Value| vec![(path.to_vec(), value)];
    match setting {
        Setting::Text(text) => whole(text.as_str().into()),
        Setting::Secret(secret) => whole(secret.expose().into()),
        Setting::Int(number) => whole((*number).into()),
        Setting::Bool(value) => whole((*value).into()),
        Setting::List(list) => whole(Value::Array(list.iter().map(String::as_str).collect())),
        Setting::Ints(_) | Setting::HostAliases(_) => {
            setting.structure().map(|array| whole(Value::Array(array))).unwrap_or_default()
        }
        Setting::Map(map) => map.iter().map(|(key, text)| (below(key), text.as_str().into())).collect(),
        Setting::Switches(map) => map.iter().map(|(key, value)| (below(key), (*value).into())).collect(),
        Setting::Counts(map) => map.iter().map(|(key, number)| (below(key), (*number).into())).collect(),
    }
}

/// What is at a path, whatever the case of its keys.
fn find<'t>(table: &'t dyn TableLike, path: &[String]) -> Option<&'t Item> {
    let (first, rest) = path.split_first()?;
    let any_case = || table.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, item)| item);
    let item = table.get(first).or_else(any_case)?;
    if rest.is_empty() { Some(item) } else { find(item.as_table_like()?, rest) }
}

/// Whether two values say the same. One text is the same as a list of it.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => left.value() == right.value(),
        (Value::Integer(left), Value::Integer(right)) => left.value() == right.value(),
        (Value::Boolean(left), Value::Boolean(right)) => left.value() == right.value(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::InlineTable(left), Value::InlineTable(right)) => {
            let has_same = |(key, value)| right.get(key).is_some_and(|other| same(value, other));
            left.len() == right.len() && left.iter().all(has_same)
        }
        (one @ Value::String(_), Value::Array(list)) => {
            list.len() == 1 && list.iter().all(|element| same(one, element))
        }
        _ => false,
    }
}
