//! Who has which address, and whether somebody else may have it too.

use super::claim::Claim;
use netd_schema::Config;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// The addresses that are taken, and by what.
pub(super) struct Taken<'a> {
    by: HashMap<IpAddr, Holder<'a>>,
    /// The addresses of those that share, by their word.
    shared: BTreeMap<&'a str, BTreeSet<IpAddr>>,
}

enum Holder<'a> {
    /// A machine, which is called this.
    Machine(&'static str),
    /// Those that share it, or one that does not.
    Claims(Vec<&'a Claim<'a>>),
}

impl<'a> Taken<'a> {
    /// The addresses of machines: a VIP that is one, too, would take it from them.
    pub(super) fn by_machines(config: &Config) -> Self {
        let backends = config.services.iter().flat_map(|service| &service.backends);
        let backends = backends.map(|backend| (backend.address, Holder::Machine("a backend")));
        let nodes = config.nodes.iter().flat_map(|node| &node.addresses);
        let nodes = nodes.map(|address| (*address, Holder::Machine("a node")));
        let masquerade = config.masquerade.iter().flat_map(|masquerade| &masquerade.addresses);
        let masquerade = masquerade.map(|address| (*address, Holder::Machine("masqueraded pods")));
        Self { by: masquerade.chain(backends).chain(nodes).collect(), shared: BTreeMap::new() }
    }

    /// Why it cannot have the address; `None` if it can.
    pub(super) fn refuses(&self, claim: &Claim<'_>, address: IpAddr) -> Option<String> {
        match self.by.get(&address)? {
            Holder::Machine(what) => Some(format!("it is the address of {what}")),
            Holder::Claims(others) => {
                let other = others.iter().find(|other| !go_together(claim, other))?;
                Some(format!("{} {} has it", other.what, other.name))
            }
        }
    }

    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        self.by.contains_key(&address)
    }

    pub(super) fn take(&mut self, claim: &'a Claim<'a>, address: IpAddr) {
        match self.by.entry(address).or_insert_with(|| Holder::Claims(Vec::new())) {
            Holder::Claims(claims) => claims.push(claim),
            // The file names it all the same; its own checks have said what they say.
            machine @ Holder::Machine(_) => *machine = Holder::Claims(vec![claim]),
        }
        if let Some(share) = claim.share {
            self.shared.entry(share).or_default().insert(address);
        }
    }

    /// The addresses that it may have together with others, from the lowest up.
    pub(super) fn shareable(&self, claim: &Claim<'_>) -> impl Iterator<Item = IpAddr> {
        let all = claim.share.and_then(|share| self.shared.get(share));
        all.into_iter().flatten().copied().filter(|address| self.refuses(claim, *address).is_none())
    }

    /// All of them.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by.keys().copied()
    }
}

/// Whether two may have one address: both say so by the same word, and no port is both's.
fn go_together(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    one.share.is_some() && one.share == other.share && one.ports.is_disjoint(&other.ports)
}
