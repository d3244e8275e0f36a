//! The numbered lines of a log, and what is wrong with them.

/// The numbers of the lines that a log has, in order.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.strip_prefix("line ")?.trim_end().parse::<u32>().ok())
}

/// How many lines are missing, and how many are there once too often or in a wrong place. `last`:
/// the number of the last line, where it must be there.
pub(crate) fn compare(text: &str, last: Option<u32>) -> (u32, u32) {
    let (mut next, mut missing, mut doubled) = (1, 0, 0);
    for number in numbers(text) {
        if number < next {
            doubled += 1;
        } else {
            missing += number - next;
            next = number + 1;
        }
    }
    (missing + last.map_or(0, |last| (last + 1).saturating_sub(next)), doubled)
}
