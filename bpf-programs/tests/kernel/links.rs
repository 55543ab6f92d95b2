//! Programs on devices.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use netd_bpf::abi::{Settings, TCP};
use netd_bpf::links::{self, LinkError, LinkInfo, Mode};
use netd_bpf::{Datapath, Error};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::bed::{Bed, CAPACITY, Tuple, in_own_world, ip, key, numbered_v4, numbered_v6};
use crate::reference::Service;
use crate::socket::RawSocket;

const VIP: &str = "192.0.2.10";
const VIP6: &str = "2001:db8:100::10";

/// A veth pair, both ends up: `near` has index 10, `far` 11.
fn veth() {
    ip("link add near index 10 type veth peer name far index 11");
    ip("link set near up");
    ip("link set far up");
}

fn program(root: &Path) -> Datapath {
    Datapath::create(root, &CAPACITY, &Settings::default()).unwrap()
}

fn on(device: &str, ifindex: u32, datapath: &Datapath) -> LinkInfo {
    LinkInfo { device: device.into(), ifindex, program_id: datapath.program_id().unwrap() }
}

#[test]
fn a_program_is_attached_in_both_modes_and_outlives_its_maker() {
    in_own_world(|root| {
        veth();
        let datapath = program(root);
        links::attach(root, "near", 10, Mode::Native, datapath.program()).unwrap();
        links::attach(root, "far", 11, Mode::Generic, datapath.program()).unwrap();
        let expected = [on("far", 11, &datapath), on("near", 10, &datapath)];
        drop(datapath);
        assert_eq!(links::list(root).unwrap(), expected);
        links::detach(root, "near").unwrap();
        links::detach(root, "near").unwrap();
        assert_eq!(links::list(root).unwrap(), expected[..1]);
    });
}

#[test]
fn attaching_again_replaces_the_program() {
    in_own_world(|root| {
        veth();
        let (old, new) = (program(root), program(root));
        links::attach(root, "near", 10, Mode::Native, old.program()).unwrap();
        links::attach(root, "near", 10, Mode::Native, new.program()).unwrap();
        assert_eq!(links::list(root).unwrap(), [on("near", 10, &new)]);
        links::update(root, "near", old.program()).unwrap();
        assert_eq!(links::list(root).unwrap(), [on("near", 10, &old)]);
        assert!(links::update(root, "far", old.program()).is_err());
    });
}

#[test]
fn a_device_with_a_dot_in_its_name_is_pinned_and_listed() {
    in_own_world(|root| {
        veth();
        ip("link set near down");
        ip("link set near name eth0.100");
        let datapath = program(root);
        links::attach(root, "eth0.100", 10, Mode::Native, datapath.program()).unwrap();
        assert_eq!(links::list(root).unwrap(), [on("eth0.100", 10, &datapath)]);
        links::detach(root, "eth0.100").unwrap();
        assert_eq!(links::list(root).unwrap(), []);
    });
}

/// Runs this without the rights for which the verifier lets a program read packets whose headers are not all of one length.
fn as_a_stranger<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn k3_a_program_that_the_verifier_rejects_leaves_the_old_one_attached_and_its_words_are_kept() {
    in_own_world(|root| {
        veth();
        let old = program(root);
        links::attach(root, "near", 10, Mode::Native, old.program()).unwrap();
        let expected = [on("near", 10, &old)];
        let refused = as_a_stranger(|| {
            let found = Datapath::open(root)?.unwrap();
            found.next_generation(&CAPACITY, &Settings::default()).map(drop)
        });
        let Err(Error::Rejected { program: "xdp_lb", log, .. }) = &refused else {
            panic!("{refused:?}");
        };
        assert!(log.contains("prohibited"), "{log}");
        assert_eq!(links::list(root).unwrap(), expected);
        drop(old);
        let found = Datapath::open(root).unwrap().unwrap();
        assert_eq!((found.number(), found.is_pinned()), (1, true));
        assert_eq!(on("near", 10, &found), expected[0]);
        // And with the rights it is put in its place.
        let next = found.next_generation(&CAPACITY, &Settings::default()).unwrap();
        links::update(root, "near", next.program()).unwrap();
        assert_eq!(links::list(root).unwrap(), [on("near", 10, &next)]);
    });
}

#[test]
fn k24_anothers_program_is_not_replaced() {
    in_own_world(|root| {
        veth();
        let datapath = program(root);
        let anothers = links::attach_pass(10).unwrap();
        let refused = links::attach(root, "near", 10, Mode::Native, datapath.program());
        assert!(matches!(refused, Err(LinkError::Busy(_))), "{refused:?}");
        assert_eq!(links::list(root).unwrap(), []);
        drop(anothers);
        // The kernel lets go of a closed link a little later.
        let free = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            links::attach(root, "near", 10, Mode::Native, datapath.program()).is_ok()
        });
        assert!(free);
    });
}

