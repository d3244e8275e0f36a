//! From what a script prints to the trace of its job.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use gantry_core::Secret;
use gantry_helper::{TraceFile, measured};
use gantry_trace::{Options, Stream, Trace, default_token_prefixes};
use gantry_wire::plan::TracePlan;
use jiff::Timestamp;

use crate::lines::{LOG, PIECE, lines};

/// The trace of a job: masked, stamped and limited, as the agent does it.
pub(crate) fn trace(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Bytes(LOG as u64));
    let log = lines();
    let similar = |number: u64| format!("s3cr3t-value-of-variable-{number:04}");
    let all = [
        ("plain", Vec::new(), false),
        ("stamped", Vec::new(), true),
        ("stamped, 50 masks", (0..50).map(similar).collect(), true),
        // Values that begin alike are quick to tell from text; those that begin with every letter
        // are not.
        ("200 masks that are alike", (0..200).map(similar).collect(), false),
        ("200 masks that are not", (0..200).map(random).collect(), false),
        ("stamped, 200 masks that are not", (0..200).map(random).collect(), true),
    ];
    for (name, masks, timestamps) in all {
        let masks: Vec<String> = masks;
        let options = Options {
            masks: masks.into_iter().map(Secret::new).collect(),
            token_prefixes: default_token_prefixes(false, &[]),
            timestamps,
            limit: u64::MAX,
        };
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || (Trace::new(options.clone(), "", &mut Vec::new()), Vec::with_capacity(2 * LOG)),
                |(trace, out)| {
                    for piece in log.chunks(PIECE) {
                        trace.write(Stream::JobOut, Timestamp::UNIX_EPOCH, piece, out);
                    }
                    trace.close(Timestamp::UNIX_EPOCH, out);
                    black_box(out.len());
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// The same as the agent does it: with the time of each piece, into the file that managers read,
/// and with the sum of all of it.
pub(crate) fn journal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Bytes(LOG as u64));
    let log = lines();
    let plan = TracePlan {
        head: "Running with gantry\n".to_owned(),
        masks: (0..50).map(random).map(Secret::new).collect(),
        token_prefixes: default_token_prefixes(false, &[]),
        timestamps: true,
        sections: true,
        limit_bytes: u64::MAX,
        debug_trace: false,
    };
    let directory = tempfile::tempdir().expect("a directory");
    group.bench_function("stamped, 50 masks", |bencher| {
        bencher.iter_batched(
            || TraceFile::nameless(directory.path().join("trace")),
            |file| black_box(measured::journal(&file, &plan, log.chunks(PIECE))),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A token of letters and digits, as password generators make them; the same for each number.
fn random(number: u64) -> String {
    let mut state = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[usize::try_from(state % letters.len() as u64).expect("a letter")])
    };
    (0..24).map(|_| letter()).collect()
}
