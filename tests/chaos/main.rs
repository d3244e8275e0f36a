//! What happens to jobs when everything around them is killed, cut, frozen or away: real processes,
//! on the simulators or with `--cluster` on the cluster of `KUBECONFIG`. Every test is one kind of
//! harm done to many jobs at once that print numbered lines all the time. At the end there is a
//! table; its right side must be zeros.
//!
//! `harms.rs` is what is done, `jobs.rs` the jobs and what becomes of them, `fleet.rs` the
//! managers, `node.rs` and `volume.rs` the node that is harmed.
//!
//!     cargo test -p gantry-tests --test chaos -- [FILTER] [--cluster]
//!
//! `GANTRY_CHAOS_JOBS` (20) and `GANTRY_CHAOS_SECONDS` (15) say how many jobs there are at once,
//! and how long each prints, `GANTRY_CHAOS_AWAY` (20) for how many seconds somebody is away.
//! `GANTRY_CHAOS_SHORT=1` is for every change: a few harms, side by side, to fewer and shorter
//! jobs.

mod fleet;
mod harms;
mod jobs;
mod node;
mod volume;
// What is counted, and how it is shown, is as in `gantry chaos`.
#[path = "../../crates/gantry/src/commands/chaos/lines.rs"]
mod lines;
#[path = "../../crates/gantry/src/commands/chaos/table.rs"]
mod table;
#[path = "../../crates/gantry/src/commands/chaos/watch.rs"]
mod watch;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use gantry_tests::suite::{self, Test};
use tokio::sync::Semaphore;

use crate::harms::{HARMS, Harm};
use crate::jobs::Size;
use crate::table::Row;

/// A round: its jobs, the harm, and GitLab's patience with what was not acknowledged.
const LONGEST: Duration = Duration::from_mins(15);

/// Harms at once in a short run; otherwise each has the machine for itself.
const SIDE_BY_SIDE: u32 = 3;

fn main() -> ExitCode {
    let rows: Rc<RefCell<Vec<Row>>> = Rc::default();
    let size = Size::asked();
    let places = if size.is_short { SIDE_BY_SIDE } else { 1 };
    let turns = Rc::new(Semaphore::new(places as usize));
    let test = |harm: &'static Harm| {
        let (rows, turns) = (Rc::clone(&rows), Rc::clone(&turns));
        let test = Test::new(format!("chaos: {}", harm.name), move |world| async move {
            let _turn = turns.acquire_many(if harm.is_common { places } else { 1 }).await?;
            let row = harms::round(&world, harm, size).await?;
            let verdict = row.verdict();
            rows.borrow_mut().push(row);
            verdict
        });
        // The others wait for their turn within their time.
        let test = test.takes(LONGEST * u32::try_from(HARMS.len()).unwrap_or(u32::MAX));
        match harm.need {
            Some(need) => test.needs(need),
            None => test,
        }
    };
    let harms = HARMS.iter().filter(|harm| harm.is_short || !size.is_short);
    let code = suite::main(harms.map(test).collect());
    let rows = rows.borrow();
    if !rows.is_empty() {
        println!("\n{}", table::table(&rows));
    }
    code
}
