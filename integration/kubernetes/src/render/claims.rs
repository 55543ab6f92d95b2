//! Who has which name and address: people before objects, and of objects those that were there first.

use crate::note::ObjectRef;
use ipnetwork::IpNetwork;
use netd_schema::{Config, Protocol, PublicKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is taken.
#[derive(Debug, Default)]
pub(super) struct Claims {
    names: BTreeMap<(&'static str, String), Owner>,
    nodes: BTreeMap<IpAddr, Owner>,
    /// By its first address. They are apart, so the one that could overlap another begins right before or after it.
    pods: BTreeMap<IpAddr, (IpNetwork, Owner)>,
    keys: BTreeMap<PublicKey, Owner>,
    vips: BTreeMap<IpAddr, Vip>,
    egress: BTreeMap<IpAddr, Owner>,
    /// Addresses that people give to something else than a service of an object, and to what.
    reserved: BTreeMap<IpAddr, &'static str>,
}

/// Who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Person,
    Object(ObjectRef),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person => f.write_str("the base file"),
            Self::Object(object) => object.fmt(f),
        }
    }
}

/// What the services that have a VIP say about it.
#[derive(Debug)]
struct Vip {
    owner: ObjectRef,
    terms: Terms,
    ports: BTreeSet<(Protocol, u16)>,
}

/// What several services with one VIP have to agree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Whether it is announced only where backends are.
    pub(super) local: bool,
    /// The word by which services share an address of a pool; `None` without a pool or without a word.
    pub(super) share: Option<String>,
    pub(super) pool: bool,
}

impl Claims {
    /// What people say.
    pub(super) fn of(config: &Config) -> Self {
        let mut claims = Self::default();
        for node in &config.nodes {
            claims.names.insert(("nodes", node.name.clone()), Owner::Person);
            claims.nodes.extend(node.addresses.iter().map(|address| (*address, Owner::Person)));
            claims.pods.extend(node.pod_cidrs.iter().map(|cidr| (cidr.network(), (*cidr, Owner::Person))));
            let keys = [node.wireguard.public_key, node.wireguard.next_public_key];
            claims.keys.extend(keys.into_iter().flatten().map(|key| (key, Owner::Person)));
        }
        for service in &config.services {
            claims.names.insert(("services", service.name.clone()), Owner::Person);
            let backends = service.backends.iter().map(|backend| (backend.address, "a backend"));
            claims.reserved.extend(backends);
        }
        let services = config.services.iter().flat_map(|service| &service.vips);
        claims.reserved.extend(services.map(|vip| (*vip, "a VIP")));
        let policies = config.egress.iter().map(|policy| ("egress", policy.name.clone()));
        claims.names.extend(policies.map(|name| (name, Owner::Person)));
        let egress = config.egress.iter().flat_map(|policy| &policy.ips);
        claims.reserved.extend(egress.map(|ip| (*ip, "an egress address")));
        claims
    }

    /// Takes a name; who has it already, if somebody has.
    pub(super) fn name(
        &mut self,
        section: &'static str,
        name: &str,
        object: &ObjectRef,
    ) -> Result<(), Owner> {
        take(&mut self.names, (section, name.to_owned()), object)
    }

    /// Takes an address for a node.
    pub(super) fn node_address(&mut self, address: IpAddr, object: &ObjectRef) -> Result<(), String> {
        if let Some(what) = self.reserved.get(&address) {
            return Err(format!("the base file has it as {what}"));
        }
        take(&mut self.nodes, address, object).map_err(|owner| format!("{owner} has it"))
    }

    /// Takes a prefix for pods; who has addresses of it already, if somebody has.
    pub(super) fn pods(&mut self, cidr: IpNetwork, object: &ObjectRef) -> Result<(), Owner> {
        let before = self.pods.range(..=cidr.network()).next_back();
        let after = self.pods.range(cidr.network()..=cidr.broadcast()).next();
        let meets = |other: IpNetwork| other.contains(cidr.ip()) || cidr.contains(other.ip());
        if let Some((_, (_, owner))) =
            [before, after].into_iter().flatten().find(|(_, (other, _))| meets(*other))
        {
            return Err(owner.clone());
        }
        self.pods.insert(cidr.network(), (cidr, Owner::Object(object.clone())));
        Ok(())
    }

    /// Takes a public key of WireGuard.
    pub(super) fn key(&mut self, key: PublicKey, object: &ObjectRef) -> Result<(), Owner> {
        take(&mut self.keys, key, object)
    }

    /// Takes an address for an egress policy.
    pub(super) fn egress_address(&mut self, address: IpAddr, object: &ObjectRef) -> Result<(), String> {
        if let Some(what) = self.reserved.get(&address) {
            return Err(format!("the base file has it as {what}"));
        }
        if let Some(owner) = self.nodes.get(&address) {
            return Err(format!("it is an address of a node ({owner}), and has to be nobody else's"));
        }
        take(&mut self.egress, address, object).map_err(|owner| format!("{owner} has it"))
    }

    /// Takes an address for a service, which may take it again for others of its ports.
    pub(super) fn vip(
        &mut self,
        vip: IpAddr,
        (ports, terms): (&BTreeSet<(Protocol, u16)>, &Terms),
        object: &ObjectRef,
    ) -> Result<(), String> {
        if let Some(what) = self.reserved.get(&vip) {
            return Err(format!("the base file has it as {what}"));
        }
        if let Some(owner) = self.nodes.get(&vip) {
            return Err(format!(
                "it is an address of a node ({owner}), which would not be reached there any more"
            ));
        }
        if let Some(owner) = self.egress.get(&vip) {
            return Err(format!("{owner} has it as an egress address"));
        }
        let Some(taken) = self.vips.get_mut(&vip) else {
            let claim = Vip { owner: object.clone(), terms: terms.clone(), ports: ports.clone() };
            self.vips.insert(vip, claim);
            return Ok(());
        };
        let owner = &taken.owner;
        if let Some((protocol, port)) = taken.ports.intersection(ports).next() {
            return Err(format!("{owner} has it with port {}/{port}", protocol.name()));
        }
        let agree = *terms == taken.terms && !terms.local && (!terms.pool || terms.share.is_some());
        if owner != object && !agree {
            return Err(format!("{owner} has it, and does not share it on the same terms"));
        }
        taken.ports.extend(ports);
        Ok(())
    }

    /// Whether packets for the address come back to the load balancer.
    pub(super) fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.contains_key(&address) || self.reserved.get(&address) == Some(&"a VIP")
    }
}

fn take<K: Ord>(taken: &mut BTreeMap<K, Owner>, key: K, object: &ObjectRef) -> Result<(), Owner> {
    match taken.get(&key) {
        Some(owner) => Err(owner.clone()),
        None => {
            taken.insert(key, Owner::Object(object.clone()));
            Ok(())
        }
    }
}
