//! What programs may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// How something is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Why an address may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// By the configuration.
    #[error("the address is denied (egress.deny)")]
    Denied,
    /// By the configuration; 25 if it says nothing.
    #[error("the TCP port is denied (egress.deny_tcp_ports)")]
    Port,
    /// Not of the internet: this machine, its neighbours, the metadata service of a cloud, nobody, everybody.
    #[error("the address is none of the internet's: {0}")]
    Special(&'static str),
    /// An address of this machine.
    #[error("the address is this machine's own")]
    Own,
}

impl Refusal {
    /// All of [`Self::word`]'s.
    pub(crate) const WORDS: [&'static str; 4] = ["denied", "port", "special", "own"];

    /// In a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Refusal::Denied => "denied",
            Refusal::Port => "port",
            Refusal::Special(_) => "special",
            Refusal::Own => "own",
        }
    }
}

/// What may be reached: the internet, and what the operator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// May be reached although it would be refused by what it is.
    pub allow: Vec<IpNet>,
    /// May never be reached.
    pub deny: Vec<IpNet>,
    /// Ports that no connection is made to, wherever.
    pub deny_tcp_ports: Vec<u16>,
}

/// SMTP: what would be sent in the name of this machine is not asked for by anybody.
const MAIL: u16 = 25;

impl Default for Policy {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new(), deny_tcp_ports: vec![MAIL] }
    }
}

/// Of the registries of special-purpose addresses (IANA; RFC 6890 and its updates), all that is not of the internet.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier's customers"),
    ("127.0.0.0/8", "loopback"),
    // Of the internet by its number, and of a virtual machine's host in truth (Azure: WireServer).
    ("168.63.129.16/32", "a cloud's metadata service"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "a relay's"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved, or broadcast"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "translated, privately"),
    ("100::/64", "discarded"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
];

impl Policy {
    /// Whether a program may reach `to`. `is_own` is asked last: whether the kernel takes the address for this machine's own.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, to: SocketAddr, protocol: Protocol, is_own: impl FnOnce(IpAddr) -> bool) -> Result<(), Refusal> {
        if protocol == Protocol::Tcp && self.deny_tcp_ports.contains(&to.port()) {
            return Err(Refusal::Port);
        }
        let address = to.ip().to_canonical();
        let within = inner(address);
        let is_in = |nets: &[IpNet], address: IpAddr| nets.iter().any(|net| net.contains(&address));
        if is_in(&self.deny, address) || within.is_some_and(|within| is_in(&self.deny, within)) {
            return Err(Refusal::Denied);
        }
        if is_in(&self.allow, address) {
            return Ok(());
        }
        for address in [Some(address), within].into_iter().flatten() {
            if let Some(what) = special(address) {
                return Err(Refusal::Special(what));
            }
        }
        if is_own(address) { Err(Refusal::Own) } else { Ok(()) }
    }
}

/// What an address is, if it is none of the internet's.
fn special(address: IpAddr) -> Option<&'static str> {
    // A dozen short texts, once for each new connection.
    let is_in = |net: &str| net.parse::<IpNet>().is_ok_and(|net| net.contains(&address));
    SPECIAL.iter().find(|(net, _)| is_in(net)).map(|(_, what)| *what)
}

/// The IPv4 address that somebody on the way takes an IPv6 address for.
fn inner(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let of = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // NAT64 (RFC 6052), and the long deprecated ::a.b.c.d (RFC 4291, 2.5.5.1).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] if !is_plain(address) => Some(of(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => Some(of(high, low)),
        // Translated in this machine (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(of(high, low)),
        _ => None,
    }
}

