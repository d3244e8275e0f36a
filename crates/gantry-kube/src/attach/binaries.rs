//! The helpers that can be pushed, by machine. Where they are kept is the caller's business.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::Arc,
};

use bytes::Bytes;

/// Static `gantry-helper` binaries by machine, as `uname -m` names it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HelperBinaries {
    by_machine: BTreeMap<String, HelperBinary>,
}

/// One helper, as it is and, where that is there, packed.
#[derive(Clone, Debug)]
pub struct HelperBinary {
    plain: Content,
    packed: Option<PackedHelper>,
}

/// A helper that zstd has packed, and what unpacks it: no image of helpers has zstd. Together they
/// are two fifths of the helper's bytes through an exec, and half where the image has no gzip.
#[derive(Clone, Debug)]
pub struct PackedHelper {
    /// The static `gantry-unpack` for the same machine.
    pub receiver: Content,
    /// The same, compressed by gzip.
    pub receiver_gzip: Option<Content>,
    /// The helper, as one frame of zstd.
    pub helper: Content,
}

/// What goes to one container: a program and, if that is what unpacks the helper, the helper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) first: &'a Content,
    /// Whether gzip has compressed the first one.
    pub(crate) compressed: bool,
    pub(crate) packed: Option<&'a Content>,
}

impl Delivery<'_> {
    pub(crate) fn length(&self) -> u64 {
        self.first.length() + self.packed.map_or(0, Content::length)
    }
}

impl HelperBinary {
    /// The binary itself.
    pub fn new(plain: impl Into<Content>) -> Self {
        Self { plain: plain.into(), packed: None }
    }

    /// Adds the same, packed.
    #[must_use]
    pub fn with_packed(self, packed: PackedHelper) -> Self {
        Self { packed: Some(packed), ..self }
    }

    /// Whether it goes packed.
    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// What to send to a container that has `gzip` or not.
    pub(crate) fn for_container(&self, has_gzip: bool) -> Delivery<'_> {
        let Some(packed) = &self.packed else {
            return Delivery { first: &self.plain, compressed: false, packed: None };
        };
        let gzip = packed.receiver_gzip.as_ref().filter(|_| has_gzip);
        Delivery { first: gzip.unwrap_or(&packed.receiver), compressed: gzip.is_some(), packed: Some(&packed.helper) }
    }
}

/// Bytes in memory, or in a file that is open: of a file nothing is in memory but what is being
/// sent.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file, which must not change: its length is that of the moment when it was opened.
    File {
        /// The file.
        file: Arc<File>,
        /// How much of it.
        length: u64,
    },
}

impl Content {
    /// A program without what is only for debuggers.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn program(file: File) -> io::Result<Self> {
        let length = super::loaded_length(&file)?;
        Ok(Self::File { file: Arc::new(file), length })
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// The last `count` bytes, or all.
    pub fn end(&self, count: usize) -> io::Result<Bytes> {
        self.piece(self.length().saturating_sub(count as u64), count)
    }

    /// The bytes from `offset` on, at most `most`; none at the end. Reads from the page cache as a
    /// rule, so it does not wait.
    pub(crate) fn piece(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
                Ok(bytes.slice(start..bytes.len().min(start + most)))
            }
            Self::File { file, length } => {
                let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(most);
                let mut piece = vec![0; left.min(most)];
                file.read_exact_at(&mut piece, offset)?;
                Ok(piece.into())
            }
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

impl TryFrom<File> for Content {
    type Error = io::Error;

    fn try_from(file: File) -> io::Result<Self> {
        let length = file.metadata()?.size();
        Ok(Self::File { file: Arc::new(file), length })
    }
}

impl HelperBinaries {
    /// None: every image must bring its helper.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the one for `machine`: `x86_64` or `amd64`, `aarch64` or `arm64`, and so on.
    #[must_use]
    pub fn with(mut self, machine: &str, binary: HelperBinary) -> Self {
        self.by_machine.insert(canonical(machine).to_owned(), binary);
        self
    }

    /// The one for `machine`.
    pub fn get(&self, machine: &str) -> Option<&HelperBinary> {
        self.by_machine.get(canonical(machine))
    }

    /// The machines there is one for.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        self.by_machine.keys().map(String::as_str)
    }
}

/// Kernels, Go and images name the same machines differently.
fn canonical(machine: &str) -> &str {
    match machine {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_read_in_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for content in [Content::try_from(file).unwrap(), Content::from(b"0123456789".to_vec())] {
            let pieces: Vec<Bytes> = [0, 4, 8, 10].map(|offset| content.piece(offset, 4).unwrap()).into();
            assert_eq!(pieces, ["0123", "4567", "89", ""]);
            assert_eq!(content.length(), 10);
        }
    }

    #[test]
    fn the_receiver_is_compressed_where_it_can_be_unpacked() {
        let packed = PackedHelper {
            receiver: vec![1; 4].into(),
            receiver_gzip: Some(vec![1; 2].into()),
            helper: vec![1; 3].into(),
        };
        let plain = HelperBinary::new(vec![1; 9]);
        let both = plain.clone().with_packed(packed.clone());
        let without_gzip = plain.clone().with_packed(PackedHelper { receiver_gzip: None, ..packed });
        let sent = |binary: &HelperBinary, gzip| {
            let delivery = binary.for_container(gzip);
            (delivery.first.length(), delivery.compressed, delivery.length())
        };
        assert_eq!(sent(&plain, true), (9, false, 9));
        assert_eq!([sent(&both, true), sent(&both, false)], [(2, true, 5), (4, false, 7)]);
        assert_eq!(sent(&without_gzip, true), (4, false, 7));
    }
}
