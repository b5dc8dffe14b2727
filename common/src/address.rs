//! Where a server listens, as `HOST:PORT`, and by which names a browser may ask for a page.
//!
//! An address comes from the process that connects, and goes into logs, tables and other programs: it is printable
//! ASCII and nothing else, so none of those places has to be careful with it.
//!
//! A browser runs pages of strangers. Two checks keep such a page from sending requests to this program in its reader's
//! name:
//!
//! - `Host` is an IP literal, `localhost`, or a name that is known here. A foreign name that resolves to this machine
//!   (DNS rebinding) is refused, for reading as well: such a page is "same-origin" to the browser.
//! - `Origin`, which browsers send with every request that changes something and with every `EventSource` of another
//!   page, names the same host and port as `Host`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Bytes of an address, at most: a host name of 253 (RFC 1035, 2.3.4), a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 259;

/// A text that is no address, or no name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// There is no port.
    #[error("HOST:PORT is needed, such as localhost:3000 or [::1]:3000")]
    Form,
    /// The host is no name and no IP address.
    #[error(
        "the host must be a name of letters, digits, dots, dashes and underscores, or an IP address ([::1] for IPv6)"
    )]
    Host,
    /// The port is no number from 0 to 65535.
    #[error("the port must be a number up to 65535")]
    Port,
    /// It is too long.
    #[error("an address has {ADDRESS_BYTES_MAX} bytes at most")]
    Long,
}

/// Splits `HOST:PORT`; an IPv6 address is in brackets.
///
/// # Errors
/// When it is no address. The text may be anything then: show it only as [`crate::shown`] does.
pub fn split(text: &str) -> Result<(&str, u16), InvalidAddress> {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(InvalidAddress::Long);
    }
    let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress::Form)?;
    if !is_host(host) {
        return Err(InvalidAddress::Host);
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or(InvalidAddress::Port)?;
    Ok((host, port))
}

