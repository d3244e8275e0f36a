//! What the address of a request means: which session, and what of it. Pure.

/// Where all sessions are.
pub(super) const ROOT: &str = "/session/";

/// What is wanted of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SessionTarget {
    /// `exec`: a terminal.
    Terminal,
    /// `proxy/<service>/<port>/<path>`: a port of one of the job's containers.
    Port {
        service: String,
        /// Its number or its name.
        port: String,
        /// With the slash before it.
        path: String,
    },
}

/// The id of a session, and what follows it.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let (id, rest) = path.strip_prefix(ROOT)?.split_once('/')?;
    (!id.is_empty()).then_some((id, rest))
}

impl SessionTarget {
    /// Reads what follows the id. A service and a port without a path behind them mean the root.
    pub(super) fn read(rest: &str) -> Option<Self> {
        if rest == "exec" {
            return Some(Self::Terminal);
        }
        let (service, rest) = rest.strip_prefix("proxy/")?.split_once('/')?;
        let (port, path) = rest.split_once('/').unwrap_or((rest, ""));
        let is_whole = !service.is_empty() && !port.is_empty();
        is_whole.then(|| Self::Port { service: service.to_owned(), port: port.to_owned(), path: format!("/{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let port = |service: &str, port: &str, path: &str| {
            Some(SessionTarget::Port { service: service.into(), port: port.into(), path: path.into() })
        };
        assert_eq!(split("/session/0a1b/exec"), Some(("0a1b", "exec")));
        for path in ["/session/0a1b", "/session//exec", "/other/0a1b/exec", "/session", ""] {
            assert_eq!(split(path), None, "{path}");
        }
        assert_eq!(SessionTarget::read("exec"), Some(SessionTarget::Terminal));
        // The vectors of GitLab Runner 19.4.
        assert_eq!(SessionTarget::read("proxy/service/80/foo/bar"), port("service", "80", "/foo/bar"));
        for rest in ["proxy//80/foo", "proxy/service//foo", "proxy////", "proxy/", "", "exec/", "proxy/service"] {
            assert_eq!(SessionTarget::read(rest), None, "{rest}");
        }
        assert_eq!(SessionTarget::read("proxy/build/default_port/"), port("build", "default_port", "/"));
        assert_eq!(SessionTarget::read("proxy/build/default_port"), port("build", "default_port", "/"));
    }
}
