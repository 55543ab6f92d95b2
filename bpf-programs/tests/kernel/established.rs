//! Five thousand established flows of a service that changes, while ten times as many packets come by as records of
//! flows have room.

use netd_bpf::abi::TCP;

use crate::bed::{Bed, CAPACITY, Tuple, in_own_world, key, number_of, numbered_v4};
use crate::reference::Service;

const VIP: &str = "192.0.2.10";
const FLOWS: u32 = 5000;
const FLOOD: u32 = 10 * CAPACITY.flows;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Where a frame without VLAN tag and IPv4 options has its source and its TCP flags.
const SOURCE: std::ops::Range<usize> = 26..30;
const FLAGS: usize = 47;

/// Nine backends: all flows of the first three moved, those of the second three stay, three are new.
fn changed() -> Service {
    let ring =
        |moved: u16| (0..2039).map(move |slot| if slot % 2 == 0 { moved + slot % 3 } else { 3 + slot % 3 });
    let mut service = Service::new(key(VIP, 80, TCP), ring(6).collect(), numbered_v4(9));
    (service.previous, service.window_open) = (Some(ring(0).collect()), true);
    service
}

/// A packet of a client, which its number tells apart from all others.
struct Sender(Vec<u8>);

impl Sender {
    fn new() -> Self {
        Self(Tuple("10.0.0.0", 12345, VIP, 80).tcp(b"data"))
    }

    fn send(&mut self, bed: &Bed, client: u32, flags: u8) -> Vec<u8> {
        self.0[SOURCE].copy_from_slice(&(0x0a00_0000 + client).to_be_bytes());
        self.0[FLAGS] = flags;
        bed.datapath.run(&self.0).unwrap().1
    }

    /// Begins the flows after the change: only their records tell where those of changed slots are. Their backends.
    fn begin(&mut self, bed: &Bed) -> Vec<u32> {
        let begun: Vec<u32> = (0..FLOWS).map(|client| number_of(&self.send(bed, client, SYN))).collect();
        // Records that were used go last when room is needed.
        assert_eq!(self.backends(bed), begun);
        begun
    }

    /// Where the established flows go.
    fn backends(&mut self, bed: &Bed) -> Vec<u32> {
        (0..FLOWS).map(|client| number_of(&self.send(bed, client, ACK))).collect()
    }
}

#[test]
fn x8_flows_from_before_a_change_outlast_a_flood_of_new_ones() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(changed());
        let mut sender = Sender::new();
        let before = sender.backends(&bed);
        assert!(before.iter().all(|backend| *backend < 6), "a flow has left its backend at once");
        for client in FLOWS..FLOWS + FLOOD {
            sender.send(&bed, client, SYN);
        }
        let records = bed.maps().flows().unwrap().len() as u32;
        assert!(records > CAPACITY.flows / 2, "the flood made {records} records only");
        assert_eq!(sender.backends(&bed), before);
    });
}

#[test]
fn x9_a_flood_of_resets_takes_no_record_from_the_flows_that_have_one() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(changed());
        let mut sender = Sender::new();
        let begun = sender.begin(&bed);
        let records = bed.maps().flows().unwrap().len();
        for client in FLOWS..FLOWS + FLOOD {
            sender.send(&bed, client, [RST, RST | ACK, 0][client as usize % 3]);
        }
        assert_eq!(bed.maps().flows().unwrap().len(), records);
        assert_eq!(sender.backends(&bed), begun);
    });
}

#[test]
fn x8_flows_begun_after_a_change_keep_their_records_in_a_flood_of_new_ones() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        bed.add(changed());
        let mut sender = Sender::new();
        let begun = sender.begin(&bed);
        for client in FLOWS..FLOWS + FLOOD {
            sender.send(&bed, client, SYN);
        }
        let left = sender.backends(&bed).into_iter().zip(begun).filter(|(now, then)| now != then).count();
        assert!(left <= FLOWS as usize / 50, "{left} of {FLOWS} flows left their backends");
    });
}
