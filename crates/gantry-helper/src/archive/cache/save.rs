//! Saves caches: what has changed since it was restored is packed and sent, or put on a volume.

use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use gantry_core::error_chain::chain;
use gantry_wire::cache::{CacheFile, CachePlace, CacheSave, CacheTransfer, SaveCaches, SignedRequest};

use super::archive::Archive;
use super::eager::EagerFile;
use super::files::NewFile;
use super::job::CacheJob;
use super::parts::{self, Upload};
use super::send::{Content, Sender};
use super::trouble::CacheTrouble;
use super::{Chosen, choose, fetch, files, limit, memory, name_of, name_of_object, notice, remark, say, warn, yellow};
use crate::archive::meter::Meter;
use crate::archive::pack::{Format, Level, Style, pack};
use crate::archive::packing::Packing;
use crate::archive::select::Remark;
use crate::archive::tree::{self, TRAILER, TreeDigest};
use crate::limits::CACHE_IDLE;
use crate::tasks;

pub(super) async fn all(job: &CacheJob, work: &SaveCaches) {
    for cache in &work.caches {
        remark(&cache.remarks);
        if cache.places.is_empty() {
            continue;
        }
        notice(&format!("Creating cache {}...", cache.key));
        match one(job, &work.transfer, cache).await {
            Ok(()) => notice("Created cache"),
            Err(error) => {
                warn(&chain(&error));
                yellow("Failed to create cache");
            }
        }
    }
}

async fn one(job: &CacheJob, transfer: &CacheTransfer, cache: &CacheSave) -> Result<(), CacheTrouble> {
    let request = cache.places.iter().find_map(|place| match place {
        CachePlace::Store(request) => Some(request),
        _ => None,
    });
    let chosen = match changed(job, transfer, cache).await {
        Ok(Some(chosen)) => chosen,
        nothing => {
            // An upload that the runner has begun is not needed. That it cannot be given up is not
            // what is wrong.
            if let Some((request, parts)) = request.and_then(|request| Some((request, request.parts.as_ref()?)))
                && let Ok(sender) = Sender::new(request, transfer)
            {
                parts::give_up(&sender, parts).await;
            }
            return nothing.map(drop);
        }
    };
    let volume = cache.places.iter().find_map(volume);
    let target = Target { job, transfer, style: style(), most: request.and_then(|_| most(transfer)), volume };
    if let Some(request) = request {
        return target.to_store(chosen, request).await;
    }
    let Some(file) = target.volume else {
        let text = "this helper does not know where the cache goes: use a newer helper image";
        return Err(CacheTrouble::Volume(text.to_owned()));
    };
    say("No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.");
    to_volume(chosen, target.style, file).await
}

/// The files of a cache, if there are any that are not kept yet.
async fn changed(job: &CacheJob, transfer: &CacheTransfer, cache: &CacheSave) -> Result<Option<Chosen>, CacheTrouble> {
    let Some(mut chosen) = choose(job, &cache.paths, cache.untracked)? else {
        warn("No files to cache.");
        return Ok(None);
    };
    for remark in chosen.remarks.drain(..) {
        match remark {
            Remark::Plain(text) => say(&text),
            Remark::Warning(text) => warn(&text),
        }
    }
    if chosen.paths.is_empty() {
        warn("No files to cache.");
        return Ok(None);
    }
    let restored_from = memory::unchanged_since(job, &cache.key, &chosen.root, &chosen.paths);
    if restored_from.as_ref().is_some_and(|place| is_own(place, transfer, cache)) {
        say("Archive is up to date!");
        return Ok(None);
    }
    let (chosen, is_kept) = is_kept(chosen, transfer, cache).await?;
    if is_kept {
        say("Archive is up to date!");
        return Ok(None);
    }
    if restored_from.is_some() {
        say("The cache has not changed, but was restored from another place than its own: it is saved there.");
    }
    Ok(Some(chosen))
}

/// Whether a cache that was restored from `place` is where it would go. One that the key's other
/// name had, or a volume beside a store, is not.
fn is_own(place: &str, transfer: &CacheTransfer, cache: &CacheSave) -> bool {
    let of_store = matches!(cache.places.first(), Some(CachePlace::Store(_)));
    let first = cache.places.first().map(name_of);
    let read = cache.now.as_ref().filter(|_| of_store).map(name_of_object);
    if [first, read].into_iter().flatten().any(|own| own == place) {
        return true;
    }
    // The volume has what the store does not take.
    let Some(file) = cache.places.iter().skip(1).find(|other| name_of(other) == place).and_then(volume) else {
        return false;
    };
    most(transfer).zip(files::length(file).ok()).is_some_and(|(most, length)| length > most)
}

