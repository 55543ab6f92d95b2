//! What a kind wants, found from what it wanted before, is what it would want if nothing were remembered: on random walks
//! of a file and a node.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ipnetwork::IpNetwork;
use netd::facts::{Address, Facts, Link, Mac, Neighbour};
use netd::fake;
use netd::health::{BackendId, Group, Unhealthy, Verdicts};
use netd::kinds::{neighbour, service, vip};
use netd::target::{Again, Before};
use netd_core::DesiredKind;
use netd_schema::Config;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

type Desired = fn(&Config, &Facts) -> Result<DesiredKind, String>;

const KINDS: [(&str, Desired, Again); 3] = [
    (service::NAME, service::desired, service::again),
    (neighbour::NAME, neighbour::desired, neighbour::again),
    (vip::NAME, vip::desired, vip::again),
];

/// A file as it is written, in numbers that a step changes.
#[derive(Clone, Debug)]
struct File {
    services: Vec<Service>,
    seed: u8,
    hop_limit: u8,
    has_pool: bool,
}

#[derive(Clone, Debug)]
struct Service {
    name: u8,
    vip: u8,
    port: u16,
    backends: Vec<(u8, u16)>,
    drained: bool,
    ping: bool,
    checked: bool,
}

/// What changes between two passes; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Change {
    Weight(usize, usize, u16),
    AddBackend(usize, u8),
    RemoveBackend(usize, usize),
    Drain(usize),
    Port(usize, u16),
    Ping(usize),
    Check(usize),
    Rename(usize, u8),
    SwapVips(usize, usize),
    SwapPlaces(usize, usize),
    AddService(u8),
    RemoveService(usize),
    Seed(u8),
    HopLimit(u8),
    Pool,
    Router(u8),
    Unresolved,
    OwnAddress(u8),
    Unhealthy(usize, usize),
    NoRedirects,
    Nothing,
}

fn change() -> impl Strategy<Value = Change> {
    use Change::*;
    let at = 0usize..8;
    prop_oneof![
        (at.clone(), at.clone(), 1u16..4).prop_map(|(s, b, w)| Weight(s, b, w)),
        (at.clone(), 1u8..40).prop_map(|(s, b)| AddBackend(s, b)),
        (at.clone(), at.clone()).prop_map(|(s, b)| RemoveBackend(s, b)),
        at.clone().prop_map(Drain),
        (at.clone(), 80u16..83).prop_map(|(s, p)| Port(s, p)),
        at.clone().prop_map(Ping),
        at.clone().prop_map(Check),
        (at.clone(), 0u8..20).prop_map(|(s, n)| Rename(s, n)),
        (at.clone(), at.clone()).prop_map(|(a, b)| SwapVips(a, b)),
        (at.clone(), at.clone()).prop_map(|(a, b)| SwapPlaces(a, b)),
        (0u8..20).prop_map(AddService),
        at.clone().prop_map(RemoveService),
        (0u8..2).prop_map(Seed),
        (60u8..62).prop_map(HopLimit),
        Just(Pool),
        (1u8..3).prop_map(Router),
        Just(Unresolved),
        (1u8..9).prop_map(OwnAddress),
        (at.clone(), at).prop_map(|(s, b)| Unhealthy(s, b)),
        Just(NoRedirects),
        Just(Nothing),
    ]
}

impl File {
    fn new() -> Self {
        let service = |name: u8| Service {
            name,
            vip: name + 1,
            port: 80,
            backends: vec![(name + 1, 1), (name + 2, 1)],
            drained: false,
            ping: true,
            checked: false,
        };
        Self { services: (0..8).map(service).collect(), seed: 0, hop_limit: 60, has_pool: false }
    }

    fn service(&mut self, at: usize) -> Option<&mut Service> {
        let count = self.services.len().max(1);
        self.services.get_mut(at % count)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "version = 1\n[load_balancer]\ndevices = [\"eth0\"]\nhash_seed = \"{}\"\nhop_limit = {}\n",
            ["AAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAB"][usize::from(self.seed)],
            self.hop_limit
        );
        if self.has_pool {
            text.push_str("[[ip_pools]]\nname = \"p\"\nranges = [\"198.51.100.0/24\"]\n");
        }
        for Service { name, vip, port, backends, drained, ping, checked } in &self.services {
            let _ = write!(
                text,
                "[[services]]\nname = \"s{name}\"\nvips = [\"192.0.2.{vip}\"]\nping = {ping}\n\
                 ports = [{{ protocol = \"tcp\", port = {port} }}, {{ protocol = \"udp\", port = 53 }}]\n"
            );
            if *checked {
                text.push_str("health_check = { kind = \"tcp\" }\n");
            }
            text.push_str("backends = [");
            for (at, (address, weight)) in backends.iter().enumerate() {
                let state = if *drained && at == 0 { ", state = \"terminating\"" } else { "" };
                let _ = write!(text, "{{ address = \"10.0.0.{address}\", weight = {weight}{state} }}, ");
            }
            text.push_str("]\n");
        }
        text
    }
}

fn facts() -> Facts {
    let link =
        |index, name: &str| Link { mac: Some(Mac([2, 0, 0, 0, 0, index as u8])), ..fake::link(index, name) };
    let network: IpNetwork = "10.0.0.0/24".parse().unwrap();
    let own = Address {
        link: 2,
        address: [10, 0, 0, 254].into(),
        prefix_len: 24,
        usable: true,
        temporary: false,
        global: true,
    };
    let mut facts = Facts {
        links: [(2, link(2, "eth0")), (3, link(3, "eth1"))].into(),
        addresses: vec![own],
        routes: vec![fake::route(network, 2, None)],
        ..Facts::default()
    };
    for last in 1..40u8 {
        let neighbour =
            Neighbour { mac: Some(Mac([2, 0, 0, 0, 9, last])), valid: true, ..Neighbour::default() };
        facts.neighbours.insert((2, IpAddr::from([10, 0, 0, last])), neighbour);
    }
    facts
}

