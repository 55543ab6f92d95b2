//! VIPs answer pings themselves, or do not.

use crate::{assert_sound, client, is_from_vip, ping, web, with};
use netd_integration_tests::bed::{backend_v4, vips};
use netd_integration_tests::capture::Recording;
use netd_integration_tests::desired::{file, file_with};
use netd_integration_tests::{Bed, Lab};

const ECHOES: &str = "icmp or (icmp6 and (ip6[40] == 128 or ip6[40] == 129))";

#[test]
fn vips_answer_pings_of_every_size_and_backends_see_none() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[web(1)]));
    let netd = bed.start_ok();
    let [asked, behind] =
        [&bed.client, &bed.backends[0]].map(|at| Recording::start(&bed, at, "eth0", ECHOES));
    for bytes in ["0", "1", "56", "1452"] {
        for vip in vips(10) {
            let said = ping(&bed.client, vip, bytes);
            assert!(said.code == Some(0) && said.out.contains(" 0% packet loss"), "{said:?}");
            assert!(!said.out.contains("DUP") && !said.out.contains("wrong"), "{said:?}");
        }
    }
    netd.kill();
    for vip in vips(10) {
        assert_eq!(ping(&bed.client, vip, "56").code, Some(0), "without the daemon");
    }
    let asked = asked.end();
    assert_sound(&asked);
    let replies = with(&asked, &["echo reply"]);
    assert_eq!((asked.len(), replies.len()), (2 * 30, 30), "{asked:#?}");
    assert!(replies.iter().all(|reply| is_from_vip(reply)), "{replies:#?}");
    assert!(
        replies.iter().all(|reply| reply.contains("ttl 64") || reply.contains("hlim 64")),
        "{replies:#?}"
    );
    assert_eq!(behind.end(), Vec::<String>::new());
}

#[test]
fn a_vip_without_usable_backends_still_answers_pings() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[web(0).backend_with(1, "state = \"maintenance\"")]));
    let _netd = bed.start_ok();
    for vip in vips(10) {
        let said = ping(&bed.client, vip, "56");
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[test]
fn without_ping_a_vip_is_silent_also_where_unknown_ports_are_rejected() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[web(1).with("ping = false").with("unknown_port = \"reject\"")]));
    let _netd = bed.start_ok();
    let recording = Recording::start(&bed, &bed.client, "eth0", ECHOES);
    for vip in vips(10) {
        let said = ping(&bed.client, vip, "56");
        assert!(said.code == Some(1) && said.out.contains("100% packet loss"), "{said:?}");
    }
    let seen = recording.end();
    assert_eq!((seen.len(), with(&seen, &["echo request"]).len()), (6, 6), "{seen:#?}");
}

/// No whole request has come: the reassembled one would be the backend's to answer, who never gets it.
#[test]
fn a_ping_in_fragments_is_not_answered() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file(&[web(1)]));
    let _netd = bed.start_ok();
    for vip in vips(10) {
        let said = ping(&bed.client, vip, "4000");
        assert!(said.code == Some(1) && said.out.contains("100% packet loss"), "{said:?}");
    }
}

/// What is no VIP is the kernel's to answer.
#[test]
fn pings_of_other_addresses_go_their_way() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 1);
    bed.write(&file_with("devices = [\"eth0\"]\nicmp_errors_per_second = 0", &[web(1)]));
    let _netd = bed.start_ok();
    assert_eq!(ping(&bed.client, backend_v4(1).into(), "56").code, Some(0));
    // Limits are for errors: a ping is answered all the same.
    assert_eq!(ping(&bed.client, vips(10)[0], "56").code, Some(0));
    let own = client(vips(10)[0]);
    assert_eq!(ping(&bed.lb, own, "56").code, Some(0));
}
