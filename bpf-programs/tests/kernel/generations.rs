//! Generations: found again, completed, replaced, cleaned up. And the maps of a real one.

use std::fs;
use std::path::Path;

use netd_bpf::abi::{
    Backend, Counter, Frontend, FrontendKey, IN_USE, READY, ServiceCounter, Settings, TCP, UDP,
};
use netd_bpf::links::{self, Mode};
use netd_bpf::{Capacity, Datapath, Error, Verdict, embedded_digest, mount_bpffs_if_missing};

use crate::bed::{Bed, CAPACITY, Tuple, in_own_world, ip, key, number_of, numbered_v4};
use crate::reference::Service;

const VIP: &str = "192.0.2.10";
const FLOW: Tuple<'static> = Tuple("10.1.2.3", 12345, VIP, 80);

fn open(root: &Path) -> Option<Datapath> {
    Datapath::open(root).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_was_made_is_found_again_with_everything_in_it() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], numbered_v4(1)));
        bed.maps().set_service_name(0, "web").unwrap();
        let (id, tag) = (bed.datapath.program_id().unwrap(), bed.datapath.program_tag().unwrap());
        let frontends = bed.maps().frontends().unwrap();
        bed.run(&FLOW.tcp(b""));
        drop(bed);
        let mut again = open(root).unwrap();
        assert_eq!((again.program_id().unwrap(), again.program_tag().unwrap()), (id, tag));
        assert!(again.is_embedded_program());
        assert_eq!(again.maps().capacity(), CAPACITY);
        assert_eq!(again.maps().frontends().unwrap(), frontends);
        assert_eq!(again.maps().service_name(0).unwrap(), "web");
        assert_eq!(again.maps().counter(0).unwrap().packets, 1);
        assert_eq!(again.run(&FLOW.tcp(b"")).unwrap().0, Verdict::Transmit);
    });
}

#[test]
fn nothing_is_found_where_nothing_was_made() {
    in_own_world(|root| {
        assert!(open(root).is_none());
        assert!(open(&root.join("absent")).is_none());
    });
}

#[test]
fn a_generation_left_behind_half_made_is_passed_over_until_it_is_removed() {
    in_own_world(|root| {
        let whole = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        // What a kill between the maps and the program leaves.
        drop(whole.next_generation(&CAPACITY, &Settings::default()).unwrap());
        drop(whole);
        assert!(root.join("g2/meta").exists());
        let found = open(root).unwrap();
        assert_eq!(found.number(), 1);
        assert!(root.join("g2").exists(), "looking changes nothing");
        found.retire_others().unwrap();
        assert!(!root.join("g2").exists());
        fs::remove_file(root.join("g1/program")).unwrap();
        assert!(open(root).is_none());
    });
}

#[test]
fn p1_of_two_complete_generations_the_one_that_links_run_is_in_force() {
    in_own_world(|root| {
        ip("link add near index 10 type veth peer name far index 11");
        let old = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        links::attach(root, "near", 10, Mode::Native, old.program()).unwrap();
        // A kill between completing the new one and turning the link over.
        let mut new = old.next_generation(&CAPACITY, &Settings::default()).unwrap();
        new.complete().unwrap();
        assert_eq!(open(root).unwrap().number(), 1);
        links::update(root, "near", new.program()).unwrap();
        assert_eq!(open(root).unwrap().number(), 2);
    });
}

#[test]
fn the_newest_complete_generation_counts_and_the_old_one_can_go() {
    in_own_world(|root| {
        let mut old = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        assert!(old.maps().put_frontends(&[(key(VIP, 80, TCP), Frontend::default())])[0].is_ok());
        let larger = Capacity { frontends_v4: 128, ..CAPACITY };
        let mut new = old.next_generation(&larger, &Settings::default()).unwrap();
        assert_eq!(new.maps().frontends().unwrap(), []);
        new.complete().unwrap();
        new.complete().unwrap();
        assert_eq!(open(root).unwrap().maps().capacity(), larger);
        old.retire().unwrap();
        assert!(!root.join("g1").exists());
        assert_eq!(open(root).unwrap().number(), 2);
        let third = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        third.retire_others().unwrap();
        assert_eq!((third.number(), root.join("g2").exists()), (3, false));
        drop(third);
        Datapath::retire_all(root).unwrap();
        assert!(open(root).is_none());
    });
}

