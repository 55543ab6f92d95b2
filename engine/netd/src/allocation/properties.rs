//! What holds for any file and any history; and the same results as a model that is written to be plain, not fast.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use netd_schema::{Avoid, Backend, BackendState, IpPool, PoolChoice, Port, Protocol, Service};
use proptest::prelude::*;

const POOLS: [&str; 3] = ["p0", "p1", "p2"];

/// Prefixes that are apart, of each of three pools.
fn ranges(pool: usize) -> Vec<&'static str> {
    match pool {
        0 => vec!["10.0.0.0/30", "10.0.0.254/31", "2001:db8::/127"],
        1 => vec!["10.1.0.255/32", "10.1.1.0/31", "2001:db8:1::4/126"],
        _ => vec!["2001:db8:2::/128", "10.2.0.1/32"],
    }
}

/// Addresses of all pools, and some of none.
fn address() -> impl Strategy<Value = IpAddr> {
    let inside = (0..3_usize).prop_flat_map(|pool| {
        let all: Vec<IpAddr> = ranges(pool).iter().flat_map(|range| members(range)).collect();
        prop::sample::select(all)
    });
    let outside = prop::sample::select(vec!["10.9.0.1".parse().unwrap(), "2001:db8:9::1".parse().unwrap()]);
    prop_oneof![8 => inside, 1 => outside]
}

fn members(range: &str) -> Vec<IpAddr> {
    range.parse::<ipnetwork::IpNetwork>().unwrap().iter().collect()
}

fn pool(index: usize) -> impl Strategy<Value = IpPool> {
    let ranges = prop::sample::subsequence(ranges(index), 1..=ranges(index).len());
    (
        ranges,
        prop::bool::weighted(0.8),
        prop::sample::select(vec![1, 100]),
        prop::bool::weighted(0.2),
        any::<bool>(),
    )
        .prop_map(move |(ranges, auto_assign, priority, drain, avoids)| {
            let mut ranges: Vec<ipnetwork::IpNetwork> =
                ranges.iter().map(|range| range.parse().unwrap()).collect();
            ranges.sort();
            let avoid = if avoids { Avoid::FirstLast } else { Avoid::None };
            let name = POOLS[index].to_owned();
            IpPool { name, ranges, auto_assign, priority, drain, avoid, ..IpPool::default() }
        })
}

fn pools() -> impl Strategy<Value = Vec<IpPool>> {
    (pool(0), pool(1), pool(2), prop::sample::subsequence(vec![0_usize, 1, 2], 1..=3))
        .prop_map(|(a, b, c, some)| some.into_iter().map(|index| [&a, &b, &c][index].clone()).collect())
}

fn service(index: usize) -> impl Strategy<Value = Service> {
    let choice = prop::option::weighted(
        0.9,
        prop_oneof![
            Just(PoolChoice::Auto),
            prop::sample::select(POOLS.to_vec()).prop_map(|name| PoolChoice::Named(name.to_owned())),
        ],
    );
    let families = prop::option::weighted(0.3, prop::sample::subsequence(Family::BOTH.to_vec(), 1..=2));
    let share = prop::option::of(prop::sample::select(vec!["x".to_owned(), "y".to_owned()]));
    let ports = prop::sample::subsequence(vec![1_u16, 2, 3], 1..=2);
    (choice, families, share, ports, prop::option::weighted(0.3, address())).prop_map(
        move |(choice, families, share, ports, named)| {
            let port = |port| Port { protocol: Protocol::Tcp, port, backend_port: None };
            Service {
                name: format!("s{index}"),
                vips: named.into_iter().collect(),
                families: families.filter(|_| choice.is_some()),
                share: share.filter(|_| choice.is_some()),
                pool: choice,
                ports: ports.into_iter().map(port).collect(),
                ..Service::default()
            }
        },
    )
}

/// A file whose own checks would let it pass, as far as addresses are concerned.
fn file() -> impl Strategy<Value = Config> {
    let services = (0..7_usize).map(service).collect::<Vec<_>>();
    (pools(), services, prop::option::of(address())).prop_map(|(ip_pools, mut services, backend)| {
        let mut named = BTreeSet::new();
        for service in &mut services {
            let is_of_its_pool = |vip: &IpAddr| {
                ip_pools.iter().any(|pool| {
                    let may = match &service.pool {
                        Some(PoolChoice::Named(name)) => *name == pool.name,
                        Some(PoolChoice::Auto) | None => true,
                    };
                    may && pool.contains(*vip)
                })
            };
            let is_of_a_family = |vip: &IpAddr| {
                service.families.as_ref().is_none_or(|families| families.contains(&Family::of(*vip)))
            };
            let is_kept = |vip: &IpAddr| is_of_its_pool(vip) && is_of_a_family(vip) && named.insert(*vip);
            let vips: Vec<IpAddr> =
                service.vips.iter().filter(|vip| Some(**vip) != backend).copied().collect();
            service.vips = vips.into_iter().filter(is_kept).collect();
        }
        if let Some(address) = backend {
            services[0].backends =
                vec![Backend { address, port: None, weight: 1, state: BackendState::Active }];
        }
        Config { ip_pools, services, ..Config::default() }
    })
}

