//! Whom the host asks for names (resolv.conf(5)): programs ask the gateway, and it asks these.

use std::net::{IpAddr, SocketAddr};

const FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// As many as the C library asks (resolv.conf(5), MAXNS).
const MOST: usize = 3;

/// The host's, and which of them is asked now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    servers: Vec<SocketAddr>,
    now: usize,
}

impl Names {
    /// These, or where there are none those of this host. Reads a file.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        if servers.is_empty() {
            return std::fs::read_to_string(FILE).map(|text| Self::parse(&text)).unwrap_or_default();
        }
        Self { servers: servers.to_vec(), now: 0 }
    }

    fn parse(text: &str) -> Self {
        let address = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let address = (words.next() == Some("nameserver")).then(|| words.next())??;
            // An address of one link is followed by the link's name, which a socket address has as a number: not supported.
            address.parse::<IpAddr>().ok()
        };
        let servers = text.lines().filter_map(address).take(MOST).map(|address| SocketAddr::new(address, PORT)).collect();
        Self { servers, now: 0 }
    }

    /// The one to ask.
    pub(crate) fn server(&self) -> Option<SocketAddr> {
        self.servers.get(self.now).copied()
    }

    /// It did not answer: the next one is asked from now on.
    pub(crate) fn is_silent(&mut self, server: SocketAddr) {
        if self.server() == Some(server) {
            self.now = (self.now + 1) % self.servers.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_servers_are_asked_in_turn_when_one_is_silent() {
        let text =
            "# a comment\nsearch example.org\nnameserver 127.0.0.53\n nameserver\t::1 \nnameserver fe80::1%eth0\nnameserver x\n";
        let mut names = Names::parse(text);
        let (first, second) = ("127.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap());
        assert_eq!(names.server(), Some(first));
        // Two questions that were asked at the same time move on once.
        names.is_silent(first);
        names.is_silent(first);
        assert_eq!(names.server(), Some(second));
        names.is_silent(second);
        assert_eq!(names.server(), Some(first));
        assert_eq!(Names::parse("options edns0").server(), None);
        Names::default().is_silent(first);
        assert_eq!(Names::parse(&"nameserver 1.1.1.1\n".repeat(9)).servers.len(), MOST);
    }
}
