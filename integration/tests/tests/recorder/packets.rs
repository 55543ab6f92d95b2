//! What tshark reads of packets that are not plain: tunnels of UDP, ICMP errors, tags, fragments, frames that were cut; and
//! of more than anybody takes.

use super::{DNS, Record, bed, captures, fields, wait_for};
use netd_integration_tests::bed::{CLIENT_V4, CLIENT_V6, backend_v4, backend_v6, device_to, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::frames::{Wire as _, datagram, fragments, frame, of_protocol};
use netd_integration_tests::{Bed, Lab};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

const PORT: u16 = 5000;

/// The client's end and the VIP's, of both families.
fn ends() -> [(SocketAddr, SocketAddr); 2] {
    let client = [CLIENT_V4, CLIENT_V6].map(|address| address.parse::<IpAddr>().unwrap());
    std::array::from_fn(|family| {
        (SocketAddr::new(client[family], PORT), SocketAddr::new(vips(10)[family], DNS))
    })
}

fn send(bed: &Bed, tags: &[u16], packets: &[Vec<u8>]) {
    let frames: Vec<Vec<u8>> =
        packets.iter().map(|packet| frame((&bed.client, "eth0"), (&bed.lb, "eth0"), tags, packet)).collect();
    bed.client.send_frames("eth0", &frames);
}

/// Ends a capture that has at least so many packets.
fn end_with(bed: &Bed, record: Record, packets: u64) {
    wait_for("recorded", || captures(bed).iter().any(|one| one["packets"].as_u64() >= Some(packets)));
    record.end();
}

/// The comment of the first packet that a display filter takes.
fn comment(file: &Path, filter: &str) -> String {
    let comments = fields(file, filter, &["frame.comment"]);
    comments.first().unwrap_or_else(|| panic!("nothing is {filter}")).clone()
}

#[test]
fn a_tunnel_of_gue_is_seen_around_the_clients_packet() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.write(&file(&[Service::new("web", 10).port("udp", DNS, DNS).backend(1).with("mode = \"dsr-gue\"")]));
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "gue.pcapng", &["any 0 any 53 UDP"]);
    for (from, to) in ends() {
        send(&bed, &[], &[datagram(from, to, b"who?")]);
    }
    let file = record.file.clone();
    end_with(&bed, record, 4);
    for (family, backend) in [("ip", backend_v4(1).to_string()), ("ipv6", backend_v6(1).to_string())] {
        let left = format!("{family} && frame.interface_id == 1 && udp.dstport == 6080");
        let seen = fields(&file, &left, &[&format!("{family}.dst"), "udp.payload"]);
        let [only] = &seen[..] else { panic!("{seen:?}") };
        let (to, payload) = only.split_once(' ').unwrap();
        assert!(to.starts_with(&backend) && payload.contains("77686f3f"), "{only}");
    }
}

#[test]
fn a_packet_that_is_too_big_is_seen_with_the_error_that_its_client_is_told() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    bed.lb.ip(&["link", "set", &device_to(1), "mtu", "1500"]);
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "big.pcapng", &["any 0 any 53 UDP"]);
    for ((from, to), headers) in ends().into_iter().zip([28, 48]) {
        send(&bed, &[], &[datagram(from, to, &vec![7; 1500 - headers])]);
    }
    let file = record.file.clone();
    end_with(&bed, record, 4);
    for (told, came) in [("icmp.type == 3 && icmp.code == 4", "ip"), ("icmpv6.type == 2", "ipv6")] {
        let told = format!("frame.interface_id == 1 && {told}");
        assert_eq!(comment(&file, &told), "service web, told that it is too big");
        let id = |filter: &str| fields(&file, filter, &["frame.packet_id"]);
        assert_eq!(id(&told), id(&format!("frame.interface_id == 0 && {came}")));
    }
}

/// The one's complement of the sum of 16-bit words (RFC 1071).
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}

/// What a router says of a packet that was too big for it.
fn too_big(from: IpAddr, about: &[u8], to: IpAddr) -> Vec<u8> {
    let (kind, mut message) = match to {
        IpAddr::V4(_) => (1, vec![3, 4, 0, 0, 0, 0, 0x05, 0x00]),
        IpAddr::V6(_) => (58, vec![2, 0, 0, 0, 0, 0, 0x05, 0x00]),
    };
    message.extend_from_slice(about);
    let sum = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            checksum(&[&from.octets(), &to.octets(), &length, &[0, 0, 0, 58], &message])
        }
        _ => checksum(&[&message]),
    };
    message[2..4].copy_from_slice(&sum);
    of_protocol(from, to, kind, &message)
}

#[test]
fn an_icmp_error_is_seen_as_it_came_and_as_it_went_on_to_the_backend() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let record = Record::start(
        &bed,
        "errors.pcapng",
        &["any 0 192.0.2.0/24 0 ICMP", "any 0 2001:db8:100::/64 0 ICMP"],
    );
    for (client, vip) in ends() {
        send(&bed, &[], &[too_big(client.ip(), &datagram(vip, client, &[7; 64]), vip.ip())]);
    }
    let file = record.file.clone();
    end_with(&bed, record, 4);
    for (error, family, backend) in [
        ("icmp.type == 3", "ip", backend_v4(1).to_string()),
        ("icmpv6.type == 2", "ipv6", backend_v6(1).to_string()),
    ] {
        let seen = fields(&file, error, &["frame.interface_name", &format!("{family}.dst")]);
        let [came, left] = &seen[..] else { panic!("{seen:?}") };
        assert!(came.starts_with("in ") && left.starts_with(&format!("out {backend},")), "{seen:?}");
        assert!(comment(&file, error).contains("ICMP error passed on"), "{}", comment(&file, error));
    }
}

