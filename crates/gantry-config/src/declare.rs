//! One declaration per key. [`table!`] makes of it the field, its reader and its description;
//! unknown keys, warnings, `register`'s flags, the reference and the schema follow from the
//! description ([`crate::key`]).
//!
//! A row is: what the key is for, in words for operators (they become the reference and the help of
//! `register`); the field and its type; and a [`Declared`] of [`crate::kinds`] that names the key,
//! how it is written and its default, with these words behind it:
//!
//! - `.never("…")`, `.always_on("…")`, `.other_executor()`: it does not act; the
//!   sentence says what is done instead;
//! - `.flag()` for a flag of `register` that is spelled like the key with hyphens, `.flag_as("…")`
//!   for another spelling, and then `.variable("…")` or `.no_variable()` where the variable does
//!   not follow from the flag.

use gantry_core::Effect;

use crate::key::{Form, Key, RegisterFlag};
use crate::report::Report;
use crate::section::Section;

/// Declares a table of the file; see the module.
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $about:literal])+ $field:ident: $type:ty = $declared:expr; )*
        }
        $( unread { $( $(#[doc = $unread_about:literal])+ $unread:expr; )* } )?
    ) => {
        $(#[$meta])*
        pub struct $name {
            $( $(#[doc = $about])+ pub $field: $type, )*
        }

        impl $crate::declare::Table for $name {
            fn read(section: &$crate::section::Section<'_>) -> Self {
                Self { $( $field: $crate::declare::of::<$type, _>($declared).read(section), )* }
            }

            fn describe(walk: &mut $crate::declare::Walk) {
                $(
                    let declared = $crate::declare::of::<$type, _>($declared);
                    declared.describe(walk, Some(stringify!($field)), concat!($($about, "\n"),+));
                )*
                $( $( $unread.describe(walk, None, concat!($($unread_about, "\n"),+)); )* )?
            }
        }

        impl Default for $name {
            /// What a file without the table says.
            fn default() -> Self {
                $crate::declare::absent()
            }
        }
    };
}
pub(crate) use table;

/// Ties a declaration to the type of its field.
pub(crate) fn of<T, K: Kind<Value = T>>(declared: Declared<K>) -> Declared<K> {
    declared
}

/// A table of the file with its keys.
pub(crate) trait Table: Sized {
    /// Reads it, or the absence of it.
    fn read(section: &Section<'_>) -> Self;
    /// Adds its keys to a list.
    fn describe(walk: &mut Walk);
}

/// How the value of a key is read, and what is known about it.
pub(crate) trait Kind {
    /// What comes of it.
    type Value;
    /// Reads `key` of a table.
    fn read(&self, section: &Section<'_>, key: &'static str) -> Self::Value;
    /// How it is written; `None` for keys of the same table that only share a field.
    fn form(&self) -> Option<Form>;
    /// What is in force without it.
    fn default(&self) -> String {
        String::new()
    }
    /// Adds the keys below it.
    fn describe_below(&self, _walk: &mut Walk) {}
}

/// A key.
pub(crate) struct Declared<K> {
    /// With dots where it is in a table of its own: `artifact.upload_timeout`.
    key: &'static str,
    kind: K,
    effect: Effect,
    flag: Spelling,
    variable: Variable,
}

/// How a key's flag is spelled behind those of its tables.
#[derive(Clone, Copy)]
enum Spelling {
    None,
    Hyphens,
    As(&'static str),
}

/// What the variable of a flag is called.
#[derive(Clone, Copy)]
enum Variable {
    LikeTheFlag,
    Named(&'static str),
    None,
}

impl<K: Kind> Declared<K> {
    pub(crate) fn new(key: &'static str, kind: K) -> Self {
        Self { key, kind, effect: Effect::Acts, flag: Spelling::None, variable: Variable::LikeTheFlag }
    }

    pub(crate) fn never(self, instead: &'static str) -> Self {
        Self { effect: Effect::Never(instead), ..self }
    }

    pub(crate) fn always_on(self, instead: &'static str) -> Self {
        Self { effect: Effect::AlwaysOn(instead), ..self }
    }

    pub(crate) fn other_executor(self) -> Self {
        Self { effect: Effect::OtherExecutor, ..self }
    }

    pub(crate) fn flag(self) -> Self {
        Self { flag: Spelling::Hyphens, ..self }
    }

    pub(crate) fn flag_as(self, spelling: &'static str) -> Self {
        Self { flag: Spelling::As(spelling), ..self }
    }

    pub(crate) fn variable(self, name: &'static str) -> Self {
        Self { variable: Variable::Named(name), ..self }
    }

    pub(crate) fn no_variable(self) -> Self {
        Self { variable: Variable::None, ..self }
    }

    pub(crate) fn read(&self, section: &Section<'_>) -> K::Value {
        match self.key.split_once('.') {
            None => self.kind.read(section, self.key),
            Some((table, key)) => match key.split_once('.') {
                None => self.kind.read(&section.table(table), key),
                Some((inner, key)) => self.kind.read(&section.table(table).table(inner), key),
            },
        }
    }

    pub(crate) fn describe(&self, walk: &mut Walk, field: Option<&str>, about: &str) {
        let Some(form) = self.kind.form() else {
            return walk.within(field, |walk| self.kind.describe_below(walk));
        };
        let list = if form == Form::Tables { "[]" } else { "" };
        let word = match self.flag {
            Spelling::None => None,
            Spelling::Hyphens => Some(self.key.replace('_', "-")),
            Spelling::As(word) => Some(word.to_owned()),
        };
        let effect = if walk.effect.acts() { self.effect } else { walk.effect };
        let path = format!("{}{}{list}", walk.prefix, self.key);
        let is_table = form == Form::Table;
        walk.keys.push(Key {
            path: path.clone(),
            field: field.map(|field| format!("{}{field}", walk.fields)),
            about: about.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned(),
            form,
            default: self.kind.default(),
            effect,
            flag: word.as_deref().filter(|_| !is_table).and_then(|word| walk.flag(word, self.variable)),
        });
        let flags = walk.flags.as_deref().zip(word).map(|(above, word)| joined(above, &word));
        let fields = field.map(|field| format!("{}{field}.", walk.fields)).unwrap_or_default();
        let below = Walk { keys: Vec::new(), prefix: format!("{path}."), fields, flags, effect };
        let above = std::mem::replace(walk, below);
        self.kind.describe_below(walk);
        let below = std::mem::replace(walk, above);
        walk.keys.extend(below.keys);
    }
}

fn joined(above: &str, word: &str) -> String {
    if above.is_empty() { word.to_owned() } else { format!("{above}-{word}") }
}

/// A list of keys that is being made, and where in the file it is.
pub(crate) struct Walk {
    keys: Vec<Key>,
    /// The path of the table and a dot, or nothing.
    prefix: String,
    /// The field of the table and a dot, or nothing.
    fields: String,
    /// What flags of its keys begin with; `None` where there are none.
    flags: Option<String>,
    /// That of the table.
    effect: Effect,
}

impl Default for Walk {
    fn default() -> Self {
        Self { keys: Vec::new(), prefix: String::new(), fields: String::new(), flags: None, effect: Effect::Acts }
    }
}

impl Walk {
    pub(crate) fn into_keys(self) -> Vec<Key> {
        self.keys
    }

    /// Describes keys of the same table that are in another struct.
    pub(crate) fn within(&mut self, field: Option<&str>, describe: impl FnOnce(&mut Self)) {
        let inner = field.map(|field| format!("{}{field}.", self.fields));
        let fields = inner.map(|inner| std::mem::replace(&mut self.fields, inner));
        describe(self);
        if let Some(fields) = fields {
            self.fields = fields;
        }
    }

    /// The keys that follow are those of a runner, where flags begin.
    pub(crate) fn begin_flags(&mut self) {
        self.flags = Some(String::new());
    }

    fn flag(&self, word: &str, variable: Variable) -> Option<RegisterFlag> {
        let above = self.flags.as_ref()?;
        let long = joined(above, word);
        let variable = match variable {
            Variable::LikeTheFlag if above.is_empty() => Some(format!("RUNNER_{}", upper(word))),
            Variable::LikeTheFlag => Some(upper(&long)),
            Variable::Named(name) => Some(name.to_owned()),
            Variable::None => None,
        };
        Some(RegisterFlag { long, variable })
    }
}

/// The name of a variable made from words.
fn upper(text: &str) -> String {
    text.replace('-', "_").to_ascii_uppercase()
}

/// What a file without a table says about it.
pub(crate) fn absent<T: Table>() -> T {
    let report = Report::new("", &|_| None);
    T::read(&Section::new(&report, None, String::new(), 0))
}
