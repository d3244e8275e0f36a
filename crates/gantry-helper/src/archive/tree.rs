//! What a tree of files is, in two digests that travel at the end of its cache: whoever has the
//! same files knows so without sending or fetching them. Times and owners are no part of it: a tool
//! that makes the same files again has changed nothing.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::root::{Kind, Opener, Root};
use crate::limits::{PACK_WORKERS, TREE_APART, TREE_BLOCK, TREE_BUFFER};

/// Of bytes.
type Hash = [u8; 32];

/// A skippable frame of zstd, which every reader passes over: so the archive stays one for
/// everybody.
const FRAME: [u8; 4] = [0x57, 0x2a, 0x4d, 0x18];

/// What the frame begins with, so that it is no other's.
const MARK: [u8; 12] = *b"gantry-tree2";

/// What an archive keeps of a mode, beside its kind.
const MODE: u32 = 0o170_777;

/// Length of the frame.
pub(super) const TRAILER: usize = 4 + 4 + MARK.len() + 2 * 32;

/// A tree, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeDigest {
    /// Of names, kinds, modes, sizes and where links lead.
    listing: Hash,
    /// Of the bytes of all files: first of those up to [`TREE_APART`], then of the larger ones.
    content: Hash,
}

impl TreeDigest {
    /// How it stands at the end of an archive.
    pub(super) fn trailer(&self) -> Vec<u8> {
        let body = [MARK.as_slice(), &self.listing, &self.content].concat();
        let length = u32::try_from(body.len()).unwrap_or_default();
        [FRAME.as_slice(), &length.to_le_bytes(), &body].concat()
    }

    /// That of an archive that ends with `end`, if it has one.
    pub(super) fn of_end(end: &[u8]) -> Option<Self> {
        let trailer = end.get(end.len().checked_sub(TRAILER)?..)?;
        let rest = trailer.strip_prefix(FRAME.as_slice())?.get(4..)?.strip_prefix(MARK.as_slice())?;
        let (listing, content) = rest.split_at_checked(32)?;
        Some(Self { listing: listing.try_into().ok()?, content: content.try_into().ok()? })
    }
}

/// Hashes the bytes of a file. Those of a large one with BLAKE3, which is several times as fast as
/// SHA-256 for them, also where the processor has no instructions for that.
pub(super) enum ContentHasher {
    Small(Sha256),
    Large(Box<blake3::Hasher>),
}

impl ContentHasher {
    /// For a file of that length.
    pub(super) fn new(length: u64) -> Self {
        if length > TREE_APART { Self::Large(Box::default()) } else { Self::Small(Sha256::new()) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Small(hasher) => hasher.update(bytes),
            Self::Large(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    pub(super) fn end(self) -> Hash {
        match self {
            Self::Small(hasher) => hasher.finalize().into(),
            Self::Large(hasher) => hasher.finalize().into(),
        }
    }
}

/// Some entries of a tree, as their digest is made of them.
#[derive(Default)]
pub(super) struct TreePart {
    listing: Vec<u8>,
    content: Vec<u8>,
}

impl TreePart {
    pub(super) fn directory(&mut self, path: &Path, mode: u32) {
        self.entry(path, mode, &[]);
    }

    pub(super) fn link(&mut self, path: &Path, mode: u32, target: &Path) {
        self.entry(path, mode, target.as_os_str().as_bytes());
    }

    /// A file of that length; the hash of its bytes is given to [`Self::bytes`], or to the hasher
    /// after this part. Of a larger one than [`TREE_APART`], the hasher is given it at any time.
    pub(super) fn file(&mut self, path: &Path, mode: u32, length: u64) {
        self.entry(path, mode, &length.to_le_bytes());
    }

    /// The hash of the bytes of the latest file.
    pub(super) fn bytes(&mut self, hash: &Hash) {
        self.content.extend_from_slice(hash);
    }

    fn clear(&mut self) {
        self.listing.clear();
        self.content.clear();
    }

    fn entry(&mut self, path: &Path, mode: u32, rest: &[u8]) {
        for text in [path.as_os_str().as_bytes(), rest] {
            self.listing.extend_from_slice(&(text.len() as u64).to_le_bytes());
            self.listing.extend_from_slice(text);
        }
        self.listing.extend_from_slice(&(mode & MODE).to_le_bytes());
    }
}

/// Makes the digest of a tree, part by part.
#[derive(Clone, Default)]
pub(super) struct TreeHasher {
    listing: Sha256,
    content: Sha256,
    /// Hashes of the bytes of the files that are larger than [`TREE_APART`].
    apart: Vec<Hash>,
}

impl TreeHasher {
    /// What follows in the tree.
    pub(super) fn add(&mut self, part: &TreePart) {
        self.listing.update(&part.listing);
        self.content.update(&part.content);
    }

    /// The hash of the bytes of the latest file.
    pub(super) fn bytes(&mut self, hash: &Hash) {
        self.content.update(hash);
    }

    /// The latest file is larger than [`TREE_APART`]. Gives where the hash of its bytes goes.
    pub(super) fn place_apart(&mut self) -> usize {
        self.apart.push(Hash::default());
        self.apart.len() - 1
    }

    /// The hash of the bytes of such a file.
    pub(super) fn bytes_apart(&mut self, place: usize, hash: Hash) {
        if let Some(place) = self.apart.get_mut(place) {
            *place = hash;
        }
    }

    pub(super) fn digest(mut self) -> TreeDigest {
        for hash in &self.apart {
            self.content.update(hash);
        }
        TreeDigest { listing: self.listing.finalize().into(), content: self.content.finalize().into() }
    }
}

/// Whether the files are those that `known` was made of. They are read only where everything else
/// about them is the same.
pub(super) fn is_same(root: &Root, paths: &BTreeSet<PathBuf>, known: &TreeDigest) -> io::Result<bool> {
    let (mut tree, mut opener) = (TreeHasher::default(), Opener::new(root));
    let (mut files, mut large) = (Vec::new(), Vec::new());
    let mut part = TreePart::default();
    for path in paths {
        let Ok(status) = opener.status(path) else { continue };
        match status.kind() {
            Kind::Directory => part.directory(path, status.mode),
            Kind::Link => part.link(path, status.mode, &opener.link(path)?),
            Kind::File => {
                part.file(path, status.mode, status.length);
                let list = if status.length > TREE_APART { &mut large } else { &mut files };
                list.push((path.as_path(), status.length));
            }
            Kind::Other => {}
        }
        tree.add(&part);
        part.clear();
    }
    if Hash::from(tree.listing.clone().finalize()) != known.listing {
        return Ok(false);
    }
    for hash in hashes(root, &files, TREE_BLOCK)? {
        tree.bytes(&hash);
    }
    for hash in hashes(root, &large, 1)? {
        let place = tree.place_apart();
        tree.bytes_apart(place, hash);
    }
    Ok(tree.digest() == *known)
}

/// The hash of each file of that length, on all cores, each of which takes so many at once.
fn hashes(root: &Root, files: &[(&Path, u64)], at_once: usize) -> io::Result<Vec<Hash>> {
    let next = AtomicUsize::new(0);
    let blocks: Vec<&[(&Path, u64)]> = files.chunks(at_once).collect();
    let work = || -> io::Result<Vec<(usize, Vec<Hash>)>> {
        let (mut opener, mut buffer, mut done) = (Opener::new(root), vec![0; TREE_BUFFER], Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(number) else { return Ok(done) };
            let hashes = block.iter().map(|(path, length)| hash(&mut opener, path, *length, &mut buffer));
            done.push((number, hashes.collect::<io::Result<_>>()?));
        }
    };
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get().min(PACK_WORKERS));
    let mut all = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::with_capacity(blocks.len());
        for thread in threads {
            all.extend(thread.join().map_err(|_| io::Error::other("its thread has ended"))??);
        }
        Ok::<_, io::Error>(all)
    })?;
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().flat_map(|(_, hashes)| hashes).collect())
}

