//! What decides, renders, packs and relays, alone.
//!
//!     cargo bench -p gantry-tests --bench micro -- [FILTER] [--save-baseline NAME] [--baseline NAME]
//!
//! In one process and without network, so that a change of some percent is seen. What whole jobs
//! take is in `numbers/`.

mod lines;
mod pack;
mod plan;
mod relay;
mod render;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

criterion_group! {
    name = micro;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).without_plots();
    targets = render::trace, render::journal, relay::relay, pack::pack, plan::plan
}
criterion_main!(micro);
