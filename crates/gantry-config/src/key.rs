//! What is known of a key of the file, for those who explain it: the reference, the schema,
//! `register`, and the warnings.

use gantry_core::Effect;

/// A key of `config.toml`. Everything about it comes from its declaration in [`crate::settings`].
#[derive(Clone, Debug)]
pub struct Key {
    /// Its path, with `[]` behind lists of tables: `runners[].kubernetes.volumes.pvc[].name`.
    pub path: String,
    /// The field of the settings that has its value: `runners.kubernetes.timing.poll_timeout`;
    /// `None` for keys that are not read.
    pub field: Option<String>,
    /// What it is for, in one or a few sentences.
    pub about: String,
    /// How its value is written.
    pub form: Form,
    /// What is in force without it, as text; empty where that is nothing.
    pub default: String,
    /// Whether it does anything. That of a key in a table that does nothing is the table's.
    pub effect: Effect,
    /// The flag of `register` that writes it.
    pub flag: Option<RegisterFlag>,
}

impl Key {
    /// The last part of its path, without `[]`.
    pub fn name(&self) -> &str {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        last.trim_end_matches("[]")
    }

    /// The path of the table that it is in, empty for the top of the file.
    pub fn table(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }
}

/// A flag of `register` and its variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterFlag {
    /// Without dashes, in the reference's spelling.
    pub long: String,
    /// The variable that is read where the flag is not given.
    pub variable: Option<String>,
}

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Text,
    /// A text that must not be shown.
    Secret,
    /// The path of a file of the manager.
    Path,
    /// A regular expression, not anchored.
    Pattern,
    /// A quantity of Kubernetes, such as `500m` or `1.5Gi`.
    Quantity,
    /// One of a few words.
    Words(Vec<&'static str>),
    /// One of a few words, or a list of them.
    WordList(Vec<&'static str>),
    /// `true` or `false`, where `false` is the same as nothing.
    Flag,
    /// `true` or `false`, where nothing is a third answer.
    Switch,
    /// A whole number, where 0 or less is the same as nothing.
    Positive,
    /// A whole number from 1.
    FromOne,
    /// A whole number that is not negative, where 0 is not nothing.
    Whole,
    /// A whole number, where one below 0 is an answer of its own.
    Signed,
    /// A number that may have a fraction.
    Decimal,
    /// Whole seconds, where 0 or less is the same as nothing.
    Seconds,
    /// A duration such as `10m`, or nanoseconds, where 0 is the same as nothing.
    Duration,
    /// The same, where 0 is an answer of its own.
    DurationFromZero,
    /// A date and time.
    Time,
    /// A list of texts.
    Texts,
    /// A list of whole numbers.
    Numbers,
    /// A table of texts with free keys.
    TextMap,
    /// A table of `true` and `false` with free keys.
    SwitchMap,
    /// A table of whole numbers with free keys.
    CountMap,
    /// A table whose keys are keys too.
    Table,
    /// A list of such tables.
    Tables,
    /// Whatever it is, it is not read.
    Anything,
}

impl Form {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Secret => "text, never shown".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Pattern => "regular expression".to_owned(),
            Self::Quantity => "quantity".to_owned(),
            Self::Words(words) => words.join(", "),
            Self::WordList(words) => format!("{}, or a list of these", words.join(", ")),
            Self::Flag | Self::Switch => "true or false".to_owned(),
            Self::Positive | Self::FromOne | Self::Whole | Self::Signed => "number".to_owned(),
            Self::Decimal => "decimal number".to_owned(),
            Self::Seconds => "seconds".to_owned(),
            Self::Duration | Self::DurationFromZero => "duration".to_owned(),
            Self::Time => "date and time".to_owned(),
            Self::Texts => "list of texts".to_owned(),
            Self::Numbers => "list of numbers".to_owned(),
            Self::TextMap => "table of texts".to_owned(),
            Self::SwitchMap => "table of true and false".to_owned(),
            Self::CountMap => "table of numbers".to_owned(),
            Self::Table => "table".to_owned(),
            Self::Tables => "list of tables".to_owned(),
            Self::Anything => "anything".to_owned(),
        }
    }
}
