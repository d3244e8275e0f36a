//! Who of the jobs of a node may write to a mirror: one at a time, and nobody while others read.
//! The kernel lets go of a lock whose holder is gone, whatever it died of.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use tokio::time::{Instant, sleep};

use crate::limits::{MIRROR_LOCK, MIRROR_LOCK_PAUSE};

/// The files that are locked; nothing is in them. Who wants the first takes the second before, and
/// lets go of it with the first in hand: so those that read cannot come between a writer that waits
/// and its lock, however many they are.
const NAME: &str = "lock";
const TURN: &str = "turn";

/// A lock, held as long as this lives.
pub(super) struct Lock(File);

impl Lock {
    /// May read, beside others.
    pub(super) async fn shared(mirror: &Path) -> Result<Self, String> {
        Self::take(mirror, File::try_lock_shared).await
    }

    /// May write, alone.
    pub(super) async fn exclusive(mirror: &Path) -> Result<Self, String> {
        Self::take(mirror, File::try_lock).await
    }

    async fn take(mirror: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self, String> {
        let until = Instant::now() + MIRROR_LOCK;
        let _turn = Self(open(mirror, TURN)?).wait(lock, until).await?;
        Self(open(mirror, NAME)?).wait(lock, until).await
    }

    /// Lets others read too. Another job may write in between.
    pub(super) async fn into_shared(self) -> Result<Self, String> {
        self.wait(File::try_lock_shared, Instant::now() + MIRROR_LOCK).await
    }

    /// A thread that waits for a lock cannot be called back, so it is asked for again and again.
    async fn wait(self, lock: fn(&File) -> Result<(), TryLockError>, until: Instant) -> Result<Self, String> {
        loop {
            match lock(&self.0) {
                Ok(()) => return Ok(self),
                Err(TryLockError::WouldBlock) if Instant::now() < until => sleep(MIRROR_LOCK_PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    return Err(format!("other jobs have kept it for {} s", MIRROR_LOCK.as_secs()));
                }
                Err(TryLockError::Error(error)) => return Err(format!("it cannot be locked ({error})")),
            }
        }
    }
}

fn open(mirror: &Path, name: &str) -> Result<File, String> {
    let path = mirror.join(name);
    // Neither through a link, nor for ever at a pipe that an earlier job has put there.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).open(&path);
    let file = file.map_err(|error| {
        format!("the user of the helper container may not write to it ({}: {error})", path.display())
    })?;
    // Helper containers of other runners may have other users.
    if let Ok(metadata) = file.metadata() {
        let mut mode = metadata.permissions();
        mode.set_mode(0o666);
        let _ = file.set_permissions(mode);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_writes_while_nobody_reads() {
        let mirror = tempfile::tempdir().unwrap();
        let reader = Lock::shared(mirror.path()).await.unwrap();
        let other = Lock::shared(mirror.path()).await.unwrap();
        let began = Instant::now();
        let refused = Lock::exclusive(mirror.path()).await.map(drop).unwrap_err();
        assert!(refused.contains("other jobs have kept it for 300 s"), "{refused}");
        assert!(began.elapsed() >= MIRROR_LOCK);
        drop((reader, other));
        let writer = Lock::exclusive(mirror.path()).await.unwrap();
        assert!(Lock::shared(mirror.path()).await.is_err());
        let reader = writer.into_shared().await.unwrap();
        assert!(Lock::shared(mirror.path()).await.is_ok());
        drop(reader);
    }
    #[tokio::test(start_paused = true)]
    async fn a_writer_has_its_turn_however_many_read() {
        let mirror = tempfile::tempdir().unwrap();
        let path = mirror.path();
        // Two by turns, so that one always holds it.
        let reading = async |pause: u32| {
            sleep(MIRROR_LOCK_PAUSE * pause).await;
            loop {
                let held = Lock::shared(path).await.unwrap();
                sleep(MIRROR_LOCK_PAUSE * 6).await;
                drop(held);
            }
        };
        let began = Instant::now();
        let writing = async {
            sleep(MIRROR_LOCK_PAUSE * 5).await;
            Lock::exclusive(path).await.unwrap()
        };
        tokio::select! {
            () = reading(0) => unreachable!(),
            () = reading(3) => unreachable!(),
            writer = writing => drop(writer),
        }
        assert!(began.elapsed() < MIRROR_LOCK / 2, "{:?}", began.elapsed());
    }
}
