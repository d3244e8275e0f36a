//! Changes to the text of a `config.toml` that keep comments, order, unknown keys and `$VAR`
//! references. GitLab Runner 19.4 writes the whole file anew instead, and with it every expanded
//! secret in clear.
//!
//! Pure like the rest of the crate: whoever calls this writes the file (with mode 0600: it holds
//! tokens).

use std::collections::BTreeMap;

use gantry_core::{Secret, variables};
use jiff::Timestamp;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value as TomlValue};

/// A value to write.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// A string that must not be shown. It is written in clear, as the file format wants it.
    Secret(Secret),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
    /// A point in time, written in UTC with whole seconds.
    Time(Timestamp),
    /// A list of strings.
    List(Vec<String>),
    /// A table of strings.
    Map(BTreeMap<String, String>),
    /// A table of booleans, for feature flags.
    Flags(BTreeMap<String, bool>),
}

/// One key of a new entry: its path below the entry, such as `["kubernetes", "host"]`, and its
/// value.
pub type KeyValue = (Vec<String>, Value);

/// Why a text cannot be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    /// The text is not TOML.
    #[error("line {line}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// The parser's words, in one line.
        message: String,
    },
    /// Something other than a table stands where one is needed.
    #[error("{path} is not a table")]
    NotATable {
        /// The key.
        path: String,
    },
    /// There is no such entry.
    #[error("there is no runner number {index}")]
    NoSuchRunner {
        /// From 0.
        index: usize,
    },
}

/// What identifies a `[[runners]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRef {
    /// Its place in the file, from 0.
    pub index: usize,
    /// `name`, empty where absent.
    pub name: String,
    /// `url`, expanded.
    pub url: String,
    /// `token`, expanded.
    pub token: Secret,
    /// `executor`, empty where absent.
    pub executor: String,
    /// `id`, where there is one above 0.
    pub id: Option<u64>,
}

/// The text of a new file, as `register` makes it.
pub fn new_file(concurrent: u32) -> String {
    format!(
        "concurrent = {concurrent}\ncheck_interval = 0\nshutdown_timeout = 0\n\n[session_server]\n  session_timeout = 1800\n"
    )
}

/// A file that is being changed.
#[derive(Clone)]
pub struct Editor {
    document: DocumentMut,
}

/// Shows nothing: the document holds tokens.
impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor").finish_non_exhaustive()
    }
}

impl Editor {
    /// Reads the text of a file. Values are not checked, only the syntax.
    ///
    /// # Errors
    /// [`EditError::Syntax`], or [`EditError::NotATable`] where `runners` is not a list of tables.
    pub fn parse(text: &str) -> Result<Self, EditError> {
        let mut document = text.parse::<DocumentMut>().map_err(|error| EditError::Syntax {
            line: error.span().map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1),
            message: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        })?;
        make_tables(&mut document)?;
        Ok(Self { document })
    }

    /// The text of the file as it is now.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// The runner entries, in order. `env` answers for `$VAR` in `url` and `token`, so that they
    /// can be compared with expanded ones.
    pub fn runners(&self, env: &dyn Fn(&str) -> Option<String>) -> Vec<RunnerRef> {
        let text =
            |table: &Table, key| table.get(&name_of(table, key)).and_then(Item::as_str).unwrap_or_default().to_owned();
        let reference = |(index, table): (usize, &Table)| RunnerRef {
            index,
            name: text(table, "name"),
            url: variables::expand(&text(table, "url"), env),
            token: Secret::new(variables::expand(&text(table, "token"), env)),
            executor: text(table, "executor"),
            id: table
                .get(&name_of(table, "id"))
                .and_then(Item::as_integer)
                .and_then(|id| u64::try_from(id).ok())
                .filter(|id| *id > 0),
        };
        self.entries().into_iter().flat_map(ArrayOfTables::iter).enumerate().map(reference).collect()
    }

    /// Adds a `[[runners]]` entry at the end of the list, with its keys in the given order and
    /// tables after plain values.
    ///
    /// # Errors
    /// [`EditError::NotATable`] if two of the paths contradict each other.
    pub fn add_runner(&mut self, keys: &[KeyValue]) -> Result<(), EditError> {
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        for (path, value) in keys {
            put(&mut table, path, value, 1)?;
        }
        let name = name_of(&*self.document, "runners");
        let item = self.document.entry(&name).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut().ok_or(EditError::NotATable { path: name })?.push(table);
        Ok(())
    }

    /// Removes the entries that `chosen` picks and says how many they were. Comments directly above
    /// a removed entry go with it.
    pub fn remove_runners(
        &mut self,
        mut chosen: impl FnMut(&RunnerRef) -> bool,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> usize {
        let places: Vec<usize> =
            self.runners(env).iter().filter(|runner| chosen(runner)).map(|runner| runner.index).collect();
        let name = name_of(&*self.document, "runners");
        if let Some(list) = self.document.get_mut(&name).and_then(Item::as_array_of_tables_mut) {
            for index in places.iter().rev() {
                list.remove(*index);
            }
            if list.is_empty() {
                self.document.remove(&name);
            }
        }
        places.len()
    }

    /// Sets a key outside the runners, making tables on the way.
    ///
    /// # Errors
    /// [`EditError::NotATable`].
    pub fn set(&mut self, path: &[String], value: &Value) -> Result<(), EditError> {
        put(self.document.as_table_mut(), path, value, 0)
    }

    /// Sets a key of the runner entry at `index`, making tables on the way.
    ///
    /// # Errors
    /// [`EditError::NoSuchRunner`] and [`EditError::NotATable`].
    pub fn set_runner(&mut self, index: usize, path: &[String], value: &Value) -> Result<(), EditError> {
        let name = name_of(&*self.document, "runners");
        let list = self.document.get_mut(&name).and_then(Item::as_array_of_tables_mut);
        let table = list.and_then(|list| list.get_mut(index)).ok_or(EditError::NoSuchRunner { index })?;
        put(table, path, value, 1)
    }

    fn entries(&self) -> Option<&ArrayOfTables> {
        self.document.get(&name_of(&*self.document, "runners"))?.as_array_of_tables()
    }
}

