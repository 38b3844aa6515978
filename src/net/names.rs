//! From a bank's name to addresses, and whether they may be called.
//!
//! Names in the configuration are trusted, what a resolver says of them is not: a name that suddenly leads to this
//! machine or into the private network would have us send tokens there. Where the operator says that a bank is out on
//! the internet, such addresses are refused. An address that is itself written in the configuration is no name.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower::Service;

/// Which of the addresses that a name leads to may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachable {
    /// All.
    #[default]
    Everything,
    /// Those of the internet: neither private, nor link-local, nor this machine.
    Internet,
}

/// All addresses that a name leads to are private, and such addresses are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name leads to a private address, which is refused")]
pub struct PrivateAddress;

impl Reachable {
    /// The addresses of `host`, a name or an address, that may be called.
    pub async fn resolve(self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = lookup_host((host, port)).await?;
        self.keep(found.collect())
    }

    fn keep(self, mut found: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        if self == Self::Everything {
            return Ok(found);
        }
        let any = !found.is_empty();
        found.retain(|address| is_public(address.ip()));
        if any && found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, PrivateAddress));
        }
        Ok(found)
    }
}

/// As the resolver of a client.
impl Service<Name> for Reachable {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reachable = *self;
        Box::pin(async move { Ok(reachable.resolve(name.as_str(), 0).await?.into_iter()) })
    }
}

/// Whether an address is one of the internet's (IANA's special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && matches!(b, 18 | 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Everything that is assigned lies in 2000::/3; documentation and benchmarks lie there, too.
    (first & 0xe000) == 0x2000 && !(first == 0x2001 && (second == 0xdb8 || second == 2))
}

/// The IPv4 address behind a translated (RFC 6052) or tunnelled (RFC 3056) one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 443)).collect()
    }

    #[test]
    fn private_addresses_are_refused_however_they_are_written() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            let refused = Reachable::Internet.keep(of(&[address])).expect_err(address);
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{address}");
            assert!(Reachable::Everything.keep(of(&[address])).is_ok());
        }
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::"]
        {
            assert_eq!(Reachable::Internet.keep(of(&[address])).expect(address), of(&[address]));
        }
    }

    #[test]
    fn of_several_addresses_the_public_ones_are_left() {
        let kept = Reachable::Internet.keep(of(&["10.0.0.1", "1.1.1.1", "::1"])).expect("one is left");
        assert_eq!(kept, of(&["1.1.1.1"]));
        assert!(Reachable::Internet.keep(Vec::new()).expect("a name without addresses is no refusal").is_empty());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_an_address_of_the_configuration_is_taken_as_it_is() {
        let refused = Reachable::Internet.resolve("localhost", 443).await.expect_err("this machine");
        assert!(refused.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<PrivateAddress>));
        assert!(!Reachable::Everything.resolve("localhost", 443).await.expect("found").is_empty());
        assert_eq!(Reachable::Internet.resolve("127.0.0.1", 443).await.expect("as it is"), of(&["127.0.0.1"]));
        assert_eq!(Reachable::Internet.resolve("::1", 443).await.expect("as it is"), of(&["::1"]));
    }
}
