//! Which backend: affinity, chance, weights.

use crate::{DNS, WEB, at, servers, web};
use netd_integration_tests::desired::file;
use netd_integration_tests::echo::{Servers, echo};
use netd_integration_tests::{Bed, Lab};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// More addresses of the client: as many clients.
const CLIENTS: std::ops::Range<u8> = 100..124;

fn bed(lab: &Lab) -> (Bed, Servers) {
    let bed = Bed::new(lab, 3);
    for last in CLIENTS {
        bed.client.ip(&["addr", "add", &format!("10.1.2.{last}/24"), "dev", "eth0"]);
        bed.client.ip(&["addr", "add", &format!("2001:db8::{last}/64"), "dev", "eth0", "nodad"]);
    }
    let servers = servers(&bed);
    (bed, servers)
}

/// The backend of each client, by connections from two ports.
fn backends(bed: &Bed, to: SocketAddr) -> BTreeMap<u8, BTreeSet<u8>> {
    let of = |last: u8| {
        let from = if to.is_ipv4() { format!("10.1.2.{last}:0") } else { format!("[2001:db8::{last}]:0") };
        let ask = |_| bed.connect_between(from.parse().unwrap(), to).unwrap().1;
        (last, (0..2).map(ask).collect())
    };
    CLIENTS.map(of).collect()
}

fn all_of(backends: &BTreeMap<u8, BTreeSet<u8>>) -> Vec<u8> {
    let all: BTreeSet<u8> = backends.values().flatten().copied().collect();
    all.into_iter().collect()
}

#[test]
fn with_affinity_a_client_keeps_its_backend_also_when_one_is_added() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.write(&file(&[web(1).with("affinity = \"1h\"")]));
    let netd = bed.start_ok();
    for to in at(WEB) {
        assert_eq!(all_of(&backends(&bed, to)), [1], "{to}");
    }
    bed.write(&file(&[web(3).with("affinity = \"1h\"")]));
    bed.wait_ok();
    // Many ports of one client.
    for to in at(WEB) {
        let (_, first) = bed.connect(to).unwrap();
        assert!((0..30).all(|_| bed.connect(to).unwrap().1 == first), "{to}");
        assert_eq!(all_of(&backends(&bed, to)), [1], "{to}");
    }
    netd.kill();
    let _netd = bed.start_ok();
    for to in at(WEB) {
        assert_eq!(all_of(&backends(&bed, to)), [1], "{to} after a restart");
    }
    // Once they have been silent for so long, the ring decides.
    bed.write(&file(&[web(3).with("affinity = \"1s\"")]));
    bed.wait_ok();
    std::thread::sleep(Duration::from_millis(2500));
    for to in at(WEB) {
        let chosen = backends(&bed, to);
        assert_eq!(all_of(&chosen), [1, 2, 3], "{to}");
        assert!(chosen.values().all(|backends| backends.len() == 1), "{chosen:?}");
    }
}

#[test]
fn a_client_leaves_a_backend_that_drains_and_its_connections_stay() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.write(&file(&[web(3).with("affinity = \"1h\"")]));
    let _netd = bed.start_ok();
    for to in at(WEB) {
        let (mut stream, first) = bed.connect(to).unwrap();
        let rest = (1..=3)
            .filter(|&number| number != usize::from(first))
            .fold(web(0), |service, number| service.backend(number));
        let draining = rest.backend_with(first.into(), "state = \"terminating\"");
        bed.write(&file(&[draining.with("affinity = \"1h\"")]));
        bed.wait_ok();
        echo(&mut stream, b"before").unwrap();
        let second = bed.connect(to).unwrap().1;
        assert_ne!(second, first, "{to}");
        assert!((0..10).all(|_| bed.connect(to).unwrap().1 == second), "{to}");
        echo(&mut stream, b"after").unwrap();
        bed.write(&file(&[web(3).with("affinity = \"1h\"")]));
        bed.wait_ok();
        echo(&mut stream, b"long after").unwrap();
    }
}

#[test]
fn random_choices_spread_and_flows_stay() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.write(&file(&[web(3).with("algorithm = \"random\"")]));
    let netd = bed.start_ok();
    for to in at(WEB) {
        // Chance gives each backend 30 of 90, give or take 4.5: three are six standard deviations away.
        let mut streams: Vec<_> = (0..90).map(|_| bed.connect(to).unwrap()).collect();
        let mut shares = [0; 4];
        streams.iter().for_each(|(_, number)| shares[usize::from(*number)] += 1);
        assert!(shares[1..].iter().all(|&share| share >= 3), "{shares:?}");
        for (stream, _) in &mut streams {
            echo(stream, &[0x33; 3000]).unwrap();
        }
    }
    for to in at(DNS) {
        let first = bed.ask_udp_from(30000, to);
        assert!(first.is_some() && (0..30).all(|_| bed.ask_udp_from(30000, to) == first), "{to}");
        // That chance leaves one out in sixty times happens once in ten thousand million runs.
        let many: BTreeSet<u8> = (30001..=30060).filter_map(|port| bed.ask_udp_from(port, to)).collect();
        assert_eq!(many.len(), 3, "{to}");
    }
    // An established flow outlasts the end of chance, and of the daemon.
    let (mut stream, _) = bed.connect(at(WEB)[0]).unwrap();
    netd.kill();
    bed.write(&file(&[web(3)]));
    let _netd = bed.start_ok();
    echo(&mut stream, b"still there").unwrap();
}

#[test]
fn weights_shift_shares() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let weighted = |algorithm: &str, heavy: &str| {
        let service = web(0).backend(1).backend_with(2, heavy).with(&format!("algorithm = \"{algorithm}\""));
        file(&[service])
    };
    bed.write(&weighted("maglev", "weight = 100"));
    let _netd = bed.start_ok();
    for algorithm in ["maglev", "random"] {
        // The client's ports are chance, so a share of 400 is one too: six standard deviations to either side.
        for (weight, expected) in
            [("weight = 100", 140..=260), ("weight = 300", 248..=352), ("weight = 0", 0..=0)]
        {
            bed.write(&weighted(algorithm, weight));
            bed.wait_ok();
            for to in at(WEB) {
                // Of UDP nobody knows which flows are new: they stay where they would have been before the change.
                let second = (0..400).filter(|_| bed.connect(to).unwrap().1 == 2).count();
                assert!(expected.contains(&second), "{algorithm}, {weight}, {to}: {second} of 400");
            }
        }
    }
}
