//! Flows of slots whose backend changed.

use netd_bpf::Verdict;
use netd_bpf::abi::{
    ACTIVE, Backend, Frontend, IN_USE, KEEP_FLOWS, MAINTENANCE, QUARANTINED, READY, TCP, TERMINATING, UDP,
    WINDOW_OPEN,
};

use crate::bed::{Bed, Tuple, in_own_world, key, number_of, numbered_v4, numbered_v6};
use crate::reference::Service;

const VIP: &str = "192.0.2.10";
const FLOW: Tuple<'static> = Tuple("10.1.2.3", 12345, VIP, 80);
const OLD: u32 = 1;
const NEW: u32 = 2;

/// A service all of whose slots moved from OLD to NEW.
fn moved(window_open: bool) -> Service {
    let mut service = Service::new(key(VIP, 80, TCP), vec![NEW as u16; 251], numbered_v4(3));
    service.previous = Some(vec![OLD as u16; 251]);
    service.window_open = window_open;
    service
}

fn goes_to(bed: &mut Bed, frame: &[u8], backend: u32) {
    let (verdict, out) = bed.run(frame);
    assert_eq!((verdict, number_of(&out)), (Verdict::Transmit, backend));
}

/// Changes one of the service's backends, in the maps and in the model.
fn change(bed: &mut Bed, frontend: &Frontend, index: u32, change: impl FnOnce(&mut Backend)) {
    let backend = &mut bed.model.services[frontend.service as usize].backends[index as usize];
    change(backend);
    let line = *backend;
    bed.maps().set_backend_lines(frontend.backends + index, &[line]).unwrap();
}

/// Changes the service's flags, in the maps and in the model.
fn set_window(bed: &mut Bed, mut frontend: Frontend, open: bool) {
    frontend.flags = KEEP_FLOWS | if open { WINDOW_OPEN } else { 0 };
    let service = &mut bed.model.services[frontend.service as usize];
    service.window_open = open;
    let key = service.key;
    assert!(bed.maps().put_frontends(&[(key, frontend)])[0].is_ok());
}

fn records(bed: &mut Bed, of: u32) -> usize {
    bed.maps().flows_per_counter().unwrap().get(&of).copied().unwrap_or_default()
}

#[test]
fn while_the_window_is_open_an_unknown_flow_stays_and_is_recorded() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let frontend = bed.add(moved(true));
        goes_to(&mut bed, &FLOW.tcp(b""), OLD);
        assert_eq!((records(&mut bed, OLD), records(&mut bed, NEW)), (1, 0));
        assert_eq!(bed.maps().service_counter(frontend.service).unwrap().kept_flows, 1);
    });
}

#[test]
fn a_recorded_flow_stays_when_the_window_has_closed() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let frontend = bed.add(moved(true));
        goes_to(&mut bed, &FLOW.tcp(b""), OLD);
        set_window(&mut bed, frontend, false);
        goes_to(&mut bed, &FLOW.tcp(b""), OLD);
        goes_to(&mut bed, &Tuple("10.1.2.3", 12346, VIP, 80).tcp(b""), NEW);
        assert_eq!((records(&mut bed, OLD), records(&mut bed, NEW)), (1, 0), "new flows need no record then");
    });
}

#[test]
fn a_client_that_uses_a_port_again_is_new_to_a_backend_that_drains() {
    for (state, goes) in [(ACTIVE, OLD), (TERMINATING, NEW)] {
        in_own_world(|root| {
            let mut bed = Bed::new(root);
            let frontend = bed.add(moved(true));
            change(&mut bed, &frontend, OLD, |backend| backend.state = state);
            goes_to(&mut bed, &FLOW.tcp(b""), OLD);
            goes_to(&mut bed, &FLOW.syn(), goes);
        });
    }
}

#[test]
fn a_new_connection_goes_to_the_current_backend_and_stays_there() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(moved(true));
        goes_to(&mut bed, &FLOW.syn(), NEW);
        goes_to(&mut bed, &FLOW.tcp(b""), NEW);
        assert_eq!((records(&mut bed, OLD), records(&mut bed, NEW)), (0, 1));
    });
}

#[test]
fn an_answer_to_a_syn_is_not_a_new_connection() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(moved(true));
        let mut frame = FLOW.syn();
        frame[47] |= 0x10;
        goes_to(&mut bed, &frame, OLD);
    });
}

#[test]
fn a_udp_packet_is_never_taken_for_a_new_connection() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service { key: key(VIP, 80, UDP), ..moved(true) });
        // The byte that would be a SYN flag.
        goes_to(&mut bed, &FLOW.udp(&[2; 40]), OLD);
    });
}

#[test]
fn slots_that_did_not_change_are_not_looked_up() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let mut service = moved(true);
        service.previous = Some(service.slots.clone());
        bed.add(service);
        goes_to(&mut bed, &FLOW.tcp(b""), NEW);
        assert!(bed.maps().flows_per_counter().unwrap().is_empty());
    });
}

