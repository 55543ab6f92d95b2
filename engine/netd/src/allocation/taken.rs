//! Who has which address, and whether another service may have it too.

use netd_schema::{Config, Protocol, Service};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// The addresses that are taken, and by what.
pub(super) struct Taken<'a> {
    by: HashMap<IpAddr, Holder<'a>>,
    /// The addresses of services that share, by their word.
    shared: BTreeMap<&'a str, BTreeSet<IpAddr>>,
}

enum Holder<'a> {
    /// A machine, which is called this.
    Machine(&'static str),
    /// Services that share it, or one that does not.
    Services(Vec<&'a Service>),
}

impl<'a> Taken<'a> {
    /// The addresses of machines: a VIP that is one, too, would take it from them.
    pub(super) fn by_machines(config: &Config) -> Self {
        let backends = config.services.iter().flat_map(|service| &service.backends);
        let backends = backends.map(|backend| (backend.address, Holder::Machine("a backend")));
        let nodes = config.nodes.iter().flat_map(|node| &node.addresses);
        let nodes = nodes.map(|address| (*address, Holder::Machine("a node")));
        Self { by: backends.chain(nodes).collect(), shared: BTreeMap::new() }
    }

    /// Why the service cannot have the address; `None` if it can.
    pub(super) fn refuses(&self, service: &Service, address: IpAddr) -> Option<String> {
        match self.by.get(&address)? {
            Holder::Machine(what) => Some(format!("it is the address of {what}")),
            Holder::Services(others) => {
                let other = others.iter().find(|other| !go_together(service, other))?;
                Some(format!("service {} has it", other.name))
            }
        }
    }

    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        self.by.contains_key(&address)
    }

    pub(super) fn take(&mut self, service: &'a Service, address: IpAddr) {
        match self.by.entry(address).or_insert_with(|| Holder::Services(Vec::new())) {
            Holder::Services(services) => services.push(service),
            // The file names it all the same; its own checks have said what they say.
            machine @ Holder::Machine(_) => *machine = Holder::Services(vec![service]),
        }
        if let Some(share) = &service.share {
            self.shared.entry(share).or_default().insert(address);
        }
    }

    /// The addresses that the service may have together with others, from the lowest up.
    pub(super) fn shareable(&self, service: &Service) -> impl Iterator<Item = IpAddr> {
        let all = service.share.as_deref().and_then(|share| self.shared.get(share));
        all.into_iter().flatten().copied().filter(|address| self.refuses(service, *address).is_none())
    }

    /// All of them.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by.keys().copied()
    }
}

/// Whether two services may have one address: both say so by the same word, and no port is both's.
fn go_together(one: &Service, other: &Service) -> bool {
    let ports = |service: &Service| -> BTreeSet<(Protocol, u16)> {
        service.ports.iter().map(|port| (port.protocol, port.port)).collect()
    };
    one.share.is_some() && one.share == other.share && ports(one).is_disjoint(&ports(other))
}
