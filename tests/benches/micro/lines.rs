//! Output that looks like that of jobs.

/// Bytes of a log: as much as a default one holds.
pub(crate) const LOG: usize = 4 << 20;

/// Bytes that the agent takes from a pipe at once.
pub(crate) const PIECE: usize = 64 << 10;

/// Output as compilers and tests print it, with text that begins like a masked value.
pub(crate) fn lines() -> Vec<u8> {
    let mut log = Vec::with_capacity(LOG + 100);
    let mut number = 0_u32;
    while log.len() < LOG {
        number += 1;
        let line = format!(
            "   Compiling module-{number} v0.{}.1 (s3cr3t-value of nobody, file://src/{number}.rs)\n",
            number % 17
        );
        log.extend_from_slice(line.as_bytes());
    }
    log.truncate(LOG);
    log
}
