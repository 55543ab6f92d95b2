//! The tables of frontends: what user space writes is what packets meet, also while it is being written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netd_bpf::abi::{self, Frontend, FrontendKey, Settings, TCP};
use netd_bpf::{Capacity, Datapath, Error, Maps, Verdict};

use crate::bed::{CAPACITY, Tuple, in_own_world, key, number_of, numbered_v4, numbered_v6};

/// Stamps: a ring, a block of backends and a service for each.
const STAMPS: u32 = 32;
/// Keys of each family that change in the race.
const KEYS: u32 = 8;

fn vip(is_ipv4: bool, n: u32) -> String {
    if is_ipv4 { format!("192.0.2.{}", n % 256) } else { format!("2001:db8:100::{:x}", n % 65536) }
}

fn client(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "10.1.2.3" } else { "2001:db8::1" }
}

fn frame(key: &FrontendKey, port: u16) -> Vec<u8> {
    Tuple(client(key.address.is_ipv4()), port, &key.address.to_string(), key.port).tcp(b"")
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % sides
    }
}

#[test]
fn packets_meet_what_was_put_also_where_buckets_overflow() {
    in_own_world(|root| {
        let capacity = Capacity { frontends_v4: 24, frontends_v6: 24, services: 4096, ..CAPACITY };
        let mut datapath = Datapath::create(root, &capacity, &Settings::default()).unwrap();
        let keys: Vec<_> = (0..96).map(|n| key(&vip(n % 2 == 0, n / 4), 80 + n as u16 % 4, TCP)).collect();
        let (mut expected, mut dice, mut full) = (BTreeMap::new(), Dice(5), 0);
        for service in 0..3000 {
            let of = keys[dice.roll(96) as usize];
            if dice.roll(3) == 0 {
                datapath.maps().delete_frontends(&[of])[0].as_ref().unwrap();
                expected.remove(&of);
            } else {
                let frontend = Frontend { service, ..Frontend::default() };
                match datapath.maps().put_frontends(&[(of, frontend)]).remove(0) {
                    Ok(()) => drop(expected.insert(of, frontend)),
                    Err(Error::Full { .. }) => full += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            for of in [of, keys[dice.roll(96) as usize], keys[dice.roll(96) as usize]] {
                let Some(frontend) = expected.get(&of) else {
                    assert_eq!(datapath.run(&frame(&of, 1)).unwrap().0, Verdict::Pass, "{of}");
                    continue;
                };
                // Without slots the packet is dropped and counted for the frontend's service.
                let dropped = |datapath: &Datapath| {
                    datapath.maps_ref().service_counter(frontend.service).unwrap().no_backend
                };
                let before = dropped(&datapath);
                assert_eq!(datapath.run(&frame(&of, 1)).unwrap().0, Verdict::Drop, "{of}");
                assert_eq!(dropped(&datapath), before + 1, "{of}");
            }
        }
        assert!(full > 0 && !expected.is_empty());
        let all: Vec<_> = expected.into_iter().collect();
        assert_eq!(datapath.maps().frontends().unwrap(), all);
        drop(datapath);
        assert_eq!(Datapath::open(root).unwrap().unwrap().maps().frontends().unwrap(), all);
    });
}

/// Ring and block of each stamp, of both families: every slot of ring `s` names line `s` of its block, and backend
/// `k` of block `s` has the number `s * STAMPS + k`.
fn write_stamps(maps: &mut dyn Maps) {
    let (v4, v6) = (numbered_v4(STAMPS * STAMPS), numbered_v6(STAMPS * STAMPS));
    maps.set_backend_lines(0, &v4).unwrap();
    maps.set_backend_lines(STAMPS * STAMPS, &v6).unwrap();
    let line = abi::ring_lines(251, false);
    for stamp in 0..STAMPS {
        maps.set_ring(stamp * line, &abi::ring_bytes(&[stamp as u16; 251], false)).unwrap();
    }
}

fn stamped(stamp: u32, is_ipv4: bool) -> Frontend {
    Frontend {
        ring: stamp * abi::ring_lines(251, false),
        slots: 251,
        slots_magic: abi::magic(251),
        flow_seed: stamp,
        backends: STAMPS * (stamp + if is_ipv4 { 0 } else { STAMPS }),
        backend_count: STAMPS,
        service: stamp,
        ..Frontend::default()
    }
}

/// So many changes at least, half of which wait for the kernel's grace period.
const CHANGES: u32 = 200;

/// With `NETD_LONG=1`: some minutes.
const CHANGES_LONG: u32 = 10_000;

/// Puts stamps of each key's own, one after the other, and removes some, until told to stop; counts the changes.
fn change(datapath: &mut Datapath, keys: &[FrontendKey], stop: &AtomicBool, changes: &AtomicU32) {
    let mut dice = Dice(9);
    while !stop.load(Ordering::Relaxed) {
        let n = dice.roll(keys.len() as u32);
        let key = keys[n as usize];
        let results = if dice.roll(3) == 0 {
            datapath.maps().delete_frontends(&[key])
        } else {
            let stamp = n % KEYS + KEYS * dice.roll(STAMPS / KEYS);
            datapath.maps().put_frontends(&[(key, stamped(stamp, key.address.is_ipv4()))])
        };
        results.into_iter().for_each(|result| result.unwrap());
        changes.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn s11_k36_a_packet_meets_one_whole_frontend_of_its_key_while_all_of_them_change() {
    in_own_world(|root| {
        let capacity = Capacity { frontends_v4: KEYS, frontends_v6: KEYS, ..CAPACITY };
        let mut datapath = Datapath::create(root, &capacity, &Settings::default()).unwrap();
        write_stamps(datapath.maps());
        let keys: Vec<_> = (0..2 * KEYS).map(|n| key(&vip(n < KEYS, 10 + n % KEYS), 80, TCP)).collect();
        let packets = Datapath::open(root).unwrap().unwrap();
        let frames: Vec<_> = keys.iter().map(|key| frame(key, 1000)).collect();
        let wanted = if std::env::var_os("NETD_LONG").is_some() { CHANGES_LONG } else { CHANGES };
        let (stop, changes) = (AtomicBool::new(false), AtomicU32::new(0));
        let (sent, passed) = std::thread::scope(|scope| {
            let changing = scope.spawn(|| change(&mut datapath, &keys, &stop, &changes));
            let (mut sent, mut passed, began) = (0, 0, Instant::now());
            let goes_on = |began: Instant| {
                began.elapsed() < Duration::from_secs(2) || changes.load(Ordering::Relaxed) < wanted
            };
            while goes_on(began) && !changing.is_finished() {
                for (n, frame) in (0..).zip(&frames) {
                    let (verdict, out) = packets.run(frame).unwrap();
                    if verdict == Verdict::Pass {
                        passed += 1;
                        continue;
                    }
                    assert_eq!(verdict, Verdict::Transmit);
                    let (stamp, index) = (number_of(&out) / STAMPS, number_of(&out) % STAMPS);
                    assert_eq!(stamp, index, "the ring of one frontend and the backends of another");
                    assert_eq!(stamp % KEYS, n % KEYS, "the frontend of another key");
                    sent += 1;
                }
            }
            stop.store(true, Ordering::Relaxed);
            changing.join().unwrap();
            (sent, passed)
        });
        let changes = changes.into_inner();
        assert!(
            changes >= wanted && sent > 1000 && passed > 1000,
            "{changes} changes, {sent} sent, {passed} passed"
        );
    });
}

#[test]
fn prefixes_of_clients_and_pools_come_back_as_they_were_put() {
    use netd_bpf::abi::{Pool, PoolKey, SOURCE_ALLOWED, SOURCE_DENIED, Source, SourceKey};
    in_own_world(|root| {
        let mut datapath = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        let source = |n: u32| {
            let key = SourceKey::new(n % 7, (0x0a00_0000 + (n << 8)).to_be_bytes().into(), 24);
            (key, Source::new(if n.is_multiple_of(2) { SOURCE_ALLOWED } else { SOURCE_DENIED }))
        };
        let mut sources: Vec<_> = (0..1000).map(source).collect();
        sources.push((SourceKey::new(3, "::".parse().unwrap(), 0), Source::new(SOURCE_DENIED)));
        datapath.maps().put_sources(&sources).unwrap();
        datapath.maps().put_sources(&sources).unwrap();
        sources.sort_unstable_by_key(|(key, _)| *key);
        assert_eq!(datapath.maps().sources().unwrap(), sources);
        let doomed: Vec<_> = sources.iter().take(990).map(|(key, _)| *key).collect();
        datapath.maps().delete_sources(&doomed).unwrap();
        datapath.maps().delete_sources(&doomed).unwrap();
        assert_eq!(datapath.maps().sources().unwrap(), sources[990..]);
        let many: Vec<_> = (0..1025).map(source).collect();
        assert!(matches!(datapath.maps().put_sources(&many), Err(Error::Full { map: "sources", .. })));
        let pool = |prefix: &str, bits| PoolKey::new(prefix.parse().unwrap(), bits);
        let mut pools = vec![
            (pool("192.0.2.0", 24), Pool { flags: abi::UNKNOWN_DROP, service: 1 }),
            (pool("2001:db8::", 32), Pool { flags: abi::UNKNOWN_REJECT, service: 2 }),
        ];
        pools.sort_unstable_by_key(|(key, _)| *key);
        assert_eq!(datapath.maps().pools().unwrap(), []);
        datapath.maps().put_pools(&pools).unwrap();
        assert_eq!(datapath.maps().pools().unwrap(), pools);
        datapath.maps().delete_pools(&[pools[0].0]).unwrap();
        drop(datapath);
        assert_eq!(Datapath::open(root).unwrap().unwrap().maps().pools().unwrap(), pools[1..]);
    });
}

#[test]
fn settings_are_found_again_and_those_of_the_next_generation_are_its_own() {
    in_own_world(|root| {
        let settings = Settings { hop_limit: 9, icmp_errors_per_second: 5, ..Settings::default() };
        let datapath = Datapath::create(root, &CAPACITY, &settings).unwrap();
        assert_eq!(datapath.maps_ref().settings(), settings);
        let next = datapath.next_generation(&CAPACITY, &Settings::default()).unwrap();
        assert_eq!(next.maps_ref().settings(), Settings::default());
        assert_eq!(Datapath::open(root).unwrap().unwrap().maps_ref().settings(), settings);
    });
}
