//! What the simulator remembers for people: the journal of requests, and the rules that were
//! broken. Both are bounded.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::job::Breach;
use crate::limits;

/// One request, already masked.
#[derive(Debug)]
pub(crate) struct Request {
    /// The id the answer names in `X-Request-Id`.
    pub(crate) id: String,
    pub(crate) method: String,
    /// Path with query.
    pub(crate) path: String,
    pub(crate) headers: Map<String, Value>,
    pub(crate) time: Timestamp,
}

#[derive(Debug)]
struct Entry {
    request: Request,
    /// None while it is being answered.
    answer: Option<Answer>,
    /// The faults that struck it.
    faults: Vec<Value>,
}

/// What is known of a request once it is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// None if the connection ended instead.
    pub(crate) status: Option<u16>,
    pub(crate) body_bytes: u64,
    pub(crate) body: Option<Value>,
    pub(crate) answered: Timestamp,
}

/// The latest requests.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    /// Number of the first entry kept.
    first: u64,
}

impl Journal {
    /// Notes a request; the number is for [`Journal::answer`].
    pub(crate) fn begin(&mut self, request: Request) -> u64 {
        if self.entries.len() >= limits::JOURNAL && self.entries.pop_front().is_some() {
            self.first += 1;
        }
        self.entries.push_back(Entry { request, answer: None, faults: Vec::new() });
        self.first + self.entries.len() as u64 - 1
    }

    /// Completes an entry, if it is still kept.
    pub(crate) fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(entry) = self.entry(number) {
            entry.answer = Some(answer);
        }
    }

    /// Notes that a fault strikes a request.
    pub(crate) fn fault(&mut self, number: u64, fault: Value) {
        if let Some(entry) = self.entry(number) {
            entry.faults.push(fault);
        }
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())?;
        self.entries.get_mut(index)
    }

    pub(crate) fn view(&self) -> Value {
        let entries = self.entries.iter().zip(self.first..).map(|(entry, number)| {
            let answer = entry.answer.as_ref();
            json!({
                "number": number,
                "request_id": entry.request.id,
                "time": entry.request.time,
                "method": entry.request.method,
                "path": entry.request.path,
                "headers": entry.request.headers,
                "status": answer.and_then(|answer| answer.status),
                "answered": answer.map(|answer| answer.answered),
                "body_bytes": answer.map(|answer| answer.body_bytes),
                "faults": entry.faults,
                "body": answer.and_then(|answer| answer.body.as_ref()),
            })
        });
        entries.collect()
    }
}

/// The rules that were broken.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    list: Vec<Value>,
}

impl Violations {
    pub(crate) fn add(&mut self, time: Timestamp, breach: &Breach, job: Option<u64>) {
        tracing::warn!(rule = breach.rule, detail = breach.detail, job, "protocol violation");
        if self.list.len() < limits::VIOLATIONS {
            let mut entry = json!({"time": time, "rule": breach.rule, "detail": breach.detail});
            if let (Some(job), Some(entry)) = (job, entry.as_object_mut()) {
                entry.insert("job".to_owned(), json!(job));
            }
            self.list.push(entry);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn view(&self) -> Value {
        Value::Array(self.list.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_forgets_the_oldest_and_completes_the_right_entry() {
        let mut journal = Journal::default();
        let request = |n: usize| Request {
            id: String::new(),
            method: "GET".to_owned(),
            path: format!("/{n}"),
            headers: Map::new(),
            time: Timestamp::UNIX_EPOCH,
        };
        let numbers: Vec<u64> = (0..=limits::JOURNAL).map(|n| journal.begin(request(n))).collect();
        let answer =
            |status| Answer { status: Some(status), body_bytes: 0, body: None, answered: Timestamp::UNIX_EPOCH };
        journal.answer(numbers[0], answer(500));
        journal.answer(numbers[1], answer(204));
        let view = journal.view();
        assert_eq!(view.as_array().map(Vec::len), Some(limits::JOURNAL));
        assert_eq!(view[0]["path"], "/1");
        assert_eq!(view[0]["status"], 204);
        assert_eq!(view[1]["status"], Value::Null);
    }
}
