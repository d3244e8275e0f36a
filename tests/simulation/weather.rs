//! What the networks of a world are like at this moment: for each request, whether and how it goes
//! wrong.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

/// One answer in so many is cut, where any is.
const CUTS: u32 = 40;

/// The longest way of a request in microseconds, usually and where the network is slow.
const QUICK: u64 = 20_000;
const SLOW: u64 = 4_000_000;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is answered.
    Fine,
    /// There is no connection.
    Refused,
    /// The connection breaks before the request is there.
    LostRequest,
    /// The connection breaks after the request was there.
    LostAnswer,
    /// The connection breaks in the middle of the answer.
    CutAnswer,
    /// The answer never comes, although the request was there.
    Silence,
    /// Something on the way answers this status.
    Status(u16),
}

/// One network.
#[derive(Debug)]
pub(crate) struct Weather {
    inner: Mutex<Inner>,
    /// What proxies and tired servers answer.
    statuses: &'static [u16],
}

#[derive(Debug)]
struct Inner {
    rng: SmallRng,
    /// One request in so many goes wrong; none if 0.
    one_in: u32,
    /// Decides which answers are cut; absent where none is.
    cuts: Option<SmallRng>,
    away_until: Option<Instant>,
    /// Everything gets this answer until then.
    storm: Option<(u16, Instant)>,
    /// Everything takes its time until then.
    slow_until: Option<Instant>,
}

impl Weather {
    /// Weather in which one request in `one_in` goes wrong, and with `cuts` some answers besides.
    pub(crate) fn new(rng: SmallRng, one_in: u32, cuts: Option<SmallRng>, statuses: &'static [u16]) -> Self {
        Self {
            inner: Mutex::new(Inner { rng, one_in, cuts, away_until: None, storm: None, slow_until: None }),
            statuses,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is reached for a while.
    pub(crate) fn away_for(&self, time: Duration) {
        self.inner().away_until = Some(Instant::now() + time);
    }

    /// Every answer has this status for a while.
    pub(crate) fn storm_for(&self, status: u16, time: Duration) {
        self.inner().storm = Some((status, Instant::now() + time));
    }

    /// Everything is slow for a while.
    pub(crate) fn slow_for(&self, time: Duration) {
        self.inner().slow_until = Some(Instant::now() + time);
    }

    /// From now on everything works.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner();
        inner.one_in = 0;
        inner.cuts = None;
        inner.away_until = None;
        inner.storm = None;
        inner.slow_until = None;
    }

    /// What becomes of the next request, and how long it is on its way.
    pub(crate) fn next(&self) -> (Fate, Duration) {
        let mut inner = self.inner();
        let now = Instant::now();
        let is_slow = inner.slow_until.is_some_and(|until| now < until);
        let longest = if is_slow { SLOW } else { QUICK };
        let latency = Duration::from_micros(inner.rng.random_range(200..longest));
        if inner.away_until.is_some_and(|until| now < until) {
            return (Fate::Refused, latency);
        }
        if let Some((status, until)) = inner.storm
            && now < until
        {
            return (Fate::Status(status), latency);
        }
        if inner.cuts.as_mut().is_some_and(|rng| rng.random_ratio(1, CUTS)) {
            return (Fate::CutAnswer, latency);
        }
        let one_in = inner.one_in;
        if one_in == 0 || !inner.rng.random_ratio(1, one_in) {
            return (Fate::Fine, latency);
        }
        let status = self.statuses[inner.rng.random_range(0..self.statuses.len())];
        let fate = match inner.rng.random_range(0..8) {
            0 => Fate::Refused,
            1 => Fate::LostRequest,
            2 => Fate::LostAnswer,
            3 => Fate::Silence,
            _ => Fate::Status(status),
        };
        (fate, latency)
    }
}
