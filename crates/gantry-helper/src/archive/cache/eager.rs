//! A file that goes to the disk while it is written: who waits for the end of a large one waits for
//! its last part only.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::limits::SYNC_PIECE;

/// The file.
pub(super) struct EagerFile {
    file: File,
    /// Bytes since the disk was told the last time.
    new: usize,
    tell: SyncSender<()>,
    disk: JoinHandle<io::Result<()>>,
}

impl EagerFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let (tell, told) = sync_channel(1);
        let clone = file.try_clone()?;
        let disk = Builder::new().spawn(move || sync(&clone, &told))?;
        Ok(Self { file, new: 0, tell, disk })
    }

    /// Nothing more is written. What is not on the disk yet is for the owner of the file.
    ///
    /// # Errors
    /// The disk has refused something: nobody else is told so again.
    pub(super) fn end(self) -> io::Result<()> {
        drop(self.tell);
        self.disk.join().unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))
    }
}

fn sync(file: &File, told: &Receiver<()>) -> io::Result<()> {
    while told.recv().is_ok() {
        file.sync_data()?;
    }
    Ok(())
}

impl Write for EagerFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.new += count;
        // A disk that is busy, or refuses, is not told twice.
        if self.new >= SYNC_PIECE && self.tell.try_send(()).is_ok() {
            self.new = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
