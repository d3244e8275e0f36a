//! Which proxy a request goes through, by the rules of Go's `golang.org/x/net/http/httpproxy`,
//! which GitLab Runner 19.4 and `kubectl` follow. One place for all clients. Pure: the environment
//! comes in as a function.

use core::net::IpAddr;

use crate::secret::Secret;

/// Schemes of proxies that Go knows.
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// Proxies, and what is reached without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// URL of the proxy for `http`.
    http: Option<Secret>,
    /// URL of the proxy for `https`.
    https: Option<Secret>,
    no_proxy: String,
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network { address: IpAddr, prefix: u8 },
    /// `10.1.2.3`, `10.1.2.3:443`, `[::1]:443`
    Address { address: IpAddr, port: Option<String> },
    /// `example.com`, `.example.com`, `*.example.com`, each also with a port.
    Domain {
        /// With a dot before it.
        suffix: String,
        /// Whether the domain itself is meant too.
        itself: bool,
        port: Option<String>,
    },
}

impl Proxies {
    /// As given. A proxy without a scheme is one for `http`; what is no URL of a proxy is none.
    pub fn new(http: Option<&str>, https: Option<&str>, no_proxy: &str) -> Self {
        let url = |text: Option<&str>| text.and_then(|text| proxy_url(text.trim())).map(Secret::new);
        Self { http: url(http), https: url(https), no_proxy: no_proxy.to_owned(), exceptions: exceptions(no_proxy) }
    }

    /// The variables; each may also be written in lower case.
    pub const VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

    /// From `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and their lower case forms; what is empty
    /// counts as absent. `variable` looks one up.
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let [http, https, no_proxy] = Self::VARIABLES.map(|name| any(variable, name));
        let http = http.filter(|_| !is_cgi(variable));
        Self::new(http.as_deref(), https.as_deref(), &no_proxy.unwrap_or_default())
    }

    /// What a user should know about the environment: which of its proxies are not used, and why.
    /// Values are not repeated.
    pub fn remarks(variable: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
        let mut remarks = Vec::new();
        if any(variable, "ALL_PROXY").is_some() {
            remarks
                .push("ALL_PROXY is set and not used, as in GitLab Runner: set HTTPS_PROXY and HTTP_PROXY".to_owned());
        }
        if is_cgi(variable) && any(variable, "HTTP_PROXY").is_some() {
            remarks.push(
                "HTTP_PROXY is set and not used, because REQUEST_METHOD is set too: in a CGI program anybody could set it".to_owned(),
            );
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
            if any(variable, name).is_some_and(|text| proxy_url(text.trim()).is_none()) {
                remarks.push(format!(
                    "{name} is not the URL of a proxy and is not used: write http://host:port, https://… or socks5://…"
                ));
            }
        }
        remarks
    }

    /// The proxy for `http` URLs.
    pub fn http(&self) -> Option<&Secret> {
        self.http.as_ref()
    }

    /// The proxy for `https` URLs.
    pub fn https(&self) -> Option<&Secret> {
        self.https.as_ref()
    }

    /// The exceptions, as they were given.
    pub fn no_proxy(&self) -> &str {
        &self.no_proxy
    }

    /// The proxy for a request; none if it goes straight to `host`, which may be a name or an
    /// address. `localhost` and loopback addresses are always reached directly.
    pub fn of(&self, scheme: &str, host: &str, port: u16) -> Option<&Secret> {
        let proxy = match scheme {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let host = host.trim().trim_matches(['[', ']']).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return None;
        }
        let port = port.to_string();
        let is_direct = self.exceptions.iter().any(|exception| exception.matches(&host, address, &port));
        (!is_direct).then_some(proxy)
    }
}

impl Exception {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((address, prefix)) = text.split_once('/')
            && let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>())
            && prefix <= bits(address)
        {
            return Some(Self::Network { address, prefix });
        }
        let (host, port) = host_and_port(text);
        let port = port.map(str::to_owned);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address { address: address.to_canonical(), port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match host.strip_prefix('.') {
            _ if host.is_empty() => None,
            Some(_) => Some(Self::Domain { suffix: host.to_owned(), itself: false, port }),
            None => Some(Self::Domain { suffix: format!(".{host}"), itself: true, port }),
        }
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let same_port = |wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network { address: network, prefix } => {
                address.is_some_and(|address| is_inside(address, *network, *prefix))
            }
            Self::Address { address: own, port } => address == Some(*own) && same_port(port),
            Self::Domain { suffix, itself, port } => {
                let is_same = *itself && suffix.strip_prefix('.') == Some(host);
                address.is_none() && (is_same || host.ends_with(suffix.as_str())) && same_port(port)
            }
        }
    }
}

/// The variable or its lower case form, whichever holds something.
fn any(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    let filled = |name: &str| variable(name).filter(|text| !text.is_empty());
    filled(name).or_else(|| filled(&name.to_ascii_lowercase()))
}

fn is_cgi(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    variable("REQUEST_METHOD").is_some_and(|text| !text.is_empty())
}

fn proxy_url(text: &str) -> Option<String> {
    match text.split_once("://") {
        _ if text.is_empty() => None,
        Some((scheme, rest)) => {
            let scheme = scheme.to_ascii_lowercase();
            (SCHEMES.contains(&scheme.as_str()) && !rest.is_empty()).then(|| format!("{scheme}://{rest}"))
        }
        None => Some(format!("http://{text}")),
    }
}

