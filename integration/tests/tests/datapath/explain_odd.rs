//! `netd explain` of what is no ordinary packet of a flow: pings, packets that are too long, fragments, ICMP errors.

use crate::explain::{backend, explain, packet};
use crate::{DNS, WEB, at, client, web};
use netd_integration_tests::bed::vips;
use netd_integration_tests::desired::file;
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

#[test]
fn it_says_what_becomes_of_pings_sizes_fragments_and_errors() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write(&file(&[web(3)]));
    bed.apply();
    for (to, least) in at(WEB).into_iter().zip([20, 40]) {
        let (client, vip) = (client(to.ip()), to.ip());
        let how = |answer: &Value, what: &str| {
            let steps = answer["steps"].as_array().unwrap().iter();
            steps
                .filter(|step| step["what"] == what)
                .map(|step| step["how"].as_str().unwrap().to_owned())
                .collect::<String>()
        };
        let ping = explain(&bed, &[], &format!("icmp {client} > {vip}"));
        assert_eq!((&ping["verdict"], &ping["backend"]), (&"answer".into(), &Value::Null), "{ping:#}");
        assert_eq!(how(&ping, "counted"), "as echo_replies");

        let flow = packet("udp", 21000, SocketAddr::new(vip, DNS));
        let fits = 1600 - least;
        let whole = explain(&bed, &[], &format!("{flow} length {fits}"));
        assert_eq!(whole["verdict"], "forward", "{whole:#}");
        assert_eq!(how(&whole, "size"), format!("{fits} bytes, 1600 in the tunnel; the way takes 1600"));
        let long = explain(&bed, &[], &format!("{flow} length {}", fits + 1));
        assert_eq!(long["verdict"], "reject", "{long:#}");
        let reason = long["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("packets may be {fits} bytes long")), "{reason}");
        if vip.is_ipv4() {
            let silent = explain(&bed, &[], &format!("{flow} length 1600 no-df"));
            assert_eq!(
                (&silent["verdict"], &silent["backend"]),
                (&"drop".into(), &Value::Null),
                "{silent:#}"
            );
        }

        let later = format!("{flow} later-fragment id 77");
        for _ in 0..2 {
            let lost = explain(&bed, &[], &later);
            assert_eq!(lost["verdict"], "drop", "{lost:#}");
            assert!(
                lost["reason"].as_str().unwrap().contains("the first fragment of its packet was not seen")
            );
            // It would have made a record; one that is only asked about does not.
            let first = explain(&bed, &[], &format!("{flow} first-fragment id 77 length 1200"));
            assert_eq!(
                (&first["verdict"], backend(&first)),
                (&"forward".into(), backend(&whole)),
                "{first:#}"
            );
        }
        let router = vips(250)[usize::from(vip.is_ipv6())];
        let error = format!("icmp {router} > {vip} too-big udp {vip}:{DNS} > {client}:21000");
        let error = match vip {
            IpAddr::V4(_) => error,
            IpAddr::V6(_) => format!("icmp {router} > {vip} too-big udp [{vip}]:{DNS} > [{client}]:21000"),
        };
        let relayed = explain(&bed, &[], &error);
        assert_eq!(
            (&relayed["verdict"], backend(&relayed)),
            (&"forward".into(), backend(&whole)),
            "{relayed:#}"
        );
        assert_eq!(how(&relayed, "counted"), "as icmp_relayed");
    }
}
