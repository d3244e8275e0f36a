//! The expressions of `rules:if` and `only:variables`: text to tokens to a tree to a yes or no.
//!
//! The semantics are GitLab's, including the surprising ones: `&&` and `||` hand on their operands,
//! and only the end result counts as false when it is undefined or blank.

use regex::Regex;

use super::patterns::Patterns;
use super::variables::Lookup;

/// How many tokens an expression may have; GitLab's limit. It also bounds the recursion of parser
/// and evaluation.
const MAX_TOKENS: usize = 100;

/// A parsed expression.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Variable(String),
    Text(String),
    Flag(bool),
    Null,
    Pattern(Regex, String),
    Compare(Box<Expr>, Compare, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

/// The comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Match,
    NoMatch,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Variable(String),
    Text(String),
    Pattern(String),
    Word(String),
    Compare(Compare),
    And,
    Or,
    Open,
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Null,
    Flag(bool),
    Text(String),
}

impl Expr {
    /// Reads an expression; the error is a fragment that fits after "invalid expression: ".
    pub(super) fn parse(text: &str, patterns: &Patterns) -> Result<Self, String> {
        let tokens = tokenize(text)?;
        if tokens.is_empty() {
            return Err("it is empty".to_owned());
        }
        let mut parser = Cursor { tokens: &tokens, next: 0, patterns };
        let expr = parser.or()?;
        match parser.peek() {
            None => Ok(expr),
            Some(Token::Close) => Err("a `)` has no `(`".to_owned()),
            Some(token) => Err(format!("an operator is missing before {}", name(token))),
        }
    }

    /// Whether the expression holds.
    pub(super) fn holds(&self, lookup: &Lookup) -> bool {
        match self.value(lookup) {
            Operand::Null => false,
            Operand::Flag(flag) => flag,
            Operand::Text(text) => !text.trim().is_empty(),
        }
    }

    /// A quoted text to the right of `=~` or `!~` that is no pattern: most probably not what was
    /// meant.
    pub(super) fn no_pattern(&self, patterns: &Patterns) -> Option<&str> {
        match self {
            Self::Compare(left, how, right) => match (how, &**right) {
                (Compare::Match | Compare::NoMatch, Self::Text(text))
                    if !matches!(patterns.literal(text), Some(Ok(_))) =>
                {
                    Some(text)
                }
                _ => left.no_pattern(patterns),
            },
            Self::And(left, right) | Self::Or(left, right) => {
                left.no_pattern(patterns).or_else(|| right.no_pattern(patterns))
            }
            _ => None,
        }
    }

    fn value(&self, lookup: &Lookup) -> Operand {
        match self {
            Self::Variable(name) => lookup.get(name).map_or(Operand::Null, |value| Operand::Text(value.to_owned())),
            Self::Text(text) | Self::Pattern(_, text) => Operand::Text(text.clone()),
            Self::Flag(flag) => Operand::Flag(*flag),
            Self::Null => Operand::Null,
            Self::Compare(left, how, right) => Operand::Flag(compare(left, *how, right, lookup)),
            Self::And(left, right) => match left.value(lookup) {
                falsy @ (Operand::Null | Operand::Flag(false)) => falsy,
                _ => right.value(lookup),
            },
            Self::Or(left, right) => match left.value(lookup) {
                Operand::Null | Operand::Flag(false) => right.value(lookup),
                truthy => truthy,
            },
        }
    }
}

fn compare(left: &Expr, how: Compare, right: &Expr, lookup: &Lookup) -> bool {
    match how {
        Compare::Equal => same(&left.value(lookup), &right.value(lookup)),
        Compare::NotEqual => !same(&left.value(lookup), &right.value(lookup)),
        Compare::Match => matches(left, right, lookup).unwrap_or(false),
        Compare::NoMatch => !matches(left, right, lookup).unwrap_or(false),
    }
}

fn same(left: &Operand, right: &Operand) -> bool {
    match (left, right) {
        (Operand::Text(text), Operand::Flag(flag)) | (Operand::Flag(flag), Operand::Text(text)) => {
            *text == flag.to_string()
        }
        _ => left == right,
    }
}

