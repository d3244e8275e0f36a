//! The two fields of an expression that name days, and what they alone can say.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};

use super::{CronError, Kind, Part};

const NAMES: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const MONTH_DAY: Kind =
    Kind { what: "day of the month", lowest: 1, highest: 31, end: 31, names: &[], forms: ", L, LW, 15W" };
/// 7 is Sunday too.
const WEEK_DAY: Kind =
    Kind { what: "day of the week", lowest: 0, highest: 7, end: 6, names: &NAMES, forms: ", 5L, 5#3" };

/// Days of a month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MonthDays {
    days: BTreeSet<i16>,
    /// `15W`: of each, the nearest from Monday to Friday in the same month.
    near: BTreeSet<i16>,
    /// `L`
    last: bool,
    /// `LW`
    last_working: bool,
}

/// Days of a week, 0 for Sunday.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WeekDays {
    days: BTreeSet<i16>,
    /// `5L`: the last of its kind in a month.
    last: BTreeSet<i16>,
    /// `5#3`: the third of its kind in a month.
    nth: BTreeSet<(i16, i16)>,
}

/// Where both fields restrict days, one of them is enough, as in every cron.
pub(super) fn either(month_days: Option<&MonthDays>, week_days: Option<&WeekDays>, date: Date) -> bool {
    match (month_days, week_days) {
        (None, None) => true,
        (Some(days), None) => days.contain(date),
        (None, Some(days)) => days.contain(date),
        (Some(month_days), Some(week_days)) => month_days.contain(date) || week_days.contain(date),
    }
}

impl MonthDays {
    /// `None` for all of them.
    pub(super) fn parse(field: &str) -> Result<Option<Self>, CronError> {
        let (mut this, mut is_all) = (Self::default(), false);
        for part in MONTH_DAY.parts(field)? {
            match part.strip_suffix('w') {
                _ if part == "l" => this.last = true,
                Some("l") => this.last_working = true,
                Some(day) => {
                    this.near.insert(MONTH_DAY.number(day).ok_or_else(|| MONTH_DAY.wrong(part))?);
                }
                None => match MONTH_DAY.part(part)? {
                    Part::All => is_all = true,
                    Part::Some(days) => this.days.extend(days),
                },
            }
        }
        Ok((!is_all).then_some(this))
    }

    fn contain(&self, date: Date) -> bool {
        let (day, last) = (date.day(), date.days_in_month());
        let is_near = |near: i16| i8::try_from(near).is_ok_and(|near| near <= last && working_day(date, near) == day);
        self.days.contains(&day.into())
            || self.last && day == last
            || self.last_working && working_day(date, last) == day
            || self.near.iter().any(|near| is_near(*near))
    }
}

/// The day from Monday to Friday nearest to a day of a date's month, in the same month.
fn working_day(date: Date, day: i8) -> i8 {
    let Ok(target) = date.with().day(day).build() else { return day };
    match target.weekday() {
        Weekday::Saturday if day > 1 => day - 1,
        Weekday::Saturday => day + 2,
        Weekday::Sunday if day < date.days_in_month() => day + 1,
        Weekday::Sunday => day - 2,
        _ => day,
    }
}

impl WeekDays {
    /// `None` for all of them.
    pub(super) fn parse(field: &str) -> Result<Option<Self>, CronError> {
        let (mut this, mut is_all) = (Self::default(), false);
        for part in WEEK_DAY.parts(field)? {
            let day = |text: &str| WEEK_DAY.number(text).map(|day| day % 7).ok_or_else(|| WEEK_DAY.wrong(part));
            match (part.strip_suffix('l'), part.split_once('#')) {
                (_, Some((text, which))) => {
                    let which = which.parse().ok().filter(|which| (1..=5).contains(which));
                    this.nth.insert((day(text)?, which.ok_or_else(|| WEEK_DAY.wrong(part))?));
                }
                (Some(text), None) => {
                    this.last.insert(day(text)?);
                }
                (None, None) => match WEEK_DAY.part(part)? {
                    Part::All => is_all = true,
                    Part::Some(days) => this.days.extend(days.into_iter().map(|day| day % 7)),
                },
            }
        }
        Ok((!is_all).then_some(this))
    }

    fn contain(&self, date: Date) -> bool {
        let week_day = i16::from(date.weekday().since(Weekday::Sunday));
        let which = i16::from((date.day() - 1) / 7 + 1);
        self.days.contains(&week_day)
            || self.last.contains(&week_day) && date.day() > date.days_in_month() - 7
            || self.nth.contains(&(week_day, which))
    }
}