fn volume(place: &CachePlace) -> Option<&CacheFile> {
    match place {
        CachePlace::File(file) => Some(file),
        _ => None,
    }
}

/// Whether the cache that is kept was made of the same files, by what it says of itself at its end.
/// Whatever goes wrong with that question goes wrong again, and is told, where the cache is sent.
async fn is_kept(chosen: Chosen, transfer: &CacheTransfer, cache: &CacheSave) -> Result<(Chosen, bool), CacheTrouble> {
    let end = match (cache.places.first(), &cache.now) {
        (Some(CachePlace::Store(_)), Some(now)) => {
            let asked = tokio::time::timeout(CACHE_IDLE, fetch::tail(now, transfer, TRAILER)).await;
            asked.ok().and_then(Result::ok)
        }
        (Some(CachePlace::File(file)), _) => files::tail(file, TRAILER).ok(),
        _ => return Ok((chosen, false)),
    };
    let Some(known) = end.and_then(|end| TreeDigest::of_end(&end)) else { return Ok((chosen, false)) };
    let compared = tasks::blocking(move || {
        let is_same = tree::is_same(&chosen.root, &chosen.paths, &known).unwrap_or(false);
        (chosen, is_same)
    });
    compared.await.map_err(CacheTrouble::Thread)
}

/// Where a cache goes.
struct Target<'a> {
    job: &'a CacheJob,
    transfer: &'a CacheTransfer,
    style: Style,
    /// Largest archive for the store.
    most: Option<u64>,
    /// For what the store does not take.
    volume: Option<&'a CacheFile>,
}

impl Target<'_> {
    async fn to_store(&self, chosen: Chosen, request: &SignedRequest) -> Result<(), CacheTrouble> {
        let sender = Sender::new(request, self.transfer)?;
        say(&format!("Uploading cache.zip to {}", sender.shown));
        let limit = limit(self.transfer);
        let sending = async {
            let Some(parts) = &request.parts else { return self.whole(&sender, chosen, request).await };
            let scratch = Path::new(&self.job.scratch_dir);
            let upload = Upload { sender: &sender, request, parts, most: self.most, scratch };
            match self.in_parts(&upload, &chosen).await {
                Err(CacheTrouble::TooLarge(most)) => self.too_large(None, most, Packed::Not(chosen)).await,
                // Some stores take no parts, or not with these keys.
                Err(CacheTrouble::Refused(why)) => {
                    warn(&format!("{why}; the cache is sent in one request instead"));
                    self.whole(&sender, chosen, request).await
                }
                sent => sent,
            }
        };
        let too_slow = || CacheTrouble::TooSlow { store: self.transfer.store.clone(), minutes: limit.as_secs() / 60 };
        let sent = tokio::time::timeout(limit, sending).await;
        if sent.is_err()
            && let Some(parts) = &request.parts
        {
            parts::give_up(&sender, parts).await;
        }
        sent.unwrap_or_else(|_| Err(too_slow()))
    }

    /// Packs while it sends.
    async fn in_parts(&self, upload: &Upload<'_>, chosen: &Chosen) -> Result<(), CacheTrouble> {
        let (packing, mut failure) = Packing::new(self.style, Arc::clone(&chosen.root), Arc::clone(&chosen.paths));
        tokio::select! {
            biased;
            Some(error) = failure.recv() => {
                parts::give_up(upload.sender, upload.parts).await;
                Err(error.into())
            }
            sent = upload.send(Meter::new("Uploading cache", None).watch(packing.stream())) => sent,
        }
    }

    /// Packs until the length is known, then sends: a request of one piece says it first.
    async fn whole(&self, sender: &Sender<'_>, chosen: Chosen, request: &SignedRequest) -> Result<(), CacheTrouble> {
        let directory = &self.job.scratch_dir;
        let scratch = tempfile::tempfile_in(directory)
            .map_err(|source| CacheTrouble::Scratch { directory: directory.clone(), source })?;
        let archive = Archive::pack(chosen, self.style, scratch).await?;
        let size = archive.length();
        if let Some(most) = self.most.filter(|most| size > *most) {
            return self.too_large(Some(size), most, Packed::In(archive)).await;
        }
        sender.put(request, Content::Archive(archive)).await
    }

    async fn too_large(&self, size: Option<u64>, most: u64, packed: Packed) -> Result<(), CacheTrouble> {
        let size = size.map_or_else(|| format!("more than {most}"), |size| size.to_string());
        let end = if self.volume.is_some() { "Cache will be stored only locally." } else { "It is not kept." };
        warn(&format!("Cache archive size ({size}) is too big (Limit is set to {most}). {end}"));
        match (self.volume, packed) {
            (Some(file), Packed::In(archive)) => copy_to_volume(archive, file).await,
            (Some(file), Packed::Not(chosen)) => to_volume(chosen, self.style, file).await,
            (None, _) => Ok(()),
        }
    }
}