/// Whether the left side, an empty text if undefined, matches; `None` if the right side is
/// undefined. A text that is no pattern is searched for the left side, the wrong way round: so it
/// is in GitLab.
fn matches(left: &Expr, right: &Expr, lookup: &Lookup) -> Option<bool> {
    let text = match left.value(lookup) {
        Operand::Null => String::new(),
        Operand::Flag(flag) => flag.to_string(),
        Operand::Text(text) => text,
    };
    if let Expr::Pattern(regex, _) = right {
        return Some(regex.is_match(&text));
    }
    match right.value(lookup) {
        Operand::Text(pattern) => match lookup.patterns.literal(&pattern) {
            Some(Ok(regex)) => Some(regex.is_match(&text)),
            Some(Err(_)) | None => Some(pattern.contains(&text)),
        },
        Operand::Null | Operand::Flag(_) => None,
    }
}

fn name(token: &Token) -> String {
    match token {
        Token::Variable(name) => format!("`${name}`"),
        Token::Text(text) => format!("{text:?}"),
        Token::Pattern(pattern) => format!("`{pattern}`"),
        Token::Word(word) => format!("`{word}`"),
        Token::Compare(Compare::Equal) => "`==`".to_owned(),
        Token::Compare(Compare::NotEqual) => "`!=`".to_owned(),
        Token::Compare(Compare::Match) => "`=~`".to_owned(),
        Token::Compare(Compare::NoMatch) => "`!~`".to_owned(),
        Token::And => "`&&`".to_owned(),
        Token::Or => "`||`".to_owned(),
        Token::Open => "`(`".to_owned(),
        Token::Close => "`)`".to_owned(),
    }
}

fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if tokens.len() >= MAX_TOKENS {
            return Err(format!("it has more than {MAX_TOKENS} parts"));
        }
        let (token, after) = match first {
            '$' => variable(rest)?,
            '"' | '\'' => quoted(rest, first)?,
            '/' => pattern(rest)?,
            _ => operator(rest)?,
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn variable(rest: &str) -> Result<(Token, &str), String> {
    let after = rest.strip_prefix('$').unwrap_or(rest);
    if after.starts_with('{') {
        return Err("variables are written `$NAME` here, without braces".to_owned());
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    match after.split_at_checked(end) {
        Some((name, after)) if !name.is_empty() => Ok((Token::Variable(name.to_owned()), after)),
        _ => Err("a `$` has no variable name".to_owned()),
    }
}

fn quoted(rest: &str, quote: char) -> Result<(Token, &str), String> {
    rest.strip_prefix(quote)
        .and_then(|body| body.split_once(quote))
        .map(|(text, after)| (Token::Text(text.to_owned()), after))
        .ok_or_else(|| format!("a {quote} is never closed"))
}

/// `/pattern/flags`; a slash inside is written `\/`.
fn pattern(rest: &str) -> Result<(Token, &str), String> {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => {
                let after = rest.get(index + 1..).unwrap_or("");
                let flags = after.find(|c| !"ismU".contains(c)).unwrap_or(after.len());
                let (token, after) = rest.split_at_checked(index + 1 + flags).unwrap_or((rest, ""));
                return Ok((Token::Pattern(token.to_owned()), after));
            }
            _ => {}
        }
    }
    Err("a `/` is never closed".to_owned())
}