fn history() -> impl Strategy<Value = Held> {
    prop::collection::btree_map(
        (0..9_usize).prop_map(|index| format!("s{index}")),
        prop::collection::btree_set(address(), 0..3),
        0..8,
    )
}

/// The rules of `docs/addresses.md`, one after the other.
fn plainly(config: &Config, held: &Held) -> BTreeMap<(String, Family), Vec<IpAddr>> {
    let mut has: Vec<(&Service, IpAddr)> = Vec::new();
    for service in &config.services {
        has.extend(service.vips.iter().map(|vip| (service, *vip)));
    }
    let machines: Vec<IpAddr> =
        config.services.iter().flat_map(|service| service.backends.iter().map(|one| one.address)).collect();
    let together = |one: &Service, other: &Service| {
        one.share.is_some()
            && one.share == other.share
            && one.ports.iter().all(|port| other.ports.iter().all(|theirs| theirs.port != port.port))
    };
    let mut pools: Vec<&IpPool> = config.ip_pools.iter().collect();
    pools.sort_by_key(|pool| (pool.priority, pool.name.clone()));
    let may_choose = |service: &Service, pool: &IpPool| match &service.pool {
        Some(PoolChoice::Auto) => pool.auto_assign,
        Some(PoolChoice::Named(name)) => *name == pool.name,
        None => false,
    };
    let may_keep = |service: &Service, address: IpAddr| {
        config.ip_pools.iter().any(|pool| {
            pool.contains(address)
                && match &service.pool {
                    Some(PoolChoice::Named(name)) => *name == pool.name,
                    Some(PoolChoice::Auto) => true,
                    None => false,
                }
        })
    };
    let held_of = |service: &Service, family: Family| -> Vec<IpAddr> {
        let all = held.get(&service.name).cloned().unwrap_or_default();
        all.into_iter().filter(|one| Family::of(*one) == family).collect()
    };
    let wants = |service: &Service, family: Family| {
        if let Some(families) = &service.families {
            return families.contains(&family);
        }
        let choosable: Vec<&&IpPool> = pools.iter().filter(|pool| may_choose(service, pool)).collect();
        let all_drain = choosable.iter().all(|pool| pool.drain);
        choosable.iter().any(|pool| pool.has(family) && (all_drain || !pool.drain))
            || held_of(service, family).iter().any(|one| may_keep(service, *one))
            || service.vips.iter().any(|vip| Family::of(*vip) == family)
    };
    let wanting = |family: Family| {
        config.services.iter().filter(move |service| service.pool.is_some() && wants(service, family))
    };
    let is_served = |has: &[(&Service, IpAddr)], service: &Service, family: Family| {
        has.iter().any(|(who, what)| who.name == service.name && Family::of(*what) == family)
    };
    // Families do not meet, so one after the other is the same as both by service.
    for family in Family::BOTH {
        for service in wanting(family).filter(|one| !is_served(&has, one, family)).collect::<Vec<_>>() {
            let free = |one: &IpAddr| {
                !machines.contains(one) && has.iter().all(|(who, what)| what != one || together(service, who))
            };
            let kept = held_of(service, family).into_iter().find(|one| may_keep(service, *one) && free(one));
            has.extend(kept.map(|one| (service, one)));
        }
        for service in wanting(family).filter(|one| !is_served(&has, one, family)).collect::<Vec<_>>() {
            let mut open: Vec<IpAddr> = Vec::new();
            for pool in pools.iter().filter(|pool| may_choose(service, pool) && !pool.drain) {
                open.extend(pool.ranges.iter().flat_map(ipnetwork::IpNetwork::iter));
            }
            open.retain(|one| Family::of(*one) == family);
            let shared = open.iter().copied().find(|one| {
                let mut holders = has.iter().filter(|(_, what)| what == one).peekable();
                holders.peek().is_some() && holders.all(|(who, _)| together(service, who))
            });
            let is_avoided = |one: IpAddr| {
                let pool = pools.iter().find(|pool| pool.contains(one)).unwrap();
                let text = one.to_string();
                pool.avoid == Avoid::FirstLast && (text.ends_with(".0") || text.ends_with(".255"))
            };
            let fresh = open.iter().copied().find(|one| {
                !is_avoided(*one) && !machines.contains(one) && has.iter().all(|(_, what)| what != one)
            });
            has.extend(shared.or(fresh).map(|one| (service, one)));
        }
    }
    let mut given: BTreeMap<(String, Family), Vec<IpAddr>> = BTreeMap::new();
    for (service, address) in has.into_iter().filter(|(service, _)| service.pool.is_some()) {
        given.entry((service.name.clone(), Family::of(address))).or_default().push(address);
    }
    given
}

