//! Periods of time as cron expressions, as in `[[runners.monitoring.job_queuing_durations]]`: a
//! moment is in a period if one of its expressions matches the moment.
//!
//! The reference reads five fields (minute, hour, day of the month, month, day of the week), six
//! (with the year behind them) or seven (with the second before them). Where the second is not
//! said, the whole minute matches.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

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
    /// Too few fields or too many.
    #[error("it has {0} fields and not five, six or seven, such as \"* 8-18 * * mon-fri\"")]
    Fields(usize),
    /// Part of a field.
    #[error("{part:?} is no {what}: write {lowest} to {highest}, *, a-b, */n or a list of these")]
    Part {
        /// As written.
        part: String,
        /// Of what.
        what: &'static str,
        /// The smallest that it can be.
        lowest: i16,
        /// The largest.
        highest: i16,
    },
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    seconds: Field,
    minutes: Field,
    hours: Field,
    month_days: Field,
    months: Field,
    week_days: Field,
    years: Field,
}

/// The numbers that match; `None` for all of them.
type Field = Option<BTreeSet<i16>>;

/// What a field is about.
struct Kind {
    what: &'static str,
    lowest: i16,
    highest: i16,
    /// Where a step ends that names its beginning only (`5/2`).
    end: i16,
    /// Words for its numbers, the first for the lowest.
    names: &'static [&'static str],
}

const SECOND: Kind = Kind { what: "second", lowest: 0, highest: 59, end: 59, names: &[] };
const MINUTE: Kind = Kind { what: "minute", lowest: 0, highest: 59, end: 59, names: &[] };
const HOUR: Kind = Kind { what: "hour", lowest: 0, highest: 23, end: 23, names: &[] };
const MONTH_DAY: Kind = Kind { what: "day of the month", lowest: 1, highest: 31, end: 31, names: &[] };
const MONTH: Kind = Kind { what: "month", lowest: 1, highest: 12, end: 12, names: &MONTHS };
/// 7 is Sunday too.
const WEEK_DAY: Kind = Kind { what: "day of the week", lowest: 0, highest: 7, end: 6, names: &DAYS };
const YEAR: Kind = Kind { what: "year", lowest: 1970, highest: 2099, end: 2099, names: &[] };

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim().to_ascii_lowercase();
        let text = NAMED.iter().find(|(name, _)| *name == text).map_or(text.as_str(), |(_, meaning)| meaning);
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let (second, rest, year) = match fields.as_slice() {
            rest @ [_, _, _, _, _] => ("*", rest, "*"),
            [rest @ .., year] if rest.len() == 5 => ("*", rest, *year),
            [second, rest @ .., year] if rest.len() == 5 => (*second, rest, *year),
            other => return Err(CronError::Fields(other.len())),
        };
        let [minute, hour, month_day, month, week_day] = rest else { return Err(CronError::Fields(fields.len())) };
        let week_days = field(week_day, &WEEK_DAY)?;
        let sunday_is_zero = |days: BTreeSet<i16>| days.into_iter().map(|day| day % 7).collect();
        Ok(Self {
            seconds: field(second, &SECOND)?,
            minutes: field(minute, &MINUTE)?,
            hours: field(hour, &HOUR)?,
            month_days: field(month_day, &MONTH_DAY)?,
            months: field(month, &MONTH)?,
            week_days: week_days.map(sunday_is_zero),
            years: field(year, &YEAR)?,
        })
    }

    fn matches(&self, now: DateTime) -> bool {
        let has = |field: &Field, number: i16| field.as_ref().is_none_or(|numbers| numbers.contains(&number));
        has(&self.seconds, now.second().into())
            && has(&self.minutes, now.minute().into())
            && has(&self.hours, now.hour().into())
            && has(&self.months, now.month().into())
            && has(&self.years, now.year())
            && self.is_on(now.date())
    }

    /// Where both kinds of days are said, one of them is enough, as in every cron.
    fn is_on(&self, date: Date) -> bool {
        let week_day = i16::from(date.weekday().since(Weekday::Sunday));
        match (&self.month_days, &self.week_days) {
            (None, None) => true,
            (Some(days), None) => days.contains(&date.day().into()),
            (None, Some(days)) => days.contains(&week_day),
            (Some(month_days), Some(week_days)) => {
                month_days.contains(&date.day().into()) || week_days.contains(&week_day)
            }
        }
    }
}

fn field(text: &str, kind: &Kind) -> Result<Field, CronError> {
    let (mut numbers, mut is_all) = (BTreeSet::new(), false);
    for part in text.split(',') {
        let wrong =
            || CronError::Part { part: part.to_owned(), what: kind.what, lowest: kind.lowest, highest: kind.highest };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, Some(step.parse::<usize>().ok().filter(|step| *step > 0).ok_or_else(wrong)?))
            }
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (kind.lowest, kind.highest),
            Some((first, last)) => (number(first, kind).ok_or_else(wrong)?, number(last, kind).ok_or_else(wrong)?),
            None => {
                let first = number(range, kind).ok_or_else(wrong)?;
                (first, if step.is_some() { kind.end.max(first) } else { first })
            }
        };
        if first > last {
            return Err(wrong());
        }
        is_all |= step.is_none() && (first, last) == (kind.lowest, kind.highest);
        numbers.extend((first..=last).step_by(step.unwrap_or(1)));
    }
    Ok((!is_all).then_some(numbers))
}

