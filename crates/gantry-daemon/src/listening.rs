//! Where the metrics server listens: what was given at the start, else what the file says, else the
//! usual address. It follows the file, and it is never lost because it cannot.

use std::net::SocketAddr;

use gantry_config::Settings;
use gantry_core::Secret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::events::{ListenChanged, Said as _};
use crate::outside::Outside;
use crate::server::{self, BindError, ServerState};
use crate::session::SessionServer;
use crate::tasks;

/// An address that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// `host:port`, or only one of them.
    pub address: String,
    /// The flag, variable or key that says so: what to change if it cannot be had.
    pub set_by: String,
}

/// No metrics server where one was asked for.
#[derive(Debug, thiserror::Error)]
#[error("change {set_by} to a free address of the form host:port")]
pub struct ListenError {
    /// The flag, variable or key that says where.
    pub set_by: String,
    /// Why not there.
    #[source]
    pub source: BindError,
}

/// The socket of the metrics server.
pub(crate) struct Listening {
    /// From the command line or the environment.
    given: Option<ListenAddress>,
    asked_for: Option<ListenAddress>,
    /// Absent once it is served, and where there is no server.
    listener: Option<TcpListener>,
    stop: CancellationToken,
}

impl Listening {
    /// Binds it.
    ///
    /// # Errors
    /// An address that was asked for cannot be had.
    pub(crate) async fn bind(
        outside: &dyn Outside,
        given: Option<ListenAddress>,
        settings: &Settings,
    ) -> Result<Self, ListenError> {
        let asked_for = asked_for(given.as_ref(), settings);
        let listener = listen(outside, asked_for.as_ref()).await?;
        Ok(Self { given, asked_for, listener, stop: CancellationToken::new() })
    }

    /// Where it is, until it is served.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves what is bound and not served yet.
    pub(crate) fn serve(&mut self, shown: ServerState) {
        if let Some(listener) = self.listener.take() {
            tasks::spawn(server::serve(listener, shown, self.stop.clone()));
        }
    }

    /// Moves the server to where the file says now. Where it cannot, it stays where it is.
    pub(crate) async fn follow(&mut self, outside: &dyn Outside, settings: &Settings, shown: ServerState) {
        let asked_for = asked_for(self.given.as_ref(), settings);
        if asked_for == self.asked_for {
            return;
        }
        let address = asked_for.as_ref().map_or(server::DEFAULT_LISTEN_ADDRESS, |asked_for| &asked_for.address);
        match listen(outside, asked_for.as_ref()).await {
            Ok(Some(listener)) => {
                ListenChanged::Moves(address).say();
                let (given, stop) = (self.given.take(), CancellationToken::new());
                let moved = Self { given, asked_for, listener: Some(listener), stop };
                std::mem::replace(self, moved).stop();
                self.serve(shown);
            }
            Ok(None) => ListenChanged::MovesLater.say(),
            Err(error) => ListenChanged::Stays(&error).say(),
        }
    }

    /// Ends the server.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// The session server of the settings, where they ask for one; `secret` is what managers share that
/// go on with each other's jobs.
///
/// # Errors
/// Its address cannot be had.
pub(crate) async fn sessions(
    outside: &dyn Outside,
    settings: &Settings,
    secret: Option<&Secret>,
) -> Result<Option<SessionServer>, ListenError> {
    let settings = &settings.session_server;
    let Some(address) = settings.listen_address.clone().filter(|address| !address.is_empty()) else {
        if settings.advertise_address.is_some() {
            tracing::warn!("advertise_address in [session_server] has no effect without listen_address");
        }
        return Ok(None);
    };
    let failed = |source| ListenError { set_by: "listen_address in [session_server]".to_owned(), source };
    let Some(listener) = outside.listen(Some(address.clone())).await.map_err(failed)? else { return Ok(None) };
    let server = SessionServer::new(listener, &address, settings, secret);
    let unmade = |error| BindError::Bind { address, source: std::io::Error::other(error) };
    server.map(Some).map_err(|error| failed(unmade(error)))
}

/// What was given at the start beats the file, which is said.
fn asked_for(given: Option<&ListenAddress>, settings: &Settings) -> Option<ListenAddress> {
    let in_file = settings.listen_address.clone();
    let Some(given) = given else {
        return in_file.map(|address| ListenAddress { address, set_by: "listen_address".to_owned() });
    };
    if let Some(in_file) = in_file.filter(|in_file| *in_file != given.address) {
        tracing::info!("listen_address = {in_file:?} has no effect: {} says {:?}", given.set_by, given.address);
    }
    Some(given.clone())
}

async fn listen(outside: &dyn Outside, asked_for: Option<&ListenAddress>) -> Result<Option<TcpListener>, ListenError> {
    let set_by = asked_for.map_or_else(String::new, |asked_for| asked_for.set_by.clone());
    let listener = outside.listen(asked_for.map(|asked_for| asked_for.address.clone())).await;
    listener.map_err(|source| ListenError { set_by, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_at_the_start_beats_the_file() {
        let of_file = |address: Option<&str>| Settings {
            listen_address: address.map(str::to_owned),
            ..gantry_config::load("", &|_| None).unwrap().settings
        };
        let flag = ListenAddress { address: ":9101".to_owned(), set_by: "--listen-address".to_owned() };
        let set_by = |given, address| asked_for(given, &of_file(address)).map(|asked| (asked.address, asked.set_by));
        let one = |address: &str, by: &str| Some((address.to_owned(), by.to_owned()));
        assert_eq!(set_by(None, None), None);
        assert_eq!(set_by(None, Some(":9102")), one(":9102", "listen_address"));
        assert_eq!(set_by(Some(&flag), Some(":9102")), one(":9101", "--listen-address"));
        assert_eq!(set_by(Some(&flag), None), one(":9101", "--listen-address"));
    }
}
