//! The targets, given examples that are changed by chance: without a fuzzer, so that a usual build
//! can. The same numbers give the same inputs.
//!
//!     cargo test --manifest-path fuzz/Cargo.toml                           # five seconds each
//!     GANTRY_FUZZ_SECONDS=600 cargo test --manifest-path fuzz/Cargo.toml plan
//!     GANTRY_FUZZ_SEED=7 …                                                 # other inputs
//!
//! What makes a target fail is written to `artifacts/TARGET/`, and run first from then on.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long each target is tried.
const SECONDS: u64 = 5;

/// Longest input, as libFuzzer has it by default.
const LONGEST: usize = 4096 * 4;

/// Inputs that are tried at least, however slow they are.
const FEWEST: u64 = 50;

/// Numbers by chance, the same for each seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() % end.max(1)
    }

    /// A range of something that long.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 32 };
        start..start + self.below(most.min(length - start) + 1)
    }

    fn change(&mut self, input: &mut Vec<u8>, others: &[Vec<u8>]) {
        /// What readers have special cases for.
        const WORDS: [&[u8]; 24] = [
            b"\0",
            b"\n",
            b"\r\n",
            b"..",
            b"/",
            b"../../",
            b"-1",
            b"0",
            b"18446744073709551615",
            b"9223372036854775807",
            b"\xff",
            b"\xc3",
            b"{",
            b"}",
            b"\"",
            b"[]",
            b"null",
            b"$CI_JOB_ID",
            b"${",
            b"PK\x03\x04",
            b"\x28\xb5\x2f\xfd",
            b"=",
            b":",
            b"1e309",
        ];
        match self.below(8) {
            0 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] ^= 1 << self.below(8);
            }
            1 if !input.is_empty() => {
                let at = self.below(input.len());
                input[at] = self.next() as u8;
            }
            2 => drop(input.drain(self.range(input.len()))),
            3 => {
                let (range, at) = (self.range(input.len()), self.below(input.len() + 1));
                let part = input[range].to_vec();
                input.splice(at..at, part);
            }
            4 | 5 => {
                let (word, at) = (WORDS[self.below(WORDS.len())], self.below(input.len() + 1));
                let end = (at + word.len() * self.below(2)).min(input.len());
                input.splice(at..end, word.iter().copied());
            }
            6 => {
                let other = &others[self.below(others.len())];
                let (range, at) = (self.range(other.len()), self.range(input.len()));
                input.splice(at, other[range].iter().copied());
            }
            _ => {
                // A number becomes another one.
                let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
                if let Some(at) = digits.get(self.below(digits.len())) {
                    input[*at] = b'0' + self.below(10) as u8;
                }
            }
        }
        input.truncate(LONGEST);
    }
}

fn inputs(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("an example"))).collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn mutate(name: &str, target: impl Fn(&[u8])) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (seeds, found) = (inputs(&here.join("seeds").join(name)), here.join("artifacts").join(name));
    assert!(!seeds.is_empty(), "seeds/{name} has no example");
    for (path, input) in seeds.iter().cloned().chain(inputs(&found)) {
        assert!(catch_unwind(AssertUnwindSafe(|| target(&input))).is_ok(), "{} fails", path.display());
    }
    let seed = number("GANTRY_FUZZ_SEED", 1);
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, input)| input).collect();
    let end = Instant::now() + Duration::from_secs(number("GANTRY_FUZZ_SECONDS", SECONDS));
    let mut count: u64 = 0;
    while count < FEWEST || Instant::now() < end {
        let mut input = seeds[chance.below(seeds.len())].clone();
        for _ in 0..=chance.below(6) {
            chance.change(&mut input, &seeds);
        }
        count += 1;
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            fs::create_dir_all(&found).expect("a directory");
            let path = found.join(format!("{seed}-{count}"));
            fs::write(&path, &input).expect("a file");
            panic!("input {count} of seed {seed} fails; it is in {}", path.display());
        }
    }
    eprintln!("{name}: {count} inputs");
}

fn text(target: impl Fn(&str)) -> impl Fn(&[u8]) {
    move |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            target(text);
        }
    }
}

#[test]
fn answers() {
    mutate("answers", text(gantry_fuzz::answers::target));
}

#[test]
fn config() {
    mutate("config", text(gantry_fuzz::config::target));
}

#[test]
fn payload() {
    mutate("payload", gantry_fuzz::payload::target);
}

#[test]
fn plan() {
    mutate("plan", text(gantry_fuzz::plan::target));
}

#[test]
fn unpack() {
    mutate("unpack", gantry_fuzz::unpack::target);
}

#[test]
fn unpack_tar() {
    mutate("unpack_tar", gantry_fuzz::unpack_tar::target);
}