/// Turns `runners = [{…}]` into `[[runners]]`, which is the form that can be added to.
fn make_tables(document: &mut DocumentMut) -> Result<(), EditError> {
    let name = name_of(&**document, "runners");
    let Some(item) = document.get_mut(&name) else { return Ok(()) };
    if item.is_array_of_tables() {
        return Ok(());
    }
    let empty = item.as_array().is_some_and(Array::is_empty);
    let tables = match std::mem::take(item).into_array_of_tables() {
        Ok(tables) => tables,
        Err(_) if empty => ArrayOfTables::new(),
        Err(_) => return Err(EditError::NotATable { path: name }),
    };
    *item = Item::ArrayOfTables(tables);
    Ok(())
}

/// The spelling of `key` in `table`: keys are found whatever their case.
fn name_of(table: &dyn TableLike, key: &str) -> String {
    if table.contains_key(key) {
        return key.to_owned();
    }
    let other = table.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    other.map_or(key, |(name, _)| name).to_owned()
}

/// Sets `path` below `table`, which is `depth` levels deep and indented accordingly, as the
/// reference does.
fn put(table: &mut dyn TableLike, path: &[String], value: &Value, depth: usize) -> Result<(), EditError> {
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    let name = name_of(&*table, key);
    if rest.is_empty() {
        set_value(table, &name, value, depth);
        return Ok(());
    }
    let item = table.entry(&name).or_insert_with(|| Item::Table(new_table(depth)));
    let below = item.as_table_like_mut().ok_or(EditError::NotATable { path: name })?;
    put(below, rest, value, depth + 1)
}

/// Sets one key. What stands around the old value, a comment behind it for instance, stays.
fn set_value(table: &mut dyn TableLike, name: &str, value: &Value, depth: usize) {
    if let Some(old) = table.get_mut(name) {
        let mut new = inline(value);
        if let Some(old) = old.as_value() {
            *new.decor_mut() = old.decor().clone();
        }
        *old = Item::Value(new);
        return;
    }
    let item = match value {
        Value::Map(map) => Item::Table(filled(map, depth)),
        Value::Flags(flags) => Item::Table(filled(flags, depth)),
        other => Item::Value(inline(other)),
    };
    let indented = matches!(item, Item::Value(_));
    table.insert(name, item);
    if indented && let Some(mut key) = table.key_mut(name) {
        key.leaf_decor_mut().set_prefix("  ".repeat(depth));
    }
}

fn new_table(depth: usize) -> Table {
    let mut table = Table::new();
    let line = if depth == 0 { "\n" } else { "" };
    table.decor_mut().set_prefix(format!("{line}{}", "  ".repeat(depth)));
    table
}

fn filled<T: Clone + Into<TomlValue>>(map: &BTreeMap<String, T>, depth: usize) -> Table {
    let mut table = new_table(depth);
    for (key, value) in map {
        table.insert(key, Item::Value(value.clone().into()));
        if let Some(mut key) = table.key_mut(key) {
            key.leaf_decor_mut().set_prefix("  ".repeat(depth + 1));
        }
    }
    table
}

fn inline(value: &Value) -> TomlValue {
    match value {
        Value::Text(text) => text.as_str().into(),
        Value::Secret(secret) => secret.expose().into(),
        Value::Int(number) => (*number).into(),
        Value::Bool(value) => (*value).into(),
        // Go writes whole seconds too. A text that is no TOML date cannot come out of this form.
        Value::Time(time) => {
            let text = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            text.parse::<toml_edit::Datetime>().map_or_else(|_| text.into(), TomlValue::from)
        }
        Value::List(list) => TomlValue::Array(list.iter().map(String::as_str).collect::<Array>()),
        Value::Map(map) => {
            TomlValue::InlineTable(map.iter().map(|(key, value)| (key, value.as_str())).collect::<InlineTable>())
        }
        Value::Flags(flags) => {
            TomlValue::InlineTable(flags.iter().map(|(key, value)| (key, *value)).collect::<InlineTable>())
        }
    }
}

#[cfg(test)]
mod tests;
