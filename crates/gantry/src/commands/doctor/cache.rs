//! The check of the cache store: can it be read, and, where that is asked for, written?

use gantry_daemon::{CacheFound, try_cache, wiring};
use gantry_gitlab::Client;

use super::Subject;
use super::finding::Finding;

/// Name of the check.
const CHECK: &str = "cache";

/// Looks at the store of an entry; nothing is found where it has none.
pub(super) async fn examine(subject: &Subject<'_>, writes: bool) -> Vec<Finding> {
    let runner = subject.runner;
    let options = wiring::gitlab(runner, &subject.directories, subject.settings.connection_max_age);
    let ca_pem = Client::new(options).ok().and_then(|client| client.ca_pem());
    let Some(found) = try_cache(runner, &subject.directories, ca_pem, writes).await else { return Vec::new() };
    vec![match found {
        CacheFound::Unusable(why) => {
            Finding::error(CHECK, why, "correct [runners.cache] of the runner; until then its jobs run without caches")
        }
        CacheFound::Doubtful(why) => {
            let change = "`gantry doctor --cache` puts a small object there and reads it again, which tells";
            Finding::warning(CHECK, why, change)
        }
        CacheFound::Readable(store) => Finding::ok(CHECK, format!("{store} can be read; --cache tries to write too")),
        CacheFound::Works(store) => Finding::ok(CHECK, format!("{store} takes an object and gives it back")),
    }]
}