/// What there is of an archive.
enum Packed {
    In(Archive),
    Not(Chosen),
}

/// The job's variable that says the largest archive for the store.
const MOST: &str = "CACHE_MAX_UPLOADED_ARCHIVE_SIZE";

/// The job's variable that says how hard packing is tried.
const LEVEL: &str = "CACHE_COMPRESSION_LEVEL";

/// Largest archive for the store: as the operator says, else as the job does.
fn most(transfer: &CacheTransfer) -> Option<u64> {
    let of_job = || {
        most_of_job(&std::env::var(MOST).unwrap_or_default()).unwrap_or_else(|why| {
            warn(&why);
            None
        })
    };
    transfer.max_bytes.or_else(of_job).filter(|most| *most > 0)
}

fn most_of_job(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    // Less than nothing is no limit, as nothing is (GitLab Runner 19.4).
    let number: i64 = text.parse().map_err(|_| {
        format!("{MOST} is {text:?}, not a number of bytes such as 1000000000: caches of any size are kept")
    })?;
    Ok(u64::try_from(number).ok())
}

/// `CACHE_COMPRESSION_FORMAT` and `CACHE_COMPRESSION_LEVEL` of the job. Where it says nothing the
/// cache can be unpacked as it comes; every reader of caches knows the formats by their first
/// bytes.
fn style() -> Style {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let format = variable("CACHE_COMPRESSION_FORMAT");
    let format = match format.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("tarzstd") => Format::TarZstd,
        Some("zip") => Format::Zip,
        Some("zipzstd") => Format::ZipZstd,
        Some(other) => {
            warn(&format!("CACHE_COMPRESSION_FORMAT is {other:?}, not zip, tarzstd or zipzstd: tarzstd is used"));
            Format::TarZstd
        }
    };
    let (level, why) = Level::of_variable(LEVEL, &variable(LEVEL).unwrap_or_default());
    if let Some(why) = why {
        warn(&why);
    }
    Style { format, level }
}

async fn to_volume(chosen: Chosen, style: Style, place: &CacheFile) -> Result<(), CacheTrouble> {
    write_to_volume(place, move |out| Ok(pack(style, &chosen.root, &chosen.paths, out)?)).await
}

async fn copy_to_volume(archive: Archive, place: &CacheFile) -> Result<(), CacheTrouble> {
    write_to_volume(place, move |out| archive.write(out)).await
}

async fn write_to_volume(
    place: &CacheFile,
    write: impl FnOnce(&mut BufWriter<EagerFile>) -> Result<(), CacheTrouble> + Send + 'static,
) -> Result<(), CacheTrouble> {
    let new = NewFile::make(place)?;
    let trouble = |source| CacheTrouble::File { path: place.path.clone(), source };
    let file = EagerFile::new(new.file.try_clone().map_err(trouble)?).map_err(trouble)?;
    let written = tasks::blocking(move || -> Result<io::Result<()>, CacheTrouble> {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        Ok(out.into_inner().map_err(io::IntoInnerError::into_error).and_then(EagerFile::end))
    });
    written.await.map_err(CacheTrouble::Thread)??.map_err(trouble)?;
    new.publish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_none_is_said() {
        assert_eq!((most_of_job(""), most_of_job("12"), most_of_job("-1")), (Ok(None), Ok(Some(12)), Ok(None)));
        assert_eq!(
            most_of_job("1GB").unwrap_err(),
            "CACHE_MAX_UPLOADED_ARCHIVE_SIZE is \"1GB\", not a number of bytes such as 1000000000: caches of any size are kept"
        );
    }
}