#[test]
fn maps_of_another_version_are_named_and_left_alone() {
    in_own_world(|root| {
        drop(Datapath::create(root, &CAPACITY, &Settings::default()).unwrap());
        let rename =
            |from: &str, to: &str| fs::rename(root.join("g1").join(from), root.join("g1").join(to)).unwrap();
        let reason = || match Datapath::open(root) {
            Err(Error::Incompatible { reason, .. }) => reason,
            other => panic!("{:?}", other.map(|_| ())),
        };
        rename("flows", "aside");
        assert_eq!(reason(), "flows: it is missing");
        rename("counters", "flows");
        rename("aside", "counters");
        assert_eq!(reason(), "counters: keys of 40 and values of 16 bytes, 4 and 16 were expected");
        assert!(root.join("g1/program").exists());
        assert_eq!(Datapath::create(root, &CAPACITY, &Settings::default()).unwrap().number(), 2);
    });
}

#[test]
fn p20_maps_of_version_1_are_named_and_a_generation_beside_them_can_be_filled_before_it_counts() {
    in_own_world(|root| {
        drop(Datapath::create(root, &CAPACITY, &Settings::default()).unwrap());
        let meta = aya::maps::MapData::from_pin(root.join("g1/meta")).unwrap();
        let mut meta = aya::maps::Array::<_, [u8; 64]>::try_from(aya::maps::Map::Array(meta)).unwrap();
        let mut line = meta.get(&0, 0).unwrap();
        line[..4].copy_from_slice(&1_u32.to_ne_bytes());
        meta.set(0, line, 0).unwrap();
        let reason = || match Datapath::open(root) {
            Err(Error::Incompatible { reason, .. }) => reason,
            other => panic!("{:?}", other.map(|_| ())),
        };
        assert_eq!(reason(), "their layout has version 1, this netd knows version 2");
        let mut new = Datapath::prepare(root, &CAPACITY, &Settings::default()).unwrap();
        new.maps().put_frontends(&[(key(VIP, 80, TCP), Frontend::default())]).remove(0).unwrap();
        assert_eq!(reason(), "their layout has version 1, this netd knows version 2");
        new.complete().unwrap();
        assert_eq!(open(root).unwrap().maps().frontends().unwrap().len(), 1);
    });
}

#[test]
fn x22_only_the_owner_can_look_into_a_generation_and_its_pins() {
    use std::os::unix::fs::PermissionsExt;
    in_own_world(|root| {
        ip("link add near index 10 type veth peer name far index 11");
        let datapath = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        links::attach(root, "near", 10, Mode::Native, datapath.program()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mut pins = 0;
        for folder in ["g1", "links"].map(|folder| root.join(folder)) {
            assert_eq!(mode(&folder), 0o700, "{}", folder.display());
            for pin in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                assert_eq!(mode(&pin), 0o600, "{}", pin.display());
                pins += 1;
            }
        }
        // All maps, the program and the link.
        assert_eq!(pins, 17);
    });
}

