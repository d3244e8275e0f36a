use std::time::Duration;

use super::*;

fn named(manager: &str, claim: Claim) -> Claimant {
    Claimant::Named { manager: manager.to_owned(), claim }
}

/// A charge and its clock.
struct Bench {
    charge: Charge,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { charge: Charge::new(now), now }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn claim(&mut self, claimant: &Claimant) -> Result<u64, (Refusal, Option<u64>)> {
        let epoch = self.charge.arrived();
        self.charge.claim(claimant, epoch, self.now).map_err(|refused| (refused.cause, refused.retry_after_ms))
    }

    fn in_charge(manager: &str) -> Self {
        let mut bench = Self::new();
        bench.claim(&named(manager, Claim::Resume)).unwrap();
        bench
    }
}

const SUPERSEDED: Result<u64, (Refusal, Option<u64>)> = Err((Refusal::Superseded, None));

#[test]
fn the_manager_that_took_the_job_comes_back_as_often_as_it_likes() {
    let mut bench = Bench::in_charge("a");
    for epoch in 2..5 {
        assert_eq!(bench.claim(&named("a", Claim::Resume)), Ok(epoch));
        bench.charge.left(epoch, bench.now);
        bench.pass(Duration::from_secs(1000));
    }
}

#[test]
fn who_was_superseded_never_comes_back_by_the_right_of_the_first() {
    let mut bench = Bench::in_charge("a");
    assert_eq!(bench.claim(&named("b", Claim::Replace)), Err((Refusal::RelayLives, Some(3001))));
    bench.pass(Duration::from_millis(12_001));
    assert_eq!(bench.claim(&named("b", Claim::Replace)), Ok(3));
    for claim in [Claim::Resume, Claim::Resume] {
        assert_eq!(bench.claim(&named("a", claim)), SUPERSEDED);
    }
    // It may believe that the other has been silent since before it slept.
    bench.pass(Duration::from_secs(12) + Duration::from_millis(1));
    bench.charge.heard(3, bench.now);
    bench.charge.left(3, bench.now);
    assert!(matches!(bench.claim(&named("a", Claim::Replace)), Err((Refusal::RelayLives, Some(_)))));
    // When the other is gone for certain it is as good as any.
    bench.pass(COMES_BACK + Duration::from_millis(1));
    assert!(bench.claim(&named("a", Claim::Adopt)).is_ok());
    assert_eq!(bench.claim(&named("b", Claim::Resume)), SUPERSEDED);
}

#[test]
fn who_found_the_job_waits_until_the_other_cannot_come_back() {
    let mut bench = Bench::in_charge("a");
    let adopt = named("b", Claim::Adopt);
    assert!(matches!(bench.claim(&adopt), Err((Refusal::RelayLives, Some(_)))));
    bench.charge.left(1, bench.now);
    let Err((Refusal::RelayLives, Some(rest))) = bench.claim(&adopt) else { panic!("too early") };
    bench.pass(Duration::from_millis(rest));
    assert!(bench.claim(&adopt).is_ok());
}

#[test]
fn one_that_lets_go_is_followed_at_once() {
    let mut bench = Bench::in_charge("a");
    bench.charge.release(7);
    assert!(bench.claim(&named("b", Claim::Adopt)).is_err());
    bench.charge.release(1);
    assert!(bench.claim(&named("b", Claim::Adopt)).is_ok());
    assert_eq!(bench.claim(&named("a", Claim::Resume)), SUPERSEDED);
}

#[test]
fn a_pod_that_nobody_has_spoken_to_belongs_to_its_maker_first() {
    let mut bench = Bench::new();
    let adopt = named("b", Claim::Adopt);
    assert!(matches!(bench.claim(&adopt), Err((Refusal::RelayLives, Some(_)))));
    bench.pass(RELAY_SILENCE);
    assert!(bench.claim(&adopt).is_err());
    let mut bench = Bench::new();
    bench.pass(RELAY_SILENCE + Duration::from_millis(1));
    assert!(bench.claim(&adopt).is_ok());
    let mut bench = Bench::new();
    let mut found = Bench::new();
    assert!(found.claim(&named("b", Claim::Replace)).is_ok());
    assert_eq!(found.claim(&named("a", Claim::Resume)), SUPERSEDED);
    assert!(bench.claim(&named("a", Claim::Resume)).is_ok());
}

#[test]
fn managers_without_names_supersede_each_other_but_nobody_with_a_name() {
    let mut bench = Bench::new();
    assert_eq!(bench.claim(&Claimant::Nameless), Ok(1));
    assert_eq!(bench.claim(&Claimant::Nameless), Ok(2));
    bench.charge.left(2, bench.now);
    bench.pass(COMES_BACK + Duration::from_millis(1));
    assert_eq!(bench.claim(&named("b", Claim::Adopt)), Ok(3));
    assert_eq!(bench.claim(&Claimant::Nameless), SUPERSEDED);
}

#[test]
fn a_grant_has_the_largest_number() {
    let mut bench = Bench::in_charge("a");
    let early = bench.charge.arrived();
    assert_eq!(bench.claim(&named("a", Claim::Resume)), Ok(3));
    bench.charge.release(3);
    assert_eq!(bench.charge.claim(&named("b", Claim::Adopt), early, bench.now).unwrap(), 4);
    assert!(!bench.charge.left(3, bench.now) && bench.charge.left(4, bench.now));
}

#[test]
fn versions_must_meet() {
    let greeting = |oldest, newest| Greeting {
        protocols: Protocols { oldest, newest },
        version: "9.0.0".into(),
        manager: "m".into(),
        claim: Claim::Adopt,
    };
    assert_eq!(Claimant::of(greeting(2, 9)), Ok(named("m", Claim::Adopt)));
    assert_eq!(Claimant::of(greeting(8, 9)).unwrap_err().cause, Refusal::Protocol);
}
