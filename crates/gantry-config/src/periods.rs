//! Periods of time as cron expressions, as in `[[runners.monitoring.job_queuing_durations]]`: a
//! moment is in a period if one of its expressions matches the moment.
//!
//! The reference reads five fields (minute, hour, day of the month, month, day of the week), six
//! (with the year behind them) or seven (with the second before them). Where the second is not
//! said, the whole minute matches. Days can be the last (`L`), the last working day (`LW`), the
//! working day nearest to one (`15W`), the last Friday (`5L`, `friL`), or the third (`5#3`,
//! `fri#3`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use days::{MonthDays, WeekDays};

mod days;

/// How many fields are read. The reference passes over what stands behind them.
pub(crate) const MOST_FIELDS: usize = 7;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// What stands for a whole expression.
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Whether a moment is in one of some periods of a zone.
pub fn contain(periods: &[Cron], zone: &TimeZone, now: Timestamp) -> bool {
    let now = zone.to_datetime(now);
    periods.iter().any(|period| period.matches(now))
}

/// The zone of a name such as `Europe/Berlin`; `None` where there is none.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Why a text is no expression.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CronError {
    /// Too few fields.
    #[error("it has {0} fields and not five, six or seven, such as \"* 8-18 * * mon-fri\"")]
    Fields(usize),
    /// Part of a field.
    #[error("{part:?} is no {what}: write {lowest} to {highest}, *, a-b, */n{forms} or a list of these")]
    Part {
        /// As written.
        part: String,
        /// Of what.
        what: &'static str,
        /// The smallest that it can be.
        lowest: i16,
        /// The largest.
        highest: i16,
        /// What else this field takes.
        forms: &'static str,
    },
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: Numbers,
    minutes: Numbers,
    hours: Numbers,
    month_days: Option<MonthDays>,
    months: Numbers,
    week_days: Option<WeekDays>,
    years: Numbers,
}

/// The numbers of a field that match; `None` for all of them.
type Numbers = Option<BTreeSet<i16>>;

/// What a field is about.
struct Kind {
    what: &'static str,
    lowest: i16,
    highest: i16,
    /// Where a step ends that names its beginning only (`5/2`).
    end: i16,
    /// Words for its numbers, the first for the lowest. Their first three letters are enough.
    names: &'static [&'static str],
    /// What it takes beside numbers, for messages.
    forms: &'static str,
}

const SECOND: Kind = Kind { what: "second", lowest: 0, highest: 59, end: 59, names: &[], forms: "" };
const MINUTE: Kind = Kind { what: "minute", ..SECOND };
const HOUR: Kind = Kind { what: "hour", highest: 23, end: 23, ..SECOND };
const MONTH: Kind = Kind { what: "month", lowest: 1, highest: 12, end: 12, names: &MONTHS, forms: "" };
const YEAR: Kind = Kind { what: "year", lowest: 1970, highest: 2099, end: 2099, names: &[], forms: "" };

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim().to_ascii_lowercase();
        let text = NAMED.iter().find(|(name, _)| *name == text).map_or(text.as_str(), |(_, meaning)| meaning);
        let fields: Vec<&str> = text.split_ascii_whitespace().take(MOST_FIELDS).collect();
        let (second, rest, year) = match fields.as_slice() {
            rest @ [_, _, _, _, _] => ("*", rest, "*"),
            [rest @ .., year] if rest.len() == 5 => ("*", rest, *year),
            [second, rest @ .., year] if rest.len() == 5 => (*second, rest, *year),
            other => return Err(CronError::Fields(other.len())),
        };
        let [minute, hour, month_day, month, week_day] = rest else { return Err(CronError::Fields(fields.len())) };
        Ok(Self {
            seconds: SECOND.numbers(second)?,
            minutes: MINUTE.numbers(minute)?,
            hours: HOUR.numbers(hour)?,
            month_days: MonthDays::parse(month_day)?,
            months: MONTH.numbers(month)?,
            week_days: WeekDays::parse(week_day)?,
            years: YEAR.numbers(year)?,
        })
    }

    fn matches(&self, now: DateTime) -> bool {
        let has = |field: &Numbers, number: i16| field.as_ref().is_none_or(|numbers| numbers.contains(&number));
        has(&self.seconds, now.second().into())
            && has(&self.minutes, now.minute().into())
            && has(&self.hours, now.hour().into())
            && has(&self.months, now.month().into())
            && has(&self.years, now.year())
            && days::either(self.month_days.as_ref(), self.week_days.as_ref(), now.date())
    }
}

/// A part of a field.
enum Part {
    /// `*`: every number, and the field restricts nothing.
    All,
    /// Numbers.
    Some(BTreeSet<i16>),
}

impl Kind {
    /// The numbers of a field that is a list of nothing else.
    fn numbers(&self, field: &str) -> Result<Numbers, CronError> {
        let (mut numbers, mut is_all) = (BTreeSet::new(), false);
        for part in self.parts(field)? {
            match self.part(part)? {
                Part::All => is_all = true,
                Part::Some(some) => numbers.extend(some),
            }
        }
        Ok((!is_all).then_some(numbers))
    }

    /// The parts of a field, of which one must be there; empty ones are none.
    fn parts<'a>(&self, field: &'a str) -> Result<Vec<&'a str>, CronError> {
        let parts: Vec<_> = field.split(',').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() { Err(self.wrong(field)) } else { Ok(parts) }
    }

    fn part(&self, part: &str) -> Result<Part, CronError> {
        let wrong = || self.wrong(part);
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, Some(step.parse::<usize>().ok().filter(|step| *step > 0).ok_or_else(wrong)?))
            }
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") && step.is_none() => return Ok(Part::All),
            _ if matches!(range, "*" | "?") => (self.lowest, self.end),
            Some((first, last)) => self.range(first, last).ok_or_else(wrong)?,
            None => {
                let first = self.number(range).ok_or_else(wrong)?;
                (first, if step.is_some() { self.end.max(first) } else { first })
            }
        };
        Ok(Part::Some((first..=last).step_by(step.unwrap_or(1)).collect()))
    }

    /// Both ends of a range. A week that ends on Sunday ends on its seventh day.
    fn range(&self, first: &str, last: &str) -> Option<(i16, i16)> {
        let (first, last) = (self.number(first)?, self.number(last)?);
        let last = if last == self.lowest && first > last && self.highest > self.end { self.highest } else { last };
        (first <= last).then_some((first, last))
    }

    fn number(&self, text: &str) -> Option<i16> {
        let is_called = |name: &str| name == text || name.get(..3) == Some(text);
        let named = self.names.iter().zip(self.lowest..).find(|(name, _)| is_called(name)).map(|(_, number)| number);
        let number = named.or_else(|| text.parse().ok())?;
        (self.lowest..=self.highest).contains(&number).then_some(number)
    }

    fn wrong(&self, part: &str) -> CronError {
        CronError::Part {
            part: part.to_owned(),
            what: self.what,
            lowest: self.lowest,
            highest: self.highest,
            forms: self.forms,
        }
    }
}

#[cfg(test)]
mod tests;
