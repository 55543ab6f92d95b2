//! Which clients are let in.

use crate::{DNS, WEB, at, servers, web};
use netd_integration_tests::desired::file;
use netd_integration_tests::echo::Servers;
use netd_integration_tests::{Bed, Lab};
use std::net::SocketAddr;

/// The client's addresses, of both families, by their last digit.
const CLIENTS: [u8; 3] = [3, 4, 65];

fn bed(lab: &Lab) -> (Bed, Servers) {
    let bed = Bed::new(lab, 2);
    for last in &CLIENTS[1..] {
        bed.client.ip(&["addr", "add", &format!("10.1.2.{last}/24"), "dev", "eth0"]);
    }
    for last in &CLIENTS {
        bed.client.ip(&["addr", "add", &format!("2001:db8::{last}/64"), "dev", "eth0", "nodad"]);
    }
    let servers = servers(&bed);
    (bed, servers)
}

/// Those who get in, by their last digits, and the same for both families.
fn let_in(bed: &Bed) -> Vec<u8> {
    let [v4, v6] = at(WEB).map(|to| {
        let gets_in = |last: &u8| {
            let from =
                if to.is_ipv4() { format!("10.1.2.{last}:0") } else { format!("[2001:db8::{last}]:0") };
            bed.connect_between(from.parse::<SocketAddr>().unwrap(), to).is_ok()
        };
        CLIENTS.into_iter().filter(gets_in).collect::<Vec<u8>>()
    });
    assert_eq!(v4, v6);
    v4
}

#[test]
fn the_longest_prefix_decides_who_is_let_in() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.write(&file(&[web(2)]));
    let _netd = bed.start_ok();
    assert_eq!(let_in(&bed), CLIENTS);
    for (ranges, expected) in [
        ("deny = [\"10.1.2.4\", \"2001:db8::4\"]", &[3, 65][..]),
        ("allow = [\"10.1.2.4/32\", \"2001:db8::4/128\"]", &[4]),
        ("allow = [\"10.0.0.0/8\", \"2001::/16\"], deny = [\"10.1.2.0/26\", \"2001:db8::/122\"]", &[65]),
        ("allow = [\"10.1.2.3/32\", \"2001:db8::3/128\"], deny = [\"10.1.2.0/24\", \"2001:db8::/64\"]", &[3]),
    ] {
        let ranges = ranges.replace(".4\"", ".4/32\"").replace("::4\"", "::4/128\"");
        bed.write(&file(&[web(2).with(&format!("source_ranges = {{ {ranges} }}"))]));
        bed.wait_ok();
        assert_eq!(let_in(&bed), expected, "{ranges}");
    }
    bed.write(&file(&[web(2)]));
    bed.wait_ok();
    assert_eq!(let_in(&bed), CLIENTS);
}

#[test]
fn who_is_not_let_in_hears_nothing_and_loses_what_was_established() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.write(&file(&[web(2)]));
    let _netd = bed.start_ok();
    let from: SocketAddr = "10.1.2.4:0".parse().unwrap();
    let (mut denied, _) = bed.connect_between(from, at(WEB)[0]).unwrap();
    let (mut allowed, _) = bed.connect(at(WEB)[0]).unwrap();
    bed.write(&file(&[web(2).with("source_ranges = { deny = [\"10.1.2.4/32\"] }")]));
    bed.wait_ok();
    assert!(netd_integration_tests::echo::echo(&mut denied, b"still there?").is_err());
    netd_integration_tests::echo::echo(&mut allowed, b"still there?").unwrap();
    let recording = netd_integration_tests::capture::Recording::start(
        &bed,
        &bed.client,
        "eth0",
        "dst host 10.1.2.4 and not arp",
    );
    assert!(bed.connect_between(from, at(WEB)[0]).is_err());
    assert_eq!(recording.end(), Vec::<String>::new());
    assert!(bed.ask_udp(at(DNS)[0]).is_some());
}