fn is_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(inside) = inside {
        // A link-local address has its interface behind it.
        let (address, zone) = inside.split_once('%').unwrap_or((inside, "0"));
        let zone = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return zone && address.parse::<Ipv6Addr>().is_ok();
    }
    is_name(host)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Names by which this program may be asked for over HTTP, beside IP addresses and `localhost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNames(Vec<String>);

impl HostNames {
    /// The machine's own name with those that are given. That is safe: on the machine itself no stranger can make that
    /// name resolve, and a stranger that can do so on another machine reaches this port without a browser.
    #[must_use]
    pub fn with_machine(self) -> Self {
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_str().ok().filter(|name| is_name(name)).map(str::to_lowercase);
        Self(self.0.into_iter().chain(machine).collect())
    }

    /// These names, and the host of an address if it is a name.
    #[must_use]
    pub fn with_address(mut self, address: &str) -> Self {
        if let Ok((host, _)) = split(address) {
            self.0.push(host.to_lowercase());
        }
        self
    }

    /// Checks whether a request with these headers may be served. A request with neither header may be.
    ///
    /// # Errors
    /// The header that is foreign.
    pub fn check(&self, host: Option<&[u8]>, origin: Option<&[u8]>) -> Result<(), Foreign> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        if let Some(host) = host.map(text)
            && !self.knows(host)
        {
            return Err(Foreign::Host);
        }
        match (origin.map(text), host.map(text)) {
            (None, _) => Ok(()),
            (Some(origin), Some(host)) => {
                let authority = origin.split_once("://").map(|(_, authority)| authority);
                let same = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
                if same { Ok(()) } else { Err(Foreign::Origin) }
            }
            (Some(_), None) => Err(Foreign::Origin),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let end =
            host.rfind(':').filter(|&colon| host[colon..].bytes().skip(1).all(|byte| byte.is_ascii_digit()));
        let name = if host.ends_with(']') { host } else { &host[..end.unwrap_or(host.len())] };
        let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let literal = inside.unwrap_or(name).parse::<IpAddr>().is_ok();
        // A name may end in the dot of the root.
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        literal || name == "localhost" || self.0.contains(&name)
    }
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It asks for a name that is not known here.
    Host,
    /// A page of another origin asks.
    Origin,
}

impl FromStr for HostNames {
    type Err = InvalidAddress;

    /// Reads `NAME,NAME`.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let names = text.split(',').map(str::trim).map(|name| {
            let fits = is_name(name) && name.len() <= ADDRESS_BYTES_MAX;
            if fits { Ok(name.to_ascii_lowercase()) } else { Err(InvalidAddress::Host) }
        });
        Ok(Self(names.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("localhost:3000", "localhost", 3000),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:65535", "[::1]", 65535),
            ("[fe80::1%eth0]:80", "[fe80::1%eth0]", 80),
            ("server_1.a-b.example:5000", "server_1.a-b.example", 5000),
        ] {
            assert_eq!(split(text), Ok((host, port)), "{text}");
        }
        for (text, error) in [
            ("", InvalidAddress::Form),
            ("localhost", InvalidAddress::Form),
            (":80", InvalidAddress::Host),
            ("::1:3000", InvalidAddress::Host),
            ("[::1:3000", InvalidAddress::Host),
            ("[::g]:3000", InvalidAddress::Host),
            ("http://localhost:3000", InvalidAddress::Host),
            ("a b:1", InvalidAddress::Host),
            ("<img>:80", InvalidAddress::Host),
            ("127.0.0.1:1\u{1b}[2J:1", InvalidAddress::Host),
            ("a\n2026-01-01 ERROR:1", InvalidAddress::Host),
            ("münchen:1", InvalidAddress::Host),
            ("a\u{202e}:1", InvalidAddress::Host),
            ("a:", InvalidAddress::Port),
            ("a:+1", InvalidAddress::Port),
            ("a:65536", InvalidAddress::Port),
            ("a:1\n", InvalidAddress::Port),
        ] {
            assert_eq!(split(text), Err(error), "{text:?}");
        }
        assert_eq!(split(&format!("{}:1", "a".repeat(258))), Err(InvalidAddress::Long));
    }

    #[track_caller]
    fn check(names: &str, host: &str, origin: &str) -> Result<(), Foreign> {
        let names: HostNames = if names.is_empty() { HostNames::default() } else { names.parse().unwrap() };
        let origin = Some(origin.as_bytes()).filter(|origin| !origin.is_empty());
        names.check(Some(host.as_bytes()), origin)
    }

    #[test]
    fn a_host_is_a_literal_or_known() {
        for host in
            ["127.0.0.1", "10.1.2.3:3000", "[::1]:3000", "[::1]", "localhost", "LocalHost:1", "localhost.:1"]
        {
            assert_eq!(check("", host, ""), Ok(()), "{host}");
        }
        for host in [
            "evil.example:3000",
            "evil.example",
            "",
            ":3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "1.2.3",
            "localhost:3000:1",
            "[::1].evil:80",
            "xlocalhost",
        ] {
            assert_eq!(check("", host, ""), Err(Foreign::Host), "{host}");
            assert_eq!(check("ecs,ecs.example", host, ""), Err(Foreign::Host), "{host}");
        }
        assert_eq!(check("ecs, ECS.example", "ecs:3000", ""), Ok(()));
        assert_eq!(check("ecs,ecs.example", "Ecs.Example:3000", ""), Ok(()));
        assert_eq!(HostNames::default().check(None, None), Ok(()), "a program of old");
        let advertised = HostNames::default().with_address("Server1:5000");
        assert_eq!(advertised.check(Some(b"server1:9000"), None), Ok(()));
        assert!("a b".parse::<HostNames>().is_err() && "a,".parse::<HostNames>().is_err());
    }

    #[test]
    fn an_origin_is_the_host() {
        assert_eq!(check("", "10.0.0.1:3000", "http://10.0.0.1:3000"), Ok(()));
        assert_eq!(check("ecs.example", "ecs.example", "https://ECS.example"), Ok(()));
        for origin in [
            "http://evil.example",
            "http://evil.example:3000",
            "http://10.0.0.1",
            "http://10.0.0.1:3001",
            "http://10.0.0.1:3000.evil.example",
            "null",
            "10.0.0.1:3000",
            "file://",
        ] {
            assert_eq!(check("", "10.0.0.1:3000", origin), Err(Foreign::Origin), "{origin}");
        }
        assert_eq!(HostNames::default().check(None, Some(b"http://a")), Err(Foreign::Origin));
    }
}
