//! What sessions with network may reach: `[egress]`.

use std::net::{IpAddr, SocketAddr};

use greenroom_egress::{Bounds, Egress, Policy};
use ipnet::IpNet;
use serde::Deserialize;

use super::{SettingsError, bad, identity::Several, positive};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEgress {
    allow: Several,
    deny: Several,
    deny_tcp_ports: Ports,
    resolvers: Several,
    connections: u32,
    connections_in_all: u32,
    new_per_second: u32,
}

/// A list, or (from a flag or the environment) one number, or one text with commas.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a list of ports, or one text with commas")]
enum Ports {
    List(Vec<u16>),
    One(u16),
    Text(String),
}

/// `[egress]`, checked.
#[derive(Clone, Debug)]
pub struct EgressSettings {
    policy: Policy,
    bounds: Bounds,
    resolvers: Vec<SocketAddr>,
}

impl EgressSettings {
    pub(super) fn check(raw: RawEgress) -> Result<Self, SettingsError> {
        let deny_tcp_ports = match raw.deny_tcp_ports {
            Ports::List(ports) => ports,
            Ports::One(port) => vec![port],
            Ports::Text(text) => {
                let ports = text.split(',').map(str::trim).filter(|port| !port.is_empty()).map(str::parse);
                let reason = |_| bad("egress.deny_tcp_ports", format!("is {text:?}: expected ports, 1 to 65535, with commas"));
                ports.collect::<Result<_, _>>().map_err(reason)?
            }
        };
        let policy = Policy { allow: nets("egress.allow", raw.allow)?, deny: nets("egress.deny", raw.deny)?, deny_tcp_ports };
        let bounds = Bounds {
            connections: positive("egress.connections", raw.connections)?,
            of_all: positive("egress.connections_in_all", raw.connections_in_all)?,
            new_per_second: positive("egress.new_per_second", raw.new_per_second)?,
        };
        let resolver = |text: String| {
            let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)));
            address.map_err(|_| bad("egress.resolvers", format!("has {text:?}, which is no ADDRESS or ADDRESS:PORT")))
        };
        let resolvers = Vec::from(raw.resolvers).into_iter().map(resolver).collect::<Result<_, _>>()?;
        Ok(Self { policy, bounds, resolvers })
    }

    /// The way out of all sessions of a server that have one.
    pub fn start(&self) -> Egress {
        // Most of the descriptors that this process may have are for everything else.
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let of_all = self.bounds.of_all.min(u32::try_from(descriptors / 4).unwrap_or(u32::MAX));
        Egress::new(self.policy.clone(), Bounds { of_all, ..self.bounds }, self.resolvers.clone())
    }
}

/// Networks, or single addresses.
fn nets(key: &str, texts: Several) -> Result<Vec<IpNet>, SettingsError> {
    let net = |text: String| {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| bad(key, format!("has {text:?}, which is no network (10.1.0.0/16) or address")))?;
        // Else it would be taken for one host by one reader, and for a whole network by another.
        if net.trunc() == net {
            Ok(net)
        } else {
            Err(bad(key, format!("has {text:?}: the network is {}, the host {}", net.trunc(), net.addr())))
        }
    };
    Vec::from(texts).into_iter().map(net).collect()
}