#[test]
fn a_bpf_file_system_is_mounted_only_where_there_is_none() {
    in_own_world(|root| {
        assert!(!mount_bpffs_if_missing(&root.join("deep/down")).unwrap());
        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("bpf");
        assert!(mount_bpffs_if_missing(&path).unwrap());
        assert!(!mount_bpffs_if_missing(&path).unwrap());
        drop(Datapath::create(&path, &CAPACITY, &Settings::default()).unwrap());
        rustix::mount::unmount(&path, rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn pins_outside_a_bpf_file_system_are_refused() {
    in_own_world(|_| {
        let elsewhere = tempfile::tempdir().unwrap();
        let Err(error) = Datapath::create(elsewhere.path(), &CAPACITY, &Settings::default()) else {
            panic!("it was made")
        };
        assert!(error.to_string().starts_with("pin of "), "{error}");
    });
}

#[test]
fn k1_a_full_map_refuses_the_frontend_that_is_too_many_and_keeps_the_others() {
    in_own_world(|root| {
        let capacity = Capacity { frontends_v4: 4, ..CAPACITY };
        let mut datapath = Datapath::create(root, &capacity, &Settings::default()).unwrap();
        let put = |port: u16, service| (key(VIP, port, UDP), Frontend { service, ..Frontend::default() });
        let other = (key("2001:db8::1", 1, UDP), Frontend::default());
        let frontends = [put(1, 1), put(2, 2), put(3, 3), other, put(4, 4), put(5, 5), put(2, 6)];
        let results = datapath.maps().put_frontends(&frontends);
        let oks: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(oks, [true, true, true, true, true, false, true]);
        assert!(matches!(results[5], Err(Error::Full { map: "buckets_v4", capacity: 4 })));
        let mut expected = vec![put(1, 1), put(2, 6), put(3, 3), put(4, 4), other];
        expected.sort_unstable_by_key(|(key, _)| *key);
        assert_eq!(datapath.maps().frontends().unwrap(), expected);
    });
}

#[test]
fn many_frontends_come_back_as_they_were_put() {
    in_own_world(|root| {
        let capacity = Capacity { frontends_v4: 20_000, ..CAPACITY };
        let mut datapath = Datapath::create(root, &capacity, &Settings::default()).unwrap();
        let frontend = |n: u32| Frontend { service: n, ..Frontend::default() };
        let key = |n: u32| FrontendKey {
            address: [192, 0, (n >> 8) as u8, n as u8].into(),
            port: 80,
            protocol: TCP,
        };
        let frontends: Vec<_> = (0..20_000).map(|n| (key(n), frontend(n))).collect();
        assert!(datapath.maps().put_frontends(&frontends).iter().all(Result::is_ok));
        assert_eq!(datapath.maps().frontends().unwrap(), frontends);
        let keys: Vec<_> = (0..20_001).map(key).collect();
        assert!(datapath.maps().delete_frontends(&keys).iter().all(Result::is_ok));
        assert_eq!(datapath.maps().frontends().unwrap(), []);
    });
}

#[test]
fn rings_lines_and_names_read_back_and_end_where_they_end() {
    in_own_world(|root| {
        let mut datapath = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        let maps = datapath.maps();
        let bytes: Vec<u8> = (0..100).collect();
        maps.set_ring(10, &[0xff; 192]).unwrap();
        maps.set_ring(10, &bytes).unwrap();
        assert_eq!(maps.ring(10, 100).unwrap(), bytes);
        assert_eq!(maps.ring(9, 192).unwrap(), [vec![0; 64], bytes, vec![0xff; 28]].concat());
        assert!(maps.set_ring(CAPACITY.ring_lines - 1, &[0; 65]).is_err());
        assert!(maps.set_ring(u32::MAX, &[0]).is_err());
        let line = Backend { counter: 7, flags: READY | IN_USE, ..Backend::default() };
        maps.set_backend_lines(3, &[line, line]).unwrap();
        assert_eq!(maps.backend_lines(2, 3).unwrap(), [Backend::default(), line, line]);
        assert!(maps.set_backend_lines(CAPACITY.backend_lines - 1, &[line, line]).is_err());
        assert!(maps.backend_lines(u32::MAX, 2).is_err());
        maps.set_service_name(5, &"é".repeat(40)).unwrap();
        assert_eq!(maps.service_name(5).unwrap(), "é".repeat(32));
        maps.set_service_name(5, "short").unwrap();
        assert_eq!(maps.service_name(5).unwrap(), "short");
        assert!(maps.set_service_name(CAPACITY.services, "x").is_err());
    });
}

#[test]
fn k38_counters_are_summed_over_the_cpus_and_a_base() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], numbered_v4(2)));
        let frame = FLOW.tcp(b"");
        bed.run(&frame);
        let once = Counter { packets: 1, bytes: frame.len() as u64 - 14 };
        let base = Counter { packets: 1000, bytes: 5000 };
        bed.maps().set_counter_base(0, base).unwrap();
        assert_eq!(bed.maps().counter(0).unwrap(), once.plus(base));
        assert_eq!(bed.maps().counter(1).unwrap(), Counter::default());
        bed.maps().clear_counter(0).unwrap();
        assert_eq!(bed.maps().counter(0).unwrap(), Counter::default());
        let last = CAPACITY.counters - 1;
        bed.maps().set_counter_base(last, base).unwrap();
        assert_eq!(bed.maps().counter(last).unwrap(), base);
        assert!(bed.maps().counter(CAPACITY.counters).is_err());
        bed.maps().set_new_flows_base(last, 9).unwrap();
        assert_eq!(bed.maps().new_flows(last).unwrap(), 9);
        bed.maps().clear_counter(last).unwrap();
        assert_eq!(bed.maps().new_flows(last).unwrap(), 0);
        let base = ServiceCounter { no_backend: 1, passed: 16, ..ServiceCounter::default() };
        bed.maps().set_service_counter_base(1, base).unwrap();
        assert_eq!(bed.maps().service_counter(1).unwrap(), base);
        bed.maps().clear_service_counter(1).unwrap();
        assert_eq!(bed.maps().service_counter(1).unwrap(), ServiceCounter::default());
    });
}

