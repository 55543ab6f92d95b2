//! The ways to backends. Most backends share a way, behind the same router, so each way is kept once.

use super::spec::BackendPath;
use crate::facts::{Facts, Mac, Path, PathError, PathResolver};
use ipnetwork::IpNetwork;
use netd_bpf::abi::{Backend, READY};
use netd_schema::Config;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The ways that the facts say.
pub struct Paths<'a> {
    resolver: PathResolver<'a>,
    rss: &'a [IpNetwork],
    known: Known,
}

impl<'a> Paths<'a> {
    /// Arranges the facts for many addresses.
    pub fn new(config: &'a Config, facts: &'a Facts) -> Self {
        let resolver = PathResolver::new(facts);
        Self { resolver, rss: &config.load_balancer.rss_source, known: Known::default() }
    }

    /// The way to an address.
    pub fn to(&mut self, address: IpAddr) -> Result<Arc<BackendPath>, PathError> {
        let path = self.resolver.resolve(address)?;
        let rss = self.rss.iter().find(|prefix| prefix.is_ipv4() == address.is_ipv4());
        Ok(self.known.share(wanted(path, rss)))
    }
}

fn wanted(path: Path, rss: Option<&IpNetwork>) -> BackendPath {
    let width = if path.source.is_ipv4() { 32 } else { 128 };
    let (source, source_bits) = match rss {
        Some(prefix) => (prefix.network(), width - prefix.prefix()),
        None => (path.source, 0),
    };
    BackendPath {
        device: path.device,
        ifindex: path.ifindex,
        mtu: u16::try_from(path.mtu).unwrap_or(u16::MAX),
        destination_mac: path.destination_mac,
        source_mac: path.source_mac,
        source,
        source_bits,
    }
}

/// The ways that lines of the maps hold.
pub struct HeldPaths<'a> {
    facts: &'a Facts,
    known: HashMap<Way, Arc<BackendPath>>,
    last: Option<(Way, Arc<BackendPath>)>,
}

/// What of a line is its way.
type Way = ([u8; 6], [u8; 6], u16, u32, [u8; 16], u8, bool);

impl<'a> HeldPaths<'a> {
    /// `facts` give the names of devices.
    pub fn new(facts: &'a Facts) -> Self {
        Self { facts, known: HashMap::new(), last: None }
    }

    /// The way of a line; `None` if it has none yet.
    pub fn of(&mut self, line: &Backend, is_ipv4: bool) -> Option<Arc<BackendPath>> {
        if line.flags & READY == 0 {
            return None;
        }
        let way: Way = (
            line.destination_mac,
            line.source_mac,
            line.mtu,
            line.ifindex,
            line.source,
            line.source_bits,
            is_ipv4,
        );
        if let Some((last, path)) = &self.last
            && *last == way
        {
            return Some(Arc::clone(path));
        }
        let facts = self.facts;
        let path = Arc::clone(self.known.entry(way).or_insert_with(|| Arc::new(held(line, is_ipv4, facts))));
        self.last = Some((way, Arc::clone(&path)));
        Some(path)
    }
}

fn held(line: &Backend, is_ipv4: bool, facts: &Facts) -> BackendPath {
    let device = facts.links.get(&line.ifindex);
    // Another device got the index. (One that was given another address is not told from that, until the next pass.)
    let is_astray = device.is_some_and(|link| link.mac != Some(Mac(line.source_mac)));
    BackendPath {
        device: device.map_or_else(|| format!("#{}", line.ifindex), |link| link.name.clone()),
        ifindex: if is_astray { 0 } else { line.ifindex },
        mtu: line.mtu,
        destination_mac: Mac(line.destination_mac),
        source_mac: Mac(line.source_mac),
        source: address(&line.source, is_ipv4),
        source_bits: line.source_bits,
    }
}

/// An address as lines hold it: IPv4 in the first four bytes.
pub fn address(bytes: &[u8; 16], is_ipv4: bool) -> IpAddr {
    match bytes {
        [a, b, c, d, ..] if is_ipv4 => Ipv4Addr::new(*a, *b, *c, *d).into(),
        _ => Ipv6Addr::from(*bytes).into(),
    }
}

/// Ways, each once.
#[derive(Default)]
struct Known {
    paths: HashMap<(u32, Mac, IpAddr, u16), Arc<BackendPath>>,
    last: Option<Arc<BackendPath>>,
}

impl Known {
    fn share(&mut self, path: BackendPath) -> Arc<BackendPath> {
        if let Some(last) = &self.last
            && **last == path
        {
            return Arc::clone(last);
        }
        // What is not in the key follows from the device.
        let key = (path.ifindex, path.destination_mac, path.source, path.mtu);
        let shared = Arc::clone(self.paths.entry(key).or_insert_with(|| Arc::new(path)));
        self.last = Some(Arc::clone(&shared));
        shared
    }
}
