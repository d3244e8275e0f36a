//! Questions on standard error, answers from standard input. What was given by flag or variable is
//! offered and taken with an empty line.

use std::io::{BufRead, Write};

use anyhow::{Context as _, bail};

/// Where questions go and answers come from.
pub(super) struct Asker<R, W> {
    pub(super) input: R,
    pub(super) output: W,
}

/// What is asked.
pub(super) struct Question<'q> {
    /// Without colon.
    pub(super) text: &'q str,
    /// Taken with an empty line.
    pub(super) default: &'q str,
    /// The default is a token: its presence is shown, not its text.
    pub(super) secret: bool,
}

impl<R: BufRead, W: Write> Asker<R, W> {
    /// Asks until `check` takes the answer.
    ///
    /// # Errors
    /// Standard input has ended or cannot be read.
    pub(super) fn ask(
        &mut self,
        question: &Question<'_>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<String> {
        let Question { text, default, secret } = question;
        let offered = match (default.is_empty(), secret) {
            (true, _) => String::new(),
            (false, true) => " [as given]".to_owned(),
            (false, false) => format!(" [{default}]"),
        };
        loop {
            write!(self.output, "{text}{offered}: ").and_then(|()| self.output.flush()).context("cannot ask")?;
            let mut line = String::new();
            if self.input.read_line(&mut line).context("cannot read the answer")? == 0 {
                bail!(
                    "standard input ended at the question for {text:?}: use --non-interactive and flags or variables"
                );
            }
            let answer = if line.trim().is_empty() { default } else { line.trim() };
            match check(answer) {
                Ok(()) => return Ok(answer.to_owned()),
                Err(problem) => writeln!(self.output, "{problem}").context("cannot ask")?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(input: &str, question: &Question<'_>) -> (anyhow::Result<String>, String) {
        let mut asker = Asker { input: input.as_bytes(), output: Vec::new() };
        let needed = |answer: &str| if answer.is_empty() { Err("say something".to_owned()) } else { Ok(()) };
        let answer = asker.ask(question, needed);
        (answer, String::from_utf8(asker.output).unwrap())
    }

    #[test]
    fn asks_until_the_answer_will_do() {
        let (answer, shown) = ask("\n \nx\n", &Question { text: "Name", default: "", secret: false });
        assert_eq!((answer.unwrap().as_str(), shown.matches("say something").count()), ("x", 2));
        let (answer, shown) = ask("\n", &Question { text: "Name", default: "host", secret: false });
        assert_eq!((answer.unwrap().as_str(), shown.as_str()), ("host", "Name [host]: "));
    }

    #[test]
    fn secrets_are_not_shown_and_an_end_is_an_error() {
        let question = Question { text: "Token", default: "hunter2", secret: true };
        let (answer, shown) = ask("\n", &question);
        assert_eq!(answer.unwrap(), "hunter2");
        assert!(!shown.contains("hunter2"), "{shown}");
        let error = ask("", &question).0.unwrap_err().to_string();
        assert!(error.contains("--non-interactive") && !error.contains("hunter2"), "{error}");
    }
}
