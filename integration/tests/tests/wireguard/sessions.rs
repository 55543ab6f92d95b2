//! What sessions live through.

use crate::nodes::{ADDRESSES, Nodes};

/// A session is renewed after so many seconds of WireGuard's own accord.
const REKEY_SECONDS: u64 = 120;

#[test]
fn w3_a_node_that_is_sent_to_at_another_address_keeps_its_session() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    for of in [&one, &two] {
        of.node.site.apply();
    }
    one.wait_for(&two.pods());
    let before = one.last_handshake(one.interface());
    let heard = all.listen(None);
    let key = keys[1].as_deref().unwrap();
    for address in [ADDRESSES[1][1], ADDRESSES[1][0]] {
        let endpoint = std::net::SocketAddr::new(address.parse().unwrap(), 51_871);
        let known = format!("{key}\", endpoint = \"{endpoint}");
        one.node.site.write(&all.text(&one, "", &[keys[0].clone(), Some(known)]));
        // Nothing is on its way: an answer from the old address would tell the device that one again.
        one.node.site.apply();
        let endpoints = one.wg(&["show", one.interface(), "endpoints"]);
        assert!(endpoints.contains(&endpoint.to_string()), "{endpoints}");
        one.wait_for(&two.pods());
    }
    let after = one.last_handshake(one.interface());
    assert!(before > 0);
    assert!(after == before || after >= before + REKEY_SECONDS, "handshakes at {before} and at {after}");
    assert_eq!(heard.end(), "");
}