#[test]
fn only_a_previous_backend_that_is_active_or_terminating_keeps_flows() {
    for (state, kept_by) in [(ACTIVE, OLD), (TERMINATING, OLD), (QUARANTINED, NEW), (MAINTENANCE, NEW)] {
        in_own_world(|root| {
            let mut bed = Bed::new(root);
            let frontend = bed.add(moved(true));
            change(&mut bed, &frontend, OLD, |backend| backend.state = state);
            goes_to(&mut bed, &FLOW.tcp(b""), kept_by);
        });
    }
}

#[test]
fn flows_leave_a_backend_that_fails_and_stay_where_they_went() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let frontend = bed.add(moved(true));
        goes_to(&mut bed, &FLOW.tcp(b""), OLD);
        change(&mut bed, &frontend, OLD, |backend| backend.state = QUARANTINED);
        goes_to(&mut bed, &FLOW.tcp(b""), NEW);
        change(&mut bed, &frontend, OLD, |backend| backend.state = ACTIVE);
        goes_to(&mut bed, &FLOW.tcp(b""), NEW);
    });
}

#[test]
fn s9_k35_a_record_of_a_line_that_was_given_to_another_backend_is_not_followed() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let frontend = bed.add(moved(true));
        goes_to(&mut bed, &FLOW.tcp(b""), OLD);
        set_window(&mut bed, frontend, false);
        change(&mut bed, &frontend, OLD, |backend| backend.counter = 99);
        goes_to(&mut bed, &FLOW.tcp(b""), NEW);
    });
}

#[test]
fn a_line_that_is_not_in_use_keeps_no_flow() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let frontend = bed.add(moved(true));
        change(&mut bed, &frontend, OLD, |backend| backend.flags = READY);
        goes_to(&mut bed, &FLOW.tcp(b""), NEW);
    });
}

#[test]
fn a_kept_flow_whose_backend_has_no_next_hop_is_dropped_not_moved() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let frontend = bed.add(moved(true));
        change(&mut bed, &frontend, OLD, |backend| backend.flags = IN_USE);
        assert_eq!(bed.run(&FLOW.tcp(b"")).0, Verdict::Drop);
        assert_eq!(bed.maps().service_counter(frontend.service).unwrap().no_next_hop, 1);
    });
}

#[test]
fn rings_of_two_widths_and_both_families_keep_flows() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for (port, wide, wide_previous) in [(1, false, true), (2, true, false), (3, true, true)] {
            let mut v4 = Service { key: key(VIP, port, TCP), wide, wide_previous, ..moved(true) };
            v4.previous = Some(vec![OLD as u16; 509]);
            bed.add(v4.clone());
            let vip = "2001:db8:100::10";
            bed.add(Service { key: key(vip, port, TCP), backends: numbered_v6(3), ..v4 });
            goes_to(&mut bed, &Tuple("10.1.2.3", 12345, VIP, port).tcp(b""), OLD);
            goes_to(&mut bed, &Tuple("2001:db8::1", 12345, vip, port).tcp(b""), OLD);
            goes_to(&mut bed, &Tuple("10.1.2.3", 12346, VIP, port).syn(), NEW);
            goes_to(&mut bed, &Tuple("2001:db8::1", 12346, vip, port).syn(), NEW);
        }
    });
}

#[test]
fn x9_a_service_whose_slots_did_not_change_records_nothing_under_a_flood() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(Service::new(key(VIP, 80, TCP), vec![0; 251], numbered_v4(1)));
        for port in 1..=2000 {
            bed.run(&Tuple("10.1.2.3", port, VIP, 80).syn());
        }
        assert!(bed.maps().flows_per_counter().unwrap().is_empty());
    });
}

#[test]
fn packets_are_counted_at_their_backend_whatever_counter_is_guessed() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let right = bed.add(Service::new(key(VIP, 80, TCP), vec![2; 251], numbered_v4(3)));
        for (sent, first_counter) in (1..).zip([right.first_counter, 0, 1, 77, u32::MAX]) {
            let frontend = Frontend { first_counter, ..right };
            bed.maps().put_frontends(&[(key(VIP, 80, TCP), frontend)]).remove(0).unwrap();
            bed.run(&FLOW.syn());
            let counters: Vec<u64> = (0..100).map(|n| bed.maps().counter(n).unwrap().packets).collect();
            let line = bed.maps().backend_lines(right.backends, 3).unwrap()[2];
            assert_eq!(counters[line.counter as usize], sent);
            assert_eq!(counters.iter().sum::<u64>(), sent);
            assert_eq!(bed.maps().new_flows(line.counter).unwrap(), sent);
        }
    });
}

#[test]
fn records_are_purged_by_counter() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(moved(true));
        for port in 1..=300 {
            bed.run(&Tuple("10.1.2.3", port, VIP, 80).tcp(b""));
        }
        bed.run(&FLOW.syn());
        assert_eq!((records(&mut bed, OLD), records(&mut bed, NEW)), (300, 1));
        assert_eq!(bed.maps().purge_flows(&|_, flow| flow.counter == OLD).unwrap(), 300);
        assert_eq!((records(&mut bed, OLD), records(&mut bed, NEW)), (0, 1));
    });
}