/// Makes the change; one that the file would be refused with is not made.
fn make(change: &Change, file: &mut File, facts: &mut Facts) {
    use Change::*;
    let (mut next, count) = (file.clone(), file.services.len().max(1));
    match *change {
        Weight(at, backend, weight) => {
            let backend = next.service(at).and_then(|s| {
                let count = s.backends.len().max(1);
                s.backends.get_mut(backend % count)
            });
            backend.into_iter().for_each(|backend| backend.1 = weight);
        }
        AddBackend(at, last) => next.service(at).into_iter().for_each(|s| s.backends.push((last, 1))),
        RemoveBackend(at, backend) => next.service(at).into_iter().for_each(|s| {
            let count = s.backends.len();
            if count > 1 {
                s.backends.remove(backend % count);
            }
        }),
        Drain(at) => next.service(at).into_iter().for_each(|s| s.drained = !s.drained),
        Port(at, port) => next.service(at).into_iter().for_each(|s| s.port = port),
        Ping(at) => next.service(at).into_iter().for_each(|s| s.ping = !s.ping),
        Check(at) => next.service(at).into_iter().for_each(|s| s.checked = !s.checked),
        Rename(at, name) => next.service(at).into_iter().for_each(|s| s.name = name),
        SwapVips(a, b) if !next.services.is_empty() => {
            let (a, b) = (a % count, b % count);
            let vip = next.services[a].vip;
            next.services[a].vip = next.services[b].vip;
            next.services[b].vip = vip;
        }
        SwapPlaces(a, b) if !next.services.is_empty() => next.services.swap(a % count, b % count),
        AddService(name) => {
            let first = File::new().services.remove(0);
            next.services.push(Service { name, vip: name + 100, ..first });
        }
        RemoveService(at) if !next.services.is_empty() => {
            next.services.remove(at % count);
        }
        Seed(seed) => next.seed = seed,
        HopLimit(limit) => next.hop_limit = limit,
        Pool => next.has_pool = !next.has_pool,
        Router(link) => {
            facts.routes[0] = fake::route("10.0.0.0/24".parse().unwrap(), u32::from(link) + 1, None)
        }
        Unresolved => drop(facts.neighbours.pop_first()),
        OwnAddress(last) => {
            facts.addresses.push(Address { address: [192, 0, 2, last].into(), ..facts.addresses[0] })
        }
        Unhealthy(at, backend) => {
            if let Some(service) = file.service(at) {
                facts.health = Arc::new(unhealthy(service, backend));
            }
        }
        NoRedirects => drop(facts.no_redirects.insert(2)),
        SwapVips(..) | SwapPlaces(..) | RemoveService(_) | Nothing => {}
    }
    if netd_schema::parse("file", next.text().as_bytes()).is_ok() {
        *file = next;
    }
}

fn unhealthy(service: &Service, backend: usize) -> Verdicts {
    let (last, _) = service.backends[backend % service.backends.len()];
    let id = BackendId { address: [10, 0, 0, last].into(), port: None };
    let group = Group { service: format!("s{}", service.name), vip: [192, 0, 2, service.vip].into() };
    let verdict = Unhealthy { since_unix_ms: 1, why: "refused".into() };
    Verdicts { unhealthy: [(group, [(id, verdict)].into())].into(), ..Verdicts::default() }
}

fn shown(desired: &DesiredKind) -> String {
    let table: Vec<_> = desired.table.iter().map(|(key, spec)| (key, spec.to_json())).collect();
    format!(
        "{table:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        desired.held, desired.kept, desired.notes, desired.coming, desired.needs, desired.turns_in
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_is_found_from_before_is_what_would_be_found_anew(
        changes in proptest::collection::vec(change(), 1..40)
    ) {
        let (mut file, mut facts) = (File::new(), facts());
        let parse = |file: &File| netd_schema::parse("file", file.text().as_bytes()).unwrap().config;
        let mut before = parse(&file);
        let anew = |desired: Desired, config: &Config, facts: &Facts| Arc::new(desired(config, facts).unwrap());
        let mut wanted = KINDS.map(|(_, desired, _)| anew(desired, &before, &facts));
        for change in &changes {
            let facts_before = facts.clone();
            make(change, &mut file, &mut facts);
            let config = parse(&file);
            for ((name, desired, again), wanted) in KINDS.iter().zip(&mut wanted) {
                let known = Before { config: &before, facts: &facts_before, desired: wanted };
                let found = again(&config, &facts, &known);
                let expected = anew(*desired, &config, &facts);
                if let Some(found) = &found {
                    prop_assert_eq!(shown(found), shown(&expected), "{} after {:?}", name, change);
                }
                // Either may be remembered next.
                *wanted = found.unwrap_or(expected);
            }
            before = config;
        }
    }
}

#[test]
fn a_change_of_one_service_is_found_from_before() {
    let (mut file, facts) = (File::new(), facts());
    let parse = |file: &File| netd_schema::parse("file", file.text().as_bytes()).unwrap().config;
    let before = parse(&file);
    file.services[3].backends[0].1 = 7;
    let after = parse(&file);
    for (name, desired, again) in KINDS {
        let wanted = Arc::new(desired(&before, &facts).unwrap());
        let known = Before { config: &before, facts: &facts, desired: &wanted };
        let found = again(&after, &facts, &known).unwrap_or_else(|| panic!("{name} is found anew"));
        assert_eq!(Arc::ptr_eq(&found, &wanted), name != service::NAME, "{name}");
    }
}