fn hash(opener: &mut Opener<'_>, path: &Path, length: u64, buffer: &mut [u8]) -> io::Result<Hash> {
    let mut file = opener.open(path)?;
    let mut hash = ContentHasher::new(length);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hash.end()),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::SystemTime;

    use super::*;
    use crate::archive::pack::{Format, pack};
    use crate::archive::root::root;

    #[test]
    fn a_cache_says_what_it_was_made_of() {
        let project = tempfile::tempdir().unwrap();
        let at = |path: &str| project.path().join(path);
        let fill = || {
            let _ = fs::remove_dir_all(at("deps"));
            fs::create_dir_all(at("deps/empty")).unwrap();
            for number in 0..300 {
                fs::write(at(&format!("deps/{number}")), format!("content {number}")).unwrap();
            }
            symlink("1", at("deps/link")).unwrap();
        };
        let paths = || -> BTreeSet<PathBuf> {
            let all = walkdir::WalkDir::new(at("deps")).into_iter().map(|entry| entry.unwrap().into_path());
            all.map(|path| path.strip_prefix(project.path()).unwrap().to_owned()).collect()
        };
        fill();
        let root = root(project.path());
        let mut archive = Vec::new();
        pack(Format::TarZstd.into(), &root, &paths(), &mut archive).unwrap();
        let known = TreeDigest::of_end(&archive).unwrap();
        assert!(is_same(&root, &paths(), &known).unwrap());
        // The same files once more, at another time.
        fill();
        fs::File::open(at("deps/7")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(is_same(&root, &paths(), &known).unwrap());
        let changes: [&dyn Fn(); 7] = [
            &|| fs::write(at("deps/7"), "Content 7").unwrap(),
            &|| fs::write(at("deps/7"), "longer content 7").unwrap(),
            &|| fs::rename(at("deps/7"), at("deps/7x")).unwrap(),
            &|| fs::remove_file(at("deps/299")).unwrap(),
            &|| fs::remove_dir(at("deps/empty")).unwrap(),
            &|| fs::set_permissions(at("deps/7"), fs::Permissions::from_mode(0o755)).unwrap(),
            &|| {
                fs::remove_file(at("deps/link")).unwrap();
                symlink("2", at("deps/link")).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            fill();
            change();
            assert!(!is_same(&root, &paths(), &known).unwrap(), "{number}");
        }
    }

    #[test]
    fn other_ends_say_nothing() {
        let digest = TreeDigest { listing: [1; 32], content: [2; 32] };
        let trailer = digest.trailer();
        assert_eq!((trailer.len(), TreeDigest::of_end(&trailer)), (TRAILER, Some(digest)));
        assert_eq!(TreeDigest::of_end(&trailer[1..]), None);
        assert_eq!(TreeDigest::of_end(&[0; TRAILER]), None);
        assert_eq!(TreeDigest::of_end(b"PK"), None);
    }
}
