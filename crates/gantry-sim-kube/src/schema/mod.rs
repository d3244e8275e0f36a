//! Which fields the messages of the API have: their numbers in protobuf, their types, how lists of
//! them are patched. One table tells it to the protobuf codec and to the OpenAPI documents. The
//! tables are data, beside this file; a unit test reads all of them.

use std::{collections::HashMap, sync::LazyLock};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Base64 in JSON.
    Bytes,
    Flag,
    Number,
    /// RFC 3339 with whole seconds in JSON.
    Time,
    /// The same with microseconds.
    MicroTime,
    Quantity,
    /// A number or a text.
    Either,
    /// Any JSON, as text inside a message.
    Json,
    /// A list of texts inside a message of its own.
    Texts,
    /// The message of that name.
    Message(&'static str),
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    One,
    List,
    /// A map from text.
    Map,
}

/// When JSON shows a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Unless it is empty: protobuf writes empty values of such fields too.
    NotEmpty,
    /// Whenever it was written, empty or not.
    Written,
}

/// A field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its name in JSON; `None` for a message whose fields are the outer message's.
    pub(crate) name: Option<&'static str>,
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) count: Count,
    pub(crate) presence: Presence,
    /// `x-kubernetes-patch-strategy`, empty for the usual one.
    pub(crate) patch_strategy: &'static str,
    /// `x-kubernetes-patch-merge-key`, where elements have one.
    pub(crate) merge_key: &'static str,
}

/// The messages of one table by name.
pub(crate) type Table = HashMap<&'static str, Vec<Field>>;

/// The Kubernetes API.
pub(crate) static KUBERNETES: LazyLock<Table> = LazyLock::new(|| parse(include_str!("kubernetes.txt")));
/// An OpenAPI document.
pub(crate) static OPENAPI: LazyLock<Table> = LazyLock::new(|| parse(include_str!("openapi.txt")));

/// Reads a table. A word that is none is left out, which the test of the tables finds.
fn parse(text: &'static str) -> Table {
    let mut table = Table::new();
    let mut message = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        if !line.starts_with(' ') {
            message = words.next().unwrap_or("");
        }
        table.entry(message).or_default().extend(words.filter_map(field));
    }
    table
}

fn field(word: &'static str) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let (number, rest) = rest.split_once(':')?;
    let (rest, patch_strategy, merge_key) = match rest.split_once('@') {
        Some((rest, key)) => match key.strip_prefix('+') {
            Some(key) => (rest, "merge,retainKeys", key),
            None => (rest, "merge", key),
        },
        None => rest.strip_suffix('+').map_or((rest, "", ""), |rest| (rest, "retainKeys", "")),
    };
    let presence = if rest.ends_with(['?', '!']) { Presence::Written } else { Presence::NotEmpty };
    let rest = rest.trim_end_matches(['?', '!']);
    let (count, kind) = match (rest.strip_prefix("[]"), rest.strip_prefix("{}")) {
        (Some(kind), _) => (Count::List, kind),
        (_, Some(kind)) => (Count::Map, kind),
        (None, None) => (Count::One, rest),
    };
    let kind = match kind {
        "text" => Kind::Text,
        "bytes" => Kind::Bytes,
        "flag" => Kind::Flag,
        "number" => Kind::Number,
        "time" => Kind::Time,
        "microtime" => Kind::MicroTime,
        "quantity" => Kind::Quantity,
        "either" => Kind::Either,
        "json" => Kind::Json,
        "texts" => Kind::Texts,
        message => Kind::Message(message),
    };
    let name = (name != "~").then_some(name);
    Some(Field { name, number: number.parse().ok()?, kind, count, presence, patch_strategy, merge_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_tables_is_understood_and_every_message_is_there() {
        for (table, text) in [(&KUBERNETES, include_str!("kubernetes.txt")), (&OPENAPI, include_str!("openapi.txt"))] {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let words: usize =
                lines.map(|line| line.split_whitespace().filter(|word| word.contains('=')).count()).sum();
            assert_eq!(table.values().map(Vec::len).sum::<usize>(), words);
            for (name, fields) in table.iter() {
                let mut numbers: Vec<u64> = fields.iter().map(|field| field.number).collect();
                numbers.sort_unstable();
                numbers.dedup();
                assert_eq!(numbers.len(), fields.len(), "{name} has a number twice");
                for field in fields {
                    if let Kind::Message(inner) = field.kind {
                        assert!(table.contains_key(inner), "{name} has a {inner}, which is not in the table");
                    }
                }
            }
        }
    }

    #[test]
    fn every_stored_type_and_its_list_are_in_the_table() {
        for kind in crate::resources::TYPES {
            assert!(KUBERNETES.contains_key(kind.kind), "{}", kind.kind);
            let list = format!("{}List", kind.kind);
            assert!(!kind.stored || KUBERNETES.contains_key(list.as_str()), "{list}");
        }
    }
}