#[test]
fn k26_native_and_generic_on_one_device_are_refused() {
    in_own_world(|root| {
        veth();
        let datapath = program(root);
        let _native = links::attach_pass(10).unwrap();
        let refused = links::attach(root, "near", 10, Mode::Generic, datapath.program());
        assert!(matches!(refused, Err(LinkError::Busy(_))), "{refused:?}");
    });
}

#[test]
fn k5_a_missing_device_is_named() {
    in_own_world(|root| {
        let datapath = program(root);
        let refused = links::attach(root, "near", 10, Mode::Native, datapath.program());
        assert!(matches!(refused, Err(LinkError::NoDevice { ifindex: 10 })), "{refused:?}");
    });
}

#[test]
fn k25_a_driver_without_native_mode_says_so() {
    in_own_world(|root| {
        ip("link add plain index 10 type bridge");
        let datapath = program(root);
        let refused = links::attach(root, "plain", 10, Mode::Native, datapath.program());
        assert!(matches!(refused, Err(LinkError::NotSupported { mode: Mode::Native, .. })), "{refused:?}");
        links::attach(root, "plain", 10, Mode::Generic, datapath.program()).unwrap();
    });
}

#[test]
fn k27_x14_an_mtu_that_is_too_large_is_explained() {
    in_own_world(|root| {
        veth();
        ip("link set near mtu 9000");
        ip("link set far mtu 9000");
        let datapath = program(root);
        let refused = links::attach(root, "near", 10, Mode::Native, datapath.program());
        let Err(error @ LinkError::MtuTooLarge(_)) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("MTU"), "{error}");
    });
}

#[test]
fn k6_k7_a_deleted_device_leaves_a_defunct_link_and_its_successor_can_be_attached() {
    in_own_world(|root| {
        veth();
        let datapath = program(root);
        links::attach(root, "near", 10, Mode::Native, datapath.program()).unwrap();
        ip("link del near");
        assert_eq!(links::list(root).unwrap(), [on("near", 0, &datapath)]);
        assert!(links::update(root, "near", datapath.program()).is_err());
        ip("link add near index 20 type veth peer name far index 21");
        links::attach(root, "near", 20, Mode::Native, datapath.program()).unwrap();
        assert_eq!(links::list(root).unwrap(), [on("near", 20, &datapath)]);
        ip("link del near");
        links::detach(root, "near").unwrap();
        assert_eq!(links::list(root).unwrap(), []);
    });
}

#[test]
fn k37_replacing_the_program_under_traffic_loses_nothing() {
    in_own_world(|root| {
        veth();
        let _far = links::attach_pass(11).unwrap();
        let mut old = Bed::new(root);
        let mut backends = numbered_v4(1);
        backends[0].ifindex = 10;
        let service = Service::new(key(VIP, 80, TCP), vec![0; 251], backends);
        old.add(service.clone());
        links::attach(root, "near", 10, Mode::Native, old.datapath.program()).unwrap();
        let mut new = Bed::new(root);
        new.add(service);
        let frame = Tuple("10.1.2.3", 12345, VIP, 80).tcp(b"hello");
        let stop = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let socket = RawSocket::new(11);
            let stop = &stop;
            let sending = scope.spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    socket.send(&frame);
                    sent += 1;
                    // The queue of a veth is short, and what it drops is not the program's loss.
                    if sent % 32 == 0 {
                        std::thread::sleep(std::time::Duration::from_micros(100));
                    }
                }
                sent
            });
            for _ in 0..100 {
                links::update(root, "near", new.datapath.program()).unwrap();
                links::update(root, "near", old.datapath.program()).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            sending.join().unwrap()
        });
        let counted = old.maps().counter(0).unwrap().packets + new.maps().counter(0).unwrap().packets;
        assert!(sent > 100, "{sent}");
        assert_eq!(counted, sent);
    });
}

#[test]
fn what_the_balancer_sends_is_what_decap_gives_to_the_kernel() {
    in_own_world(|root| {
        veth();
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], numbered_v4(1)));
        bed.add(Service::new(key(VIP6, 80, TCP), vec![0; 251], numbered_v6(1)));
        let _decap = links::attach_decap(10, Mode::Native).unwrap();
        let (sender, receiver) = (RawSocket::new(11), RawSocket::new(10));
        for frame in [
            Tuple("10.1.2.3", 12345, VIP, 80).tcp(b"hello"),
            Tuple("2001:db8::1", 12345, VIP6, 80).tcp(b"hello"),
            Tuple("10.1.2.3", 12345, "192.0.2.99", 80).udp(b"no tunnel"),
        ] {
            let (_, out) = bed.run(&frame);
            sender.send(&out);
            let inner = receiver.receive_until(|arrived| arrived.ends_with(&frame[14..]));
            assert_eq!(inner[..12], out[..12]);
            assert_eq!(inner[12..], frame[12..]);
        }
    });
}
