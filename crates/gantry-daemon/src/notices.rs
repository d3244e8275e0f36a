//! What is said to operators by those who know no job and no metrics: a type for each thing, as in
//! `events.rs`, which stands above them.

mod around;
mod sessions;

pub(crate) use around::{
    CacheStoreUnusable, CachesNotKept, CachesNotRenewed, NamespaceLeft, NamespacesUnseen, SpansUnsent, SpansUnwanted,
};
pub(crate) use sessions::{
    ConnectionsRefused, PortUnreachable, SessionServerChanged, SessionUntrusted, TerminalClosed, TerminalLingers,
    TerminalOpened, TerminalRefused, TerminalTimedOut, TerminalUnused,
};

/// Something that is said, and counted nowhere.
pub(crate) trait Notice {
    /// Says it in the log.
    fn say(&self);
}
