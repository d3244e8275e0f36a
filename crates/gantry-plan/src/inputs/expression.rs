//! Expressions about inputs: paths such as `job.inputs.list[0].name`, literals, and `str(…)`.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// An expression that was read.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Value),
    /// What follows `job`.
    Path(Vec<Step>),
}

/// One step of a path.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Name(String),
    Number(usize),
}

/// Most levels of functions within each other: nobody needs two.
const LEVELS: u32 = 8;

/// Characters of a text from the job that an error quotes: enough to find it by.
const QUOTED: usize = 80;

/// The beginning of a text, for an error.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// The length of what stands before `end`, which does not count within quotes.
pub(super) fn length(text: &str, end: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) => quote = quote.filter(|_| c != open),
            None if text.get(at..)?.starts_with(end) => return Some(at),
            None => quote = matches!(c, '"' | '\'').then_some(c),
        }
    }
    None
}

impl Expression {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader(text);
        reader.blanks();
        if reader.0.is_empty() {
            return Err("it is empty".to_owned());
        }
        let expression = reader.expression(0)?;
        reader.blanks();
        if reader.0.is_empty() {
            return Ok(expression);
        }
        Err(format!("{:?} cannot be read", cut(reader.0.trim_end())))
    }

    /// Whether its value comes from the input of this name, or from all of them.
    pub(super) fn touches(&self, input: &str) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Path(steps) => match steps.get(1) {
                Some(Step::Name(name)) => name == input,
                Some(Step::Number(_)) => false,
                None => true,
            },
        }
    }

    /// Its value as a text.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn text(&self, inputs: &Map<String, Value>) -> Result<String, String> {
        let steps = match self {
            Self::Literal(value) => return Ok(shown(value)),
            Self::Path(steps) => steps,
        };
        let rest = match steps.as_slice() {
            [Step::Name(name), rest @ ..] if name == "inputs" => rest,
            _ => return Err("`job` has nothing but `inputs`".to_owned()),
        };
        let (mut value, deeper) = match rest {
            [] => return Ok(shown(&Value::Object(inputs.clone()))),
            [Step::Name(name), deeper @ ..] => {
                (inputs.get(name).ok_or_else(|| absent(name, "the job's inputs"))?, deeper)
            }
            [Step::Number(_), ..] => return Err("inputs have names and no numbers".to_owned()),
        };
        for step in deeper {
            value = step.of(value)?;
        }
        Ok(shown(value))
    }
}

fn absent(name: &str, of: &str) -> String {
    format!("there is no {:?} in {of}", cut(name))
}

/// A text as it is, everything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Result<&'a Value, String> {
        match (self, value) {
            (Self::Name(name), Value::Object(fields)) => fields.get(name).ok_or_else(|| absent(name, "this input")),
            (Self::Number(number), Value::Array(list)) => {
                list.get(*number).ok_or_else(|| format!("there is no element {number} in this input"))
            }
            (Self::Name(name), other) => Err(format!("{} has no {:?}", kind(other), cut(name))),
            (Self::Number(number), other) => Err(format!("{} has no element {number}", kind(other))),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "a struct",
    }
}

/// What is left to read.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn blanks(&mut self) {
        self.0 = self.0.trim_start();
    }

    fn take(&mut self, what: char) -> bool {
        self.blanks();
        let rest = self.0.strip_prefix(what);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expression(&mut self, level: u32) -> Result<Expression, String> {
        self.blanks();
        if let Some(literal) = self.literal()? {
            return Ok(Expression::Literal(literal));
        }
        let name = self.name(false)?;
        match name.as_str() {
            "true" | "false" => return Ok(Expression::Literal(Value::Bool(name == "true"))),
            "job" => {}
            _ if self.take('(') => {
                if name != "str" {
                    return Err(format!("there is no function {:?}: only `str` is known", cut(&name)));
                }
                if level >= LEVELS {
                    return Err("its functions lie too deep within each other".to_owned());
                }
                let inner = self.expression(level + 1)?;
                // Every value becomes a text in the end.
                return if self.take(')') { Ok(inner) } else { Err("a closing parenthesis is missing".to_owned()) };
            }
            _ => return Err(format!("{:?} is nothing here: only `job` is known", cut(&name))),
        }
        let mut steps = Vec::new();
        loop {
            if self.take('.') {
                steps.push(Step::Name(self.name(true)?));
            } else if self.take('[') {
                self.blanks();
                steps.push(match self.literal()? {
                    Some(Value::String(name)) => Step::Name(name),
                    Some(Value::Number(number)) => {
                        let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
                        Step::Number(number.ok_or("an index is a whole number")?)
                    }
                    _ => return Err("an index is a whole number or a text in quotes".to_owned()),
                });
                if !self.take(']') {
                    return Err("a closing bracket is missing".to_owned());
                }
            } else {
                return Ok(Expression::Path(steps));
            }
        }
    }

    /// A name. Those of inputs may have a hyphen.
    fn name(&mut self, with_hyphen: bool) -> Result<String, String> {
        self.blanks();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || (with_hyphen && c == '-');
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            let found = cut(self.0.trim_end());
            let found = if found.is_empty() { String::new() } else { format!(" before {found:?}") };
            return Err(format!("a name is missing{found}"));
        }
        self.0 = rest;
        Ok(name.to_owned())
    }

    /// A text in quotes or a number, if there is one.
    fn literal(&mut self) -> Result<Option<Value>, String> {
        let Some(first) = self.0.chars().next() else { return Ok(None) };
        if matches!(first, '"' | '\'') {
            let inside = self.0.get(1..).unwrap_or_default();
            let (text, rest) = inside.split_once(first).ok_or("a closing quote is missing")?;
            self.0 = rest;
            return Ok(Some(Value::String(text.to_owned())));
        }
        if !first.is_ascii_digit() {
            return Ok(None);
        }
        let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (number, rest) = self.0.split_at(end);
        self.0 = rest;
        serde_json::from_str(number).map(Some).map_err(|_| format!("{:?} is no number", cut(number)))
    }
}
