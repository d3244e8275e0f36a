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
        // A list with a wildcard is all days, as the wildcard alone; every single one is not, and
        // then the other field is enough.
        ("* * *,15 * tue", "", "2026-12-02T03:30:00Z", false),
        ("* * 1-31 * tue", "", "2026-12-02T03:30:00Z", true),
        // Empty parts of a list are nothing.
        ("* * * * mon,", "", "2026-11-30T03:30:00Z", true),
        ("* * * * ,mon,,", "", "2026-12-01T03:30:00Z", false),
        // Whole names, in any case.
        ("* * * November Monday", "", "2026-11-30T03:30:00Z", true),
        ("* * * december-december monday", "", "2026-11-30T03:30:00Z", false),
        ("* * * * tuesday-thursday", "", "2026-12-03T03:30:00Z", true),
        // A week may end on Sunday.
        ("* * * * sat-sun", "", "2026-11-29T03:30:00Z", true),
        ("* * * * sat-sun", "", "2026-11-30T03:30:00Z", false),
        ("* * * * mon-sunday", "", "2026-12-03T03:30:00Z", true),
        ("* * * * fri-7", "", "2026-11-29T03:30:00Z", true),
        // What stands behind the year is not read.
        ("0-30 * * * * * * 7 x", "", "2026-11-29T03:30:30Z", true),
        ("0-30 * * * * * * 7 x", "", "2026-11-29T03:30:31Z", false),
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

/// The days of a month on which an expression matches.
fn days(expression: &str, month: &str) -> Vec<i8> {
    let cron = Cron::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let on = |day: &i8| format!("{month}-{day:02}T12:00:00").parse().is_ok_and(|time| cron.matches(time));
    (1..=31).filter(on).collect()
}

#[test]
fn days_are_counted_from_the_end_or_by_weeks_or_moved_to_working_days() {
    // November 2026 begins on a Sunday and ends on a Monday; August begins on a Saturday, and
    // January 2027 ends on a Sunday.
    for (expression, month, expected) in [
        ("* * L * *", "2026-11", vec![30]),
        ("* * L * *", "2028-02", vec![29]),
        ("* * 1,L * *", "2026-08", vec![1, 31]),
        ("* * lw * *", "2026-11", vec![30]),
        ("* * LW * *", "2027-01", vec![29]),
        ("* * 15W * *", "2026-11", vec![16]),
        ("* * 14W * *", "2026-11", vec![13]),
        ("* * 18W * *", "2026-11", vec![18]),
        // No working day is looked for in another month.
        ("* * 1W * *", "2026-11", vec![2]),
        ("* * 1W * *", "2026-08", vec![3]),
        ("* * 31W * *", "2027-01", vec![29]),
        ("* * 31W * *", "2026-11", vec![]),
        ("* * * * 5L", "2026-11", vec![27]),
        ("* * * * sundayl", "2026-11", vec![29]),
        ("* * * * 7L", "2026-11", vec![29]),
        ("* * * * 2#1", "2026-11", vec![3]),
        ("* * * * sun#5", "2026-11", vec![29]),
        ("* * * * 7#1", "2026-11", vec![1]),
        ("* * * * tue#5", "2026-11", vec![]),
        ("* * * * mon#1,fri#3,wed", "2026-11", vec![2, 4, 11, 18, 20, 25]),
        // Either kind of day is enough.
        ("* * L * fri#1", "2026-11", vec![6, 30]),
        ("@weekly", "2026-11", vec![]),
        ("* 12 * * sun", "2026-11", vec![1, 8, 15, 22, 29]),
    ] {
        assert_eq!(days(expression, month), expected, "{expression} in {month}");
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
        ("60 * * * *", "\"60\" is no minute: write 0 to 59, *, a-b, */n or a list of these"),
        ("* 18-8 * * *", "\"18-8\" is no hour: write 0 to 23, *, a-b, */n or a list of these"),
        ("* */0 * * *", "\"*/0\" is no hour: write 0 to 23, *, a-b, */n or a list of these"),
        ("* * * monday *", "\"monday\" is no month: write 1 to 12, *, a-b, */n or a list of these"),
        ("* * * * ,", "\",\" is no day of the week: write 0 to 7, *, a-b, */n, 5L, 5#3 or a list of these"),
        ("* * 32w * *", "\"32w\" is no day of the month: write 1 to 31, *, a-b, */n, L, LW, 15W or a list of these"),
        ("* * w * *", "\"w\" is no day of the month: write 1 to 31, *, a-b, */n, L, LW, 15W or a list of these"),
        ("* * * * 5#6", "\"5#6\" is no day of the week: write 0 to 7, *, a-b, */n, 5L, 5#3 or a list of these"),
        ("* * * * l", "\"l\" is no day of the week: write 0 to 7, *, a-b, */n, 5L, 5#3 or a list of these"),
        ("* l * * *", "\"l\" is no hour: write 0 to 23, *, a-b, */n or a list of these"),
        ("@reboot", "it has 1 fields and not five, six or seven, such as \"* 8-18 * * mon-fri\""),
    ] {
        assert_eq!(Cron::parse(text).err().map(|error| error.to_string()).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn an_entry_with_what_the_reference_reads_is_usable() {
    let text = "[[runners]]\nname = \"a\"\nurl = \"https://gitlab.example.com\"\ntoken = \"t\"\nexecutor = \"kubernetes\"\n\
        [[runners.kubernetes.autoscaler.policy]]\nperiods = [\"* 8-17 * * monday-friday\", \"* * L jan *\", \"@daily\"]\n\
        [[runners.monitoring.job_queuing_durations]]\nthreshold = \"1m\"\nperiods = [\"0 30 8 * * mon#1 2026 more\", \"* * 15W * fri,\"]\n";
    let loaded = crate::load(text, &|_| None).unwrap();
    assert_eq!(loaded.settings.runners.len(), 1, "{:?}", loaded.unusable);
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    assert!(said.contains("has 8 fields: those behind the 7th, the year, are not read"), "{said}");
}
