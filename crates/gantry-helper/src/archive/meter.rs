//! Says how far a transfer is, as often as the job wants (`TRANSFER_METER_FREQUENCY`, a duration):
//! a line each time, because others come between them.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use gantry_core::go_duration;
use gantry_http::ByteStream;
use tokio::time::Instant;

use super::{say, warn};

/// The variable of the job. Zero, which is the default, shows nothing.
const FREQUENCY: &str = "TRANSFER_METER_FREQUENCY";

/// Shortest time between two lines (GitLab Runner 19.4).
const SHORTEST: Duration = Duration::from_secs(1);

/// One transfer.
pub(super) struct Meter {
    label: &'static str,
    every: Option<Duration>,
    /// How much there is, where that is known.
    total: Option<u64>,
    pub(super) done: u64,
    begun: Instant,
    /// When a line was shown last, if one was.
    shown: Option<Instant>,
}

impl Meter {
    /// Of a transfer that begins now. `label` is what it does, such as `Uploading cache`.
    pub(super) fn new(label: &'static str, total: Option<u64>) -> Self {
        let text = std::env::var(FREQUENCY).unwrap_or_default();
        let every = every(&text).unwrap_or_else(|error| {
            warn(&why_none(&text, &error));
            None
        });
        Self { label, every, total, done: 0, begun: Instant::now(), shown: None }
    }

    /// Counts what has come or gone.
    pub(super) fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let Some(every) = self.every else { return };
        if self.shown.unwrap_or(self.begun).elapsed() >= every {
            self.shown = Some(Instant::now());
            say(&self.line(self.begun.elapsed()));
        }
    }

    /// All has come or gone. Who has seen how far it was sees the end, once.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() {
            say(&self.line(self.begun.elapsed()));
        }
    }

    /// Counts a stream. One whose length is known ends with its last byte: whoever has all of it
    /// may not ask for more.
    pub(super) fn watch(self, content: ByteStream) -> ByteStream {
        Box::pin(stream::unfold((content, self), |(mut content, mut meter)| async {
            let piece = content.next().await;
            match &piece {
                Some(Ok(bytes)) => {
                    meter.add(bytes.len());
                    if meter.total == Some(meter.done) {
                        meter.end();
                    }
                }
                Some(Err(_)) => {}
                None => meter.end(),
            }
            Some((piece?, (content, meter)))
        }))
    }

    fn line(&self, elapsed: Duration) -> String {
        let total = self.total.map(|total| format!("/{}", amount(total, 2))).unwrap_or_default();
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = self.done.saturating_mul(1000) / millis;
        format!("{} {}{total} ({}/s)", self.label, amount(self.done, 2), amount(rate, 1))
    }
}

fn every(text: &str) -> Result<Option<Duration>, go_duration::ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(go_duration::parse(text)?).filter(|every| !every.is_zero()).map(|every| every.max(SHORTEST)))
}

fn why_none(text: &str, error: &go_duration::ParseError) -> String {
    let is = if *error == go_duration::ParseError::Malformed { "is " } else { "" };
    format!("{FREQUENCY} is {text:?}, which {is}{error}: no progress is shown")
}

/// Such as `12.50 MB`, in the units of GitLab Runner 19.4, of a thousand each.
fn amount(bytes: u64, decimals: usize) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
    ];
    let Some((unit, size)) = UNITS.into_iter().find(|(_, size)| bytes >= *size) else { return format!("{bytes} B") };
    let thousandths = bytes % size / (size / 1000);
    let fraction: String = format!("{thousandths:03}").chars().take(decimals).collect();
    format!("{}.{fraction} {unit}", bytes / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_much_and_how_fast() {
        let meter = |done, total| Meter {
            label: "Uploading cache",
            every: None,
            total,
            done,
            begun: Instant::now(),
            shown: None,
        };
        let two = Duration::from_secs(2);
        assert_eq!(meter(12_500_000, Some(3_000_000_000)).line(two), "Uploading cache 12.50 MB/3.00 GB (6.2 MB/s)");
        assert_eq!(meter(999, None).line(two), "Uploading cache 999 B (499 B/s)");
        assert_eq!(meter(0, None).line(Duration::ZERO), "Uploading cache 0 B (0 B/s)");
    }

    #[test]
    fn frequencies_are_durations() {
        assert_eq!(every(""), Ok(None));
        assert_eq!(every("0"), Ok(None));
        assert_eq!(every("200ms"), Ok(Some(SHORTEST)));
        assert_eq!(every("1m30s"), Ok(Some(Duration::from_secs(90))));
        let why = |text: &str| why_none(text, &every(text).unwrap_err());
        assert_eq!(
            [why("5"), why("-5s")],
            [
                "TRANSFER_METER_FREQUENCY is \"5\", which is not a duration such as 300ms, 90s, 10m or 1h30m: no progress is shown",
                "TRANSFER_METER_FREQUENCY is \"-5s\", which is negative: no progress is shown",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_due_every_now_and_then() {
        let mut meter = Meter { every: Some(Duration::from_secs(2)), ..Meter::new("x", None) };
        let mut shown = Vec::new();
        for second in 0..7 {
            meter.add(10);
            shown.extend(meter.shown.filter(|at| at.elapsed().is_zero()).map(|_| second));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!((shown, meter.done), (vec![2, 4, 6], 70));
    }
}