/// After a `*` nothing else counts.
fn exceptions(text: &str) -> Vec<Exception> {
    let entries = text.split(',').map(|entry| entry.trim().to_ascii_lowercase());
    let read: Vec<Exception> = entries.filter_map(|entry| Exception::read(&entry)).collect();
    if read.contains(&Exception::All) { vec![Exception::All] } else { read }
}

/// `host:port` and `[address]:port` in two parts. An address of version 6 without brackets has no
/// port.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').filter(|port| !port.is_empty()));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port).filter(|port| !port.is_empty())),
        _ => (text, None),
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_inside(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let high = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let differing = high(address) ^ high(network);
    address.is_ipv4() == network.is_ipv4() && differing.leading_zeros() >= u32::from(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_direct(no_proxy: &str, scheme: &str, host: &str, port: u16) -> bool {
        let proxies = Proxies::new(Some("http://p:1"), Some("http://p:2"), no_proxy);
        proxies.of(scheme, host, port).is_none()
    }

    #[test]
    fn exceptions_as_go_reads_them() {
        for (no_proxy, host, port, direct) in [
            ("", "gitlab.example.com", 443, false),
            ("example.com", "example.com", 443, true),
            ("example.com", "gitlab.example.com", 443, true),
            ("example.com", "notexample.com", 443, false),
            (".example.com", "gitlab.example.com", 443, true),
            (".example.com", "example.com", 443, false),
            ("*.example.com", "gitlab.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*example.com", "gitlab.example.com", 443, false),
            ("gitlab.example.com:443", "gitlab.example.com", 443, true),
            ("gitlab.example.com:443", "gitlab.example.com", 8443, false),
            ("gitlab.example.com:443", "a.gitlab.example.com", 443, true),
            ("*.example.com:8080", "a.example.com", 8080, true),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3:443", "10.1.2.3", 443, true),
            ("10.1.2.3:443", "10.1.2.3", 6443, false),
            ("10.0.0.0/8", "10.255.1.1", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            ("10.1.2.3/33", "10.1.2.3", 443, false),
            ("0.0.0.0/0", "8.8.8.8", 443, true),
            ("0.0.0.0/0", "fd00::1", 443, false),
            ("fd00::/8", "fd12::1", 443, true),
            ("[fd00::1]:443", "[fd00::1]", 443, true),
            ("fd00::1", "fd00::1", 443, true),
            ("*", "anything.test", 1, true),
            ("other.test,*", "anything.test", 1, true),
            (" Example.COM , x", "GITLAB.example.com", 443, true),
            ("x,,:80,.", "gitlab.example.com", 443, false),
            ("1.2.3.4", "a1.2.3.4", 443, false),
            ("3.4", "1.2.3.4", 443, false),
            ("", "localhost", 443, true),
            ("", "127.0.0.1", 6443, true),
            ("", "127.8.9.10", 6443, true),
            ("", "[::1]", 6443, true),
            ("", "::ffff:127.0.0.1", 6443, true),
            ("", "localhost.example.com", 443, false),
        ] {
            assert_eq!(goes_direct(no_proxy, "https", host, port), direct, "{no_proxy:?} {host}:{port}");
        }
    }

    fn from(environment: &[(&str, &str)]) -> (Proxies, Vec<String>) {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        (Proxies::from_environment(&variable), Proxies::remarks(&variable))
    }

    fn of(environment: &[(&str, &str)], scheme: &str) -> Option<String> {
        from(environment).0.of(scheme, "gitlab.test", 1).map(|proxy| proxy.expose().to_owned())
    }

    #[test]
    fn each_scheme_has_its_own_variable() {
        let http = [("HTTP_PROXY", "http://a:1")];
        assert_eq!((of(&http, "http"), of(&http, "https")), (Some("http://a:1".into()), None));
        let both = [("HTTPS_PROXY", ""), ("https_proxy", "b:2"), ("http_proxy", "a")];
        assert_eq!((of(&both, "http"), of(&both, "https")), (Some("http://a".into()), Some("http://b:2".into())));
        let upper_first = [("https_proxy", "lower"), ("HTTPS_PROXY", "SOCKS5://upper")];
        assert_eq!(of(&upper_first, "https"), Some("socks5://upper".into()));
        let lower_no = [("HTTPS_PROXY", "b"), ("no_proxy", "gitlab.test")];
        assert_eq!(of(&lower_no, "https"), None);
        assert_eq!(of(&[("HTTPS_PROXY", "b")], "ws"), None);
    }

    #[test]
    fn what_is_not_used_is_said() {
        let all = [("ALL_PROXY", "http://u:hunter2@a")];
        assert_eq!((of(&all, "http"), of(&all, "https")), (None, None));
        assert!(from(&all).1[0].starts_with("ALL_PROXY is set and not used"), "{:?}", from(&all).1);
        let cgi = [("HTTP_PROXY", "a"), ("HTTPS_PROXY", "b"), ("REQUEST_METHOD", "GET")];
        assert_eq!((of(&cgi, "http"), of(&cgi, "https")), (None, Some("http://b".into())));
        assert!(from(&cgi).1[0].contains("REQUEST_METHOD"));
        let strange = [("HTTPS_PROXY", "ftp://u:hunter2@a")];
        assert_eq!(of(&strange, "https"), None);
        assert!(from(&strange).1[0].starts_with("HTTPS_PROXY is not the URL"));
        let said = [from(&all).1, from(&cgi).1, from(&strange).1].concat().join("");
        assert!(!said.contains("hunter2"));
        assert!(from(&[("HTTPS_PROXY", "b"), ("NO_PROXY", "x")]).1.is_empty());
        assert!(!format!("{:?}", from(&[("HTTPS_PROXY", "http://u:hunter2@a")]).0).contains("hunter2"));
    }
}