fn addresses(allocation: &Allocation) -> BTreeMap<(String, Family), Vec<IpAddr>> {
    allocation.given.iter().map(|(key, given)| (key.clone(), given.addresses.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_choice_is_that_of_the_plain_model(config in file(), held in history()) {
        prop_assert_eq!(addresses(&allocate(&config, &held)), plainly(&config, &held));
    }

    #[test]
    fn no_two_services_have_one_address_unless_they_share_it(config in file(), held in history()) {
        let resolved = allocate(&config, &held).resolve(&config).into_owned();
        let mut has: BTreeMap<IpAddr, Vec<&Service>> = BTreeMap::new();
        for service in &resolved.services {
            for vip in &service.vips {
                has.entry(*vip).or_default().push(service);
            }
        }
        for (address, services) in has {
            let mut ports = BTreeSet::new();
            for service in &services {
                prop_assert!(services.len() == 1 || service.share.is_some(), "{address}");
                prop_assert!(service.share == services[0].share, "{address}");
                prop_assert!(service.ports.iter().all(|port| ports.insert(port.port)), "{address}");
            }
        }
    }

    #[test]
    fn what_was_given_is_given_again_and_nothing_moves(config in file(), held in history()) {
        let once = allocate(&config, &held);
        let twice = allocate(&config, &in_force(&config, &once.held()));
        prop_assert_eq!(addresses(&once), addresses(&twice));
        prop_assert!(twice.moved.is_empty());
        // A family that was only wanted because the service had an address of it is not wanted when it has none.
        prop_assert!(twice.waiting.iter().all(|(key, why)| once.waiting.get(key) == Some(why)));
    }

    #[test]
    fn the_order_of_services_and_pools_has_no_meaning(config in file(), held in history()) {
        let mut turned = config.clone();
        turned.services.reverse();
        turned.ip_pools.rotate_left(1);
        prop_assert_eq!(allocate(&config, &held), allocate(&turned, &held));
    }

    #[test]
    fn what_happens_to_other_services_renumbers_nobody(config in file(), added in service(9), removed in 0..7_usize) {
        let before = allocate(&config, &Held::new());
        let held = in_force(&config, &before.held());
        let mut after = config.clone();
        after.services.remove(removed);
        after.services.push(Service { vips: Vec::new(), pool: Some(PoolChoice::Auto), ..added });
        let now = allocate(&after, &held);
        prop_assert!(now.moved.is_empty());
        for (key, given) in before.given.iter().filter(|(key, _)| key.0 != format!("s{removed}")) {
            prop_assert_eq!(&now.given[key].addresses, &given.addresses);
        }
    }

    #[test]
    fn an_edit_of_a_pool_renumbers_only_whom_it_leaves_no_range(config in file(), edited in pools()) {
        let before = allocate(&config, &Held::new());
        let held = in_force(&config, &before.held());
        let mut after = config.clone();
        after.ip_pools = edited;
        // What is named is another matter, and its own checks say that it is outside.
        after.services.retain(|service| service.vips.is_empty());
        let now = allocate(&after, &held);
        for (key, given) in before.given.iter().filter(|(key, _)| after.services.iter().any(|one| one.name == key.0)) {
            let service = after.services.iter().find(|one| one.name == key.0).unwrap();
            let may_stay = after.ip_pools.iter().any(|pool| {
                let is_its = match &service.pool {
                    Some(PoolChoice::Named(name)) => *name == pool.name,
                    Some(PoolChoice::Auto) | None => true,
                };
                is_its && given.addresses.iter().all(|one| pool.contains(*one))
            });
            let stays = now.given.get(key).is_some_and(|then| then.addresses == given.addresses);
            prop_assert_eq!(may_stay, stays, "{:?}", key);
            prop_assert_eq!(!stays, now.moved.contains_key(key), "{:?}", key);
        }
    }
}