/// `::` and `::1` are what they are.
fn is_plain(address: Ipv6Addr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(policy: &Policy, to: &str) -> Result<(), Refusal> {
        policy.check(to.parse().unwrap(), Protocol::Tcp, |_| false)
    }

    #[test]
    fn what_is_not_of_the_internet_is_refused() {
        let policy = Policy::default();
        for to in [
            "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1", "168.63.129.16", "169.254.169.254",
            "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.168.1.1", "198.19.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(matches!(check(&policy, &format!("{to}:80")), Err(Refusal::Special(_))), "{to}");
        }
        for to in [
            "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "2001::1", "100::1",
            "64:ff9b:1::1",
        ] {
            assert!(matches!(check(&policy, &format!("[{to}]:80")), Err(Refusal::Special(_))), "{to}");
        }
        for to in ["1.1.1.1:443", "8.8.8.8:53", "172.32.0.1:80", "100.128.0.1:80", "192.0.1.1:80", "[2606:4700::1111]:443"] {
            assert_eq!(check(&policy, to), Ok(()), "{to}");
        }
    }

    #[test]
    fn an_address_in_the_shape_of_another_is_that_one() {
        let policy = Policy { deny: vec!["8.8.8.8/32".parse().unwrap()], ..Policy::default() };
        for (prefix, suffix) in [("::ffff:", ""), ("64:ff9b::", ""), ("::", ""), ("::ffff:0:", "")] {
            for to in ["127.0.0.1", "169.254.169.254", "10.1.2.3"] {
                assert!(matches!(check(&policy, &format!("[{prefix}{to}{suffix}]:80")), Err(Refusal::Special(_))), "{prefix}{to}");
            }
            assert_eq!(check(&policy, &format!("[{prefix}8.8.8.8{suffix}]:80")), Err(Refusal::Denied), "{prefix}");
        }
        assert!(matches!(check(&policy, "[2002:7f00:1::]:80"), Err(Refusal::Special("loopback"))));
        assert!(matches!(check(&policy, "[2002:a9fe:a9fe::1]:80"), Err(Refusal::Special("link-local"))));
        assert_eq!(check(&policy, "[64:ff9b::1.1.1.1]:80"), Ok(()));
    }

    #[test]
    fn what_the_operator_says_goes_before_what_an_address_is() {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let policy =
            Policy { allow: nets(&["10.1.0.0/16", "::1/128"]), deny: nets(&["10.1.2.0/24", "9.9.9.0/24"]), ..Policy::default() };
        assert_eq!(check(&policy, "10.1.1.1:80"), Ok(()));
        assert_eq!(check(&policy, "[::ffff:10.1.1.1]:80"), Ok(()));
        assert_eq!(check(&policy, "[::1]:80"), Ok(()));
        assert_eq!(check(&policy, "10.1.2.1:80"), Err(Refusal::Denied));
        assert_eq!(check(&policy, "9.9.9.9:80"), Err(Refusal::Denied));
        assert!(matches!(check(&policy, "10.2.0.1:80"), Err(Refusal::Special("private"))));
        // What is allowed as such is not so by way of somebody who translates.
        assert!(matches!(check(&policy, "[64:ff9b::10.1.1.1]:80"), Err(Refusal::Special("private"))));
        let own = policy.check("10.1.1.1:80".parse().unwrap(), Protocol::Tcp, |_| true);
        assert_eq!(own, Ok(()), "an address of the machine's that is allowed by name");
    }

    #[test]
    fn mail_is_refused_everywhere_and_only_as_a_connection() {
        let policy = Policy { allow: vec!["0.0.0.0/0".parse().unwrap()], ..Policy::default() };
        assert_eq!(check(&policy, "1.1.1.1:25"), Err(Refusal::Port));
        assert_eq!(check(&policy, "1.1.1.1:587"), Ok(()));
        assert_eq!(policy.check("1.1.1.1:25".parse().unwrap(), Protocol::Udp, |_| false), Ok(()));
        let open = Policy { deny_tcp_ports: Vec::new(), ..Policy::default() };
        assert_eq!(check(&open, "1.1.1.1:25"), Ok(()));
    }

    #[test]
    fn this_machines_own_addresses_are_refused_whatever_they_are() {
        let policy = Policy::default();
        let check = |to: &str| policy.check(to.parse().unwrap(), Protocol::Udp, |address| address.to_string() == "5.6.7.8");
        assert_eq!(check("5.6.7.8:1"), Err(Refusal::Own));
        assert_eq!(check("[::ffff:5.6.7.8]:1"), Err(Refusal::Own));
        assert_eq!(check("5.6.7.9:1"), Ok(()));
    }

    #[test]
    fn every_special_net_is_one() {
        for (net, _) in SPECIAL {
            let parsed: IpNet = net.parse().unwrap();
            assert_eq!(parsed.trunc(), parsed, "{net}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_this_machine_or_its_link_gets_through(bits in any::<u128>(), four in any::<u32>()) {
            let policy = Policy::default();
            let address = Ipv6Addr::from_bits(bits);
            let four = Ipv4Addr::from_bits(four);
            for address in [IpAddr::V6(address), IpAddr::V4(four), IpAddr::V6(four.to_ipv6_mapped())] {
                if policy.check(SocketAddr::new(address, 80), Protocol::Tcp, |_| false).is_ok() {
                    let plain = address.to_canonical();
                    prop_assert!(!plain.is_loopback() && !plain.is_multicast() && !plain.is_unspecified());
                    if let IpAddr::V4(plain) = plain {
                        prop_assert!(!plain.is_private() && !plain.is_link_local() && !plain.is_broadcast());
                    }
                }
            }
        }
    }
}
