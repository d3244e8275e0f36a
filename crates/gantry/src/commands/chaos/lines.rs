//! The numbered lines of a log, and what is wrong with them.

/// The numbers of the lines that a log has, in order.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.strip_prefix("line ")?.trim_end().parse::<u32>().ok())
}

/// What is wrong with the lines of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Lines that are not there.
    pub(crate) missing: u32,
    /// Lines that are there once too often, or in a wrong place.
    pub(crate) doubled: u32,
}

/// Looks for lines that are missing or doubled. `last`: the number of the last line, where it must
/// be there.
pub(crate) fn compare(text: &str, last: Option<u32>) -> Compared {
    let (mut next, mut missing, mut doubled) = (1, 0, 0);
    for number in numbers(text) {
        if number < next {
            doubled += 1;
        } else {
            missing += number - next;
            next = number + 1;
        }
    }
    Compared { missing: missing + last.map_or(0, |last| (last + 1).saturating_sub(next)), doubled }
}