#[test]
fn a_grace_period_ends() {
    in_own_world(|_| netd_bpf::grace().unwrap());
}

#[test]
fn the_digest_says_whether_the_program_is_the_embedded_one() {
    in_own_world(|root| {
        let datapath = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        assert!(datapath.is_embedded_program());
        assert_ne!(embedded_digest(), 0);
        assert_ne!(datapath.program_tag().unwrap(), [0; 8]);
    });
}

#[test]
fn p22_the_successor_of_a_generation_without_pins_is_newer_and_found() {
    in_own_world(|root| {
        let old = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        assert!(old.is_pinned());
        fs::remove_file(root.join(format!("g{}/rings", old.number()))).unwrap();
        assert!(!old.is_pinned());
        fs::remove_dir_all(root.join(format!("g{}", old.number()))).unwrap();
        let mut next = old.next_generation(&CAPACITY, &Settings::default()).unwrap();
        next.complete().unwrap();
        assert!(next.number() > old.number());
        old.retire().unwrap();
        assert!(next.is_pinned());
        assert_eq!(open(root).unwrap().number(), next.number());
    });
}

#[test]
fn s8_whichever_program_a_packet_meets_while_links_are_turned_over_the_records_are_the_same() {
    in_own_world(|root| {
        let mut old = Bed::new(root);
        let service = || Service {
            previous: Some(vec![0; 509]),
            window_open: true,
            ..Service::new(key(VIP, 80, TCP), vec![1; 251], numbered_v4(2))
        };
        old.add(service());
        let next = old.datapath.next_generation(&CAPACITY, &Settings::default()).unwrap();
        let mut next = Bed::of(next);
        next.add(service());
        assert!(next.datapath.shares_flows());
        let (first, second) = (Tuple("10.1.2.3", 1, VIP, 80), Tuple("10.1.2.3", 2, VIP, 80));
        let run = |bed: &Bed, frame: &[u8]| number_of(&bed.datapath.run(frame).unwrap().1);
        assert_eq!((run(&old, &first.syn()), run(&next, &first.tcp(b""))), (1, 1));
        assert_eq!((run(&next, &second.syn()), run(&old, &second.tcp(b""))), (1, 1));
        assert_eq!(old.maps().flows().unwrap().len(), 2);
        assert_eq!(old.maps().flows().unwrap(), next.maps().flows().unwrap());
        old.datapath.retire().unwrap();
        assert_eq!(run(&next, &second.tcp(b"")), 1);
    });
}

#[test]
fn another_number_of_records_needs_another_map() {
    in_own_world(|root| {
        let old = Datapath::create(root, &CAPACITY, &Settings::default()).unwrap();
        let larger = Capacity { flows: 2 * CAPACITY.flows, ..CAPACITY };
        let mut next = old.next_generation(&larger, &Settings::default()).unwrap();
        assert!(!next.shares_flows());
        assert_eq!(next.maps().capacity(), larger);
    });
}