#[test]
fn a_tag_is_seen_on_what_came_in() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "tagged.pcapng", &["any 0 any 53 UDP"]);
    for (from, to) in ends() {
        send(&bed, &[7], &[datagram(from, to, b"tagged")]);
    }
    let file = record.file.clone();
    end_with(&bed, record, 4);
    assert_eq!(fields(&file, "frame.interface_id == 0", &["vlan.id"]), ["7", "7"]);
    for family in ["ip", "ipv6"] {
        let ids = fields(&file, &format!("{family} && udp.dstport == 53"), &["frame.packet_id"]);
        assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
    }
}

#[test]
fn later_fragments_are_seen_with_their_first() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "fragments.pcapng", &["any 0 any 53 UDP"]);
    for (from, to) in ends() {
        send(&bed, &[], &fragments(&datagram(from, to, &[7; 3000]), 1400, 77));
    }
    let file = record.file.clone();
    end_with(&bed, record, 12);
    for (family, field) in [("ip", "ip.frag_offset"), ("ipv6", "ipv6.fraghdr.offset")] {
        for interface in [0, 1] {
            let filter = format!("{family} && frame.interface_id == {interface}");
            let offsets = fields(&file, &filter, &[field]);
            let last = |offsets: &String| offsets.rsplit(',').next().unwrap().parse::<u32>().unwrap();
            let offsets: Vec<u32> = offsets.iter().map(last).collect();
            // Some versions count octets, others eights of them.
            assert!(
                offsets == [0, 1400, 2800] || offsets == [0, 175, 350],
                "{family} {interface}: {offsets:?}"
            );
        }
    }
}

#[test]
fn frames_that_are_cut_say_how_long_they_were() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "cut.pcapng", &["any 0 any 53 UDP", "--snaplen", "70"]);
    for (from, to) in ends() {
        send(&bed, &[], &[datagram(from, to, &[7; 500])]);
    }
    let file = record.file.clone();
    end_with(&bed, record, 4);
    let lengths = |family: &str| fields(&file, family, &["frame.cap_len", "frame.len"]);
    assert_eq!(lengths("ip"), ["70 542", "70 562"]);
    assert_eq!(lengths("ipv6"), ["70 562", "70 602"]);
}

#[test]
fn what_changes_behind_a_service_is_named_from_its_first_packet_on() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let of = |backend| file(&[Service::new("web", 10).port("udp", DNS, DNS).backend(backend)]);
    bed.write(&of(1));
    let _netd = bed.start_ok();
    let record = Record::start(&bed, "changes.pcapng", &["any 0 192.0.2.10/32 53 UDP"]);
    let (from, to) = ends()[0];
    for backend in [1, 2, 1, 2] {
        bed.write(&of(backend));
        wait_for("in force", || bed.netd(&["plan"]).code == Some(0));
        send(&bed, &[], &vec![datagram(from, to, b"who?"); 5]);
    }
    let file = record.file.clone();
    end_with(&bed, record, 40);
    let left = fields(&file, "frame.interface_id == 1", &["ip.dst", "frame.comment"]);
    for line in &left {
        let (to, comment) = line.split_once(' ').unwrap();
        let (backend, _) = to.split_once(',').unwrap();
        assert_eq!(comment, format!("service web, backend {backend}"));
    }
    assert_eq!((left.len(), left.iter().filter(|line| line.starts_with("10.0.0.2,")).count()), (20, 10));
}

/// More bytes than wait for a client, in the daemon and in the pipe.
const FLOOD: usize = 30_000;

#[test]
fn x15_what_a_client_takes_and_what_is_lost_are_all_that_was_seen() {
    let Some(lab) = Lab::new() else { return };
    let (bed, _servers) = bed(&lab);
    let _netd = bed.start_ok();
    let mut record = bed
        .netd_under(&[], &["record", "--output", "-", "any 0 any 53 UDP"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("recording", || !captures(&bed).is_empty());
    let (_, to) = ends()[0];
    let socket = bed.client_udp(PORT, to);
    for _ in 0..FLOOD {
        // What the device has no room for is not sent.
        let _ = socket.send(&[7; 1400]);
    }
    let lost = || captures(&bed)[0]["lost_packets"].as_u64().unwrap();
    wait_for("more than anybody takes", || {
        let _ = socket.send(&[7; 1400]);
        lost() > 0
    });
    let seen = || {
        let services = bed.netd(&["services", "--json"]).json();
        services[0]["packets"].as_u64().unwrap()
    };
    rustix::process::kill_process(rustix::process::Pid::from_child(&record), rustix::process::Signal::INT)
        .unwrap();
    let mut bytes = Vec::new();
    record.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(record.wait().unwrap().success());
    let file = bed.folder().join("flood.pcapng");
    std::fs::write(&file, bytes).unwrap();
    let ended = captures(&bed).remove(0);
    let count = |name: &str| ended[name].as_u64().unwrap();
    assert_eq!(count("packets") + count("lost_packets"), 2 * seen(), "{ended}");
    assert_eq!(fields(&file, "frame", &["frame.number"]).len() as u64, count("packets"));
}
