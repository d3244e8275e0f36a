//! What an answer with a part of something says about that part.

use http::HeaderMap;
use http::header::CONTENT_RANGE;

/// `Content-Range` of an answer 206 that says how long the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The place of the first byte that comes.
    pub start: u64,
    /// The length of the whole.
    pub whole_length: u64,
}

impl ContentRange {
    /// Nothing where the header is missing, is not one of bytes, or does not know the whole length
    /// (`bytes 0-9/*`).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let (unit, range) = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().split_once(' ')?;
        let (places, whole_length) = range.split_once('/')?;
        let (start, _) = places.split_once('-')?;
        let number = |text: &str| text.trim().parse().ok();
        let range = Self { start: number(start)?, whole_length: number(whole_length)? };
        unit.eq_ignore_ascii_case("bytes").then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_where_they_begin_and_of_how_much() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, text.parse().unwrap())]);
            ContentRange::of(&headers).map(|range| (range.start, range.whole_length))
        };
        assert_eq!(of("bytes 0-9/100"), Some((0, 100)));
        assert_eq!(of("Bytes 5-5/6"), Some((5, 6)));
        for useless in
            ["", "bytes", "bytes 0-9", "bytes 0-9/*", "bytes */100", "0-9/100", "lines 0-9/100", "bytes -1-9/9"]
        {
            assert_eq!(of(useless), None, "{useless}");
        }
        assert_eq!(ContentRange::of(&HeaderMap::new()), None);
    }
}