fn number(text: &str, kind: &Kind) -> Option<i16> {
    let named = kind.names.iter().zip(kind.lowest..).find(|(name, _)| **name == text).map(|(_, number)| number);
    let number = named.or_else(|| text.parse().ok())?;
    (kind.lowest..=kind.highest).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::{Cron, contain, zone};

    /// Whether an expression has a time of a zone.
    fn has(expression: &str, zone_name: &str, time: &str) -> bool {
        let cron = Cron::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let now: Timestamp = time.parse().unwrap_or_else(|error| panic!("{time}: {error}"));
        contain(&[cron], &zone(zone_name).unwrap_or(TimeZone::UTC), now)
    }

    #[test]
    fn moments_are_in_periods() {
        // The 30th of November 2026 is a Monday.
        for (expression, zone, time, expected) in [
            ("* * * * *", "", "2026-11-30T03:04:05Z", true),
            ("* 8-18 * * mon-fri", "", "2026-11-30T08:00:00Z", true),
            ("* 8-18 * * mon-fri", "", "2026-11-30T18:59:59Z", true),
            ("* 8-18 * * mon-fri", "", "2026-11-30T19:00:00Z", false),
            ("* 8-18 * * mon-fri", "", "2026-11-29T12:00:00Z", false),
            // Berlin is an hour ahead in winter, and two in summer.
            ("* 8-18 * * *", "Europe/Berlin", "2026-11-30T07:00:00Z", true),
            ("* 8-18 * * *", "Europe/Berlin", "2026-11-30T18:00:00Z", false),
            ("* 8-18 * * *", "Europe/Berlin", "2026-07-30T06:00:00Z", true),
            ("*/20 * * * *", "", "2026-11-30T03:40:59Z", true),
            ("*/20 * * * *", "", "2026-11-30T03:41:00Z", false),
            ("5/20 * * * *", "", "2026-11-30T03:25:00Z", true),
            ("0,30 * * NOV *", "", "2026-11-30T03:30:00Z", true),
            ("* * * * 7", "", "2026-11-29T03:30:00Z", true),
            ("* * * * 0", "", "2026-11-29T03:30:00Z", true),
            ("* * * * 1/2", "", "2026-11-30T03:30:00Z", true),
            ("* * * * 1/2", "", "2026-11-29T03:30:00Z", false),
            // The 30th, or any Tuesday.
            ("* * 30 * tue", "", "2026-11-30T03:30:00Z", true),
            ("* * 30 * tue", "", "2026-12-01T03:30:00Z", true),
            ("* * 30 * tue", "", "2026-12-02T03:30:00Z", false),
            // With a year, and with seconds too.
            ("* * * * * 2026", "", "2026-12-02T03:30:00Z", true),
            ("* * * * * 2027", "", "2026-12-02T03:30:00Z", false),
            ("15-30 * * * * ? *", "", "2026-12-02T03:30:15Z", true),
            ("15-30 * * * * ? *", "", "2026-12-02T03:30:31Z", false),
            ("@daily", "", "2026-12-02T00:00:31Z", true),
            ("@daily", "", "2026-12-02T00:01:00Z", false),
        ] {
            assert_eq!(has(expression, zone, time), expected, "{expression} at {time} {zone}");
        }
    }

    #[test]
    fn zones_have_names() {
        assert!(zone("America/New_York").is_some());
        assert_eq!(zone("Europe/Gotham"), None);
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for (text, expected) in [
            ("", "it has 0 fields and not five, six or seven, such as \"* 8-18 * * mon-fri\""),
            ("* * *", "it has 3 fields and not five, six or seven, such as \"* 8-18 * * mon-fri\""),
            ("* * * * * * * *", "it has 8 fields and not five, six or seven, such as \"* 8-18 * * mon-fri\""),
            ("60 * * * *", "\"60\" is no minute: write 0 to 59, *, a-b, */n or a list of these"),
            ("* 18-8 * * *", "\"18-8\" is no hour: write 0 to 23, *, a-b, */n or a list of these"),
            ("* */0 * * *", "\"*/0\" is no hour: write 0 to 23, *, a-b, */n or a list of these"),
            ("* * 15w * *", "\"15w\" is no day of the month: write 1 to 31, *, a-b, */n or a list of these"),
            ("* * * monday *", "\"monday\" is no month: write 1 to 12, *, a-b, */n or a list of these"),
            ("* * * * mon,", "\"\" is no day of the week: write 0 to 7, *, a-b, */n or a list of these"),
        ] {
            assert_eq!(Cron::parse(text).err().map(|error| error.to_string()).as_deref(), Some(expected), "{text}");
        }
    }
}