fn operator(rest: &str) -> Result<(Token, &str), String> {
    const OPERATORS: [(&str, Token); 8] = [
        ("==", Token::Compare(Compare::Equal)),
        ("!=", Token::Compare(Compare::NotEqual)),
        ("=~", Token::Compare(Compare::Match)),
        ("!~", Token::Compare(Compare::NoMatch)),
        ("&&", Token::And),
        ("||", Token::Or),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    for (text, token) in OPERATORS {
        if let Some(after) = rest.strip_prefix(text) {
            return Ok((token, after));
        }
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    match rest.split_at_checked(end) {
        Some((word @ ("null" | "true" | "false"), after)) => Ok((Token::Word(word.to_owned()), after)),
        Some((word, _)) if !word.is_empty() => Err(format!("`{word}` is neither a $VARIABLE nor a quoted string")),
        _ => Err(format!("`{}` is not known here", rest.chars().next().unwrap_or(' '))),
    }
}

struct Cursor<'t> {
    tokens: &'t [Token],
    next: usize,
    patterns: &'t Patterns,
}

impl<'t> Cursor<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Expr, String> {
        let mut left = self.and()?;
        while self.take(&Token::Or) {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.comparison()?;
        while self.take(&Token::And) {
            left = Expr::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expr, String> {
        let mut left = self.operand()?;
        while let Some(Token::Compare(how)) = self.peek() {
            self.next += 1;
            let right = self.operand()?;
            let is_match = matches!(how, Compare::Match | Compare::NoMatch);
            if is_match && matches!(right, Expr::Flag(_)) {
                return Err(format!("the right side of {} should be a /pattern/", name(&Token::Compare(*how))));
            }
            left = Expr::Compare(Box::new(left), *how, Box::new(right));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, String> {
        let token = self.peek().ok_or("it ends where a value is expected")?;
        self.next += 1;
        match token {
            Token::Variable(name) => Ok(Expr::Variable(name.clone())),
            Token::Text(text) => Ok(Expr::Text(text.clone())),
            Token::Word(word) if word == "null" => Ok(Expr::Null),
            Token::Word(word) => Ok(Expr::Flag(word == "true")),
            Token::Pattern(text) => match self.patterns.literal(text) {
                Some(regex) => Ok(Expr::Pattern(regex?, text.clone())),
                None => Err(format!("`{text}` is not a pattern")),
            },
            Token::Open => {
                let inner = self.or()?;
                if self.take(&Token::Close) { Ok(inner) } else { Err("a `(` is never closed".to_owned()) }
            }
            other => Err(format!("a value is expected, not {}", name(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup {
        let pairs = [("A", "1"), ("EMPTY", ""), ("BRANCH", "feature/x"), ("PATTERN", "/^feat/"), ("FLAG", "true")];
        Lookup::new(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
    }

    #[test]
    fn expressions_evaluate_as_in_gitlab() {
        let cases = [
            ("$A", true),
            ("$EMPTY", false),
            ("$MISSING", false),
            ("$A == '1'", true),
            ("$A == \"2\"", false),
            ("$A != '2'", true),
            ("$MISSING == null", true),
            ("$EMPTY == null", false),
            ("$EMPTY == ''", true),
            ("null == $A", false),
            ("$BRANCH =~ /^feature\\//", true),
            ("$BRANCH =~ /FEATURE/", false),
            ("$BRANCH =~ /FEATURE/i", true),
            ("$BRANCH !~ /main/", true),
            ("$BRANCH =~ $PATTERN", true),
            ("$BRANCH =~ /^[\\w.-]+\\/[\\w.-]+\\w*$/i", true),
            ("$BRANCH =~ \"/^feat/\"", true),
            ("$BRANCH !~ '/^FEAT/i'", false),
            ("$BRANCH =~ 'on feature/x'", true),
            ("$BRANCH =~ 'feature'", false),
            ("$BRANCH =~ '/(/'", false),
            ("$BRANCH =~ null", false),
            ("$BRANCH !~ $MISSING", true),
            ("$BRANCH =~ $A", false),
            ("$BRANCH !~ $A", true),
            ("$MISSING =~ /^$/", true),
            ("$MISSING =~ /x/", false),
            ("$A && $MISSING", false),
            ("$A || $MISSING", true),
            ("$MISSING || $A == '1' && $MISSING", false),
            ("($MISSING || $A == '1') && $A", true),
            ("$A == '1' || $X && $Y", true),
            ("'text'", true),
            ("$FLAG == true", true),
            ("false", false),
        ];
        for (text, expected) in cases {
            let expr = Expr::parse(text, &Patterns::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(expr.holds(&lookup()), expected, "{text}");
        }
    }

    #[test]
    fn wrong_expressions_say_what_is_wrong() {
        let cases = [
            ("", "it is empty"),
            ("$A ==", "it ends where a value is expected"),
            ("$A $B", "an operator is missing before `$B`"),
            ("($A", "a `(` is never closed"),
            ("$A)", "a `)` has no `(`"),
            ("$A = '1'", "`=` is not known here"),
            ("'x", "a ' is never closed"),
            ("$A =~ /x", "a `/` is never closed"),
            ("$A =~ true", "the right side of `=~` should be a /pattern/"),
            ("${A}", "variables are written `$NAME` here, without braces"),
            ("main", "`main` is neither a $VARIABLE nor a quoted string"),
            ("$", "a `$` has no variable name"),
            ("== 'a'", "a value is expected, not `==`"),
        ];
        for (text, expected) in cases {
            assert_eq!(Expr::parse(text, &Patterns::default()).err().as_deref(), Some(expected), "{text}");
        }
        assert!(
            Expr::parse("$A =~ /(?=x)/", &Patterns::default())
                .is_err_and(|error| error.contains("not a valid regular expression"))
        );
        assert!(Expr::parse("$A =~ /((a{1000}){1000}){1000}/", &Patterns::default()).is_err());
        assert!(Expr::parse(&"(".repeat(100_000), &Patterns::default()).is_err());
    }
}
