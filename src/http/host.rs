//! The names a listener answers to.
//!
//! A web page can make a browser send requests to a developer's port, also under a name of its own that was rebound to
//! 127.0.0.1. The name in `Host` gives it away, so a listener has a list of names and refuses every other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The names, each with a port or for any port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNames(Box<[HostName]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct HostName {
    host: OwnedHost,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnedHost {
    Address(IpAddr),
    Name(Box<str>),
}

/// A host with or without a port, read strictly: no userinfo, no empty port, addresses in their full form.
#[derive(Clone, Copy, Debug, Eq)]
pub struct HostPort<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, Eq)]
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

/// A configured name that is not `host` or `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host name or address with an optional port")]
pub struct NotAHostName(pub String);

impl HostNames {
    /// `localhost`, `127.0.0.1` and `[::1]`, on `port` or on any.
    pub fn loopback(port: Option<u16>) -> Self {
        let hosts = [
            OwnedHost::Name("localhost".into()),
            OwnedHost::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            OwnedHost::Address(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        Self(hosts.into_iter().map(|host| HostName { host, port }).collect())
    }

    /// Reads `host` or `host:port` each; one without a port stands for every port.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, NotAHostName> {
        let parse = |name: &str| match HostPort::parse(name) {
            Some(HostPort { host, port }) => Ok(HostName { host: host.to_owned(), port }),
            None => Err(NotAHostName(name.to_owned())),
        };
        names.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// These names and those of `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.into_iter().chain(other.0).collect())
    }

    /// Whether `wanted` is one of the names. Without a port it means port 80 (RFC 9110 §4.2.1).
    pub fn contain(&self, wanted: HostPort<'_>) -> bool {
        self.0.iter().any(|name| {
            name.port.is_none_or(|port| port == wanted.port_or(80))
                && match (&name.host, wanted.host) {
                    (OwnedHost::Address(own), Host::Address(other)) => *own == other,
                    (OwnedHost::Name(own), Host::Name(other)) => own.eq_ignore_ascii_case(other),
                    (OwnedHost::Address(_), Host::Name(_)) | (OwnedHost::Name(_), Host::Address(_)) => false,
                }
        })
    }
}

impl<'a> HostPort<'a> {
    /// Reads the value of a `Host` header or an authority; `None` for everything doubtful.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (address, after) = bracketed.split_once(']')?;
            (Host::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)), after)
        } else {
            let (name, after) = text.split_at(text.find(':').unwrap_or(text.len()));
            (Host::parse_name(name)?, after)
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(parse_port(digits)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both mean the same host and port, where an absent port is `default`.
    pub fn is_same(self, other: Self, default: u16) -> bool {
        self.host == other.host && self.port_or(default) == other.port_or(default)
    }

    /// The port, if one is written.
    pub const fn port(self) -> Option<u16> {
        self.port
    }

    fn port_or(self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

impl PartialEq for HostPort<'_> {
    /// Without regard to the case of names; an absent port equals only an absent one.
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

impl<'a> Host<'a> {
    fn parse_name(name: &'a str) -> Option<Self> {
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let fits = (1..=255).contains(&name.len()) && name.bytes().all(allowed);
        fits.then_some(Self::Name(name))
    }

    fn to_owned(self) -> OwnedHost {
        match self {
            Self::Address(address) => OwnedHost::Address(address),
            Self::Name(name) => OwnedHost::Name(name.to_ascii_lowercase().into()),
        }
    }
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(two)) => one == two,
            (Self::Name(one), Self::Name(two)) => one.eq_ignore_ascii_case(two),
            (Self::Address(_), Self::Name(_)) | (Self::Name(_), Self::Address(_)) => false,
        }
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let fits = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(names: &HostNames, text: &str) -> bool {
        HostPort::parse(text).is_some_and(|host| names.contain(host))
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names_alone() {
        let any_port = HostNames::loopback(None);
        for good in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]", "[0:0:0:0:0:0:0:1]:8080"] {
            assert!(contain(&any_port, good), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.2",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0",
            "::1",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(!contain(&any_port, bad), "{bad}");
        }
    }

    #[test]
    fn a_port_counts_where_one_is_given() {
        let names =
            HostNames::loopback(Some(8080)).and(HostNames::parse(["Sidecar.internal", "proxy:80"]).expect("two names"));
        for (text, wanted) in [
            ("localhost:8080", true),
            ("localhost:8081", false),
            ("localhost", false),
            ("sidecar.internal:1234", true),
            ("proxy", true),
            ("proxy:80", true),
            ("proxy:8080", false),
        ] {
            assert_eq!(contain(&names, text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_host_and_port_is_not_read() {
        for bad in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:+1",
            "a:65536",
            "a:000080",
            "a:1:2",
            "user@a",
            "a/b@c",
            "a b",
            "a,b",
            "[::1",
            "[::1]x",
            "[::1%25lo]",
            "[127.0.0.1]",
            "é",
        ] {
            assert_eq!(HostPort::parse(bad), None, "{bad}");
        }
        assert_eq!(HostNames::parse(["a", "b c"]), Err(NotAHostName("b c".into())));
    }
}
