//! Artifacts become an archive, without the way to GitLab.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput};
use gantry_helper::measured;

use crate::lines::lines;

/// Bytes of the one large file.
const LARGE: usize = 16 << 20;

/// Small files, and bytes of each.
const FILES: usize = 2_000;
const SMALL: usize = 2_000;

/// A zip archive of files that can be made smaller, of one that cannot, and of many small ones.
/// Into nothing: what is measured is reading, compressing and the archive's own entries.
pub(crate) fn pack(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pack");
    group.sample_size(20);
    let text: Vec<u8> = lines().into_iter().cycle().take(LARGE).collect();
    let noise: Vec<u8> = (0_u64..).flat_map(scattered).take(LARGE).collect();
    let small = |number: usize| (format!("{}/{number}", number / 200), text[number..number + SMALL].to_vec());
    let loads = [
        ("text", vec![("large".to_owned(), text.clone())]),
        ("noise", vec![("large".to_owned(), noise)]),
        ("small files", (0..FILES).map(small).collect()),
    ];
    for (name, files) in loads {
        let project = tempfile::tempdir().expect("a directory");
        let paths: BTreeSet<PathBuf> = files.iter().map(|(path, _)| PathBuf::from(path)).collect();
        for (path, bytes) in &files {
            write(&project.path().join(path), bytes);
        }
        group.throughput(Throughput::Bytes(files.iter().map(|(_, bytes)| bytes.len() as u64).sum()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let packed = measured::pack(project.path(), &paths, &mut std::io::sink());
                packed.expect("an archive");
            });
        });
    }
    group.finish();
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, bytes).expect("a file");
}

/// Bytes without a pattern, the same for each number (the finalizer of `SplitMix64`).
fn scattered(number: u64) -> [u8; 8] {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state ^ (state >> 31)).to_le_bytes()
}
