//! A tunnel that is encrypted: nothing of it goes in clear without its device, nor on the way into it, and the packets of
//! egress policies go in it.

use crate::nodes::{Nodes, PATIENCE, ping};
use netd_integration_tests::netd::wait_until;

const OVERLAY: &str = "mode = \"overlay\"\n\n[network]\nmode = \"vxlan\"";

/// Who has no route to pods, and the address that the gateway lends them.
const SERVER: [&str; 2] = ["192.168.33.13", "2001:db8:33::13"];
const EGRESS: [&str; 2] = ["192.168.33.100", "2001:db8:33::100"];

#[test]
fn without_the_tunnels_device_and_without_netd_nothing_goes_in_clear() {
    let Some(all) = Nodes::new(2) else { return };
    all.write(OVERLAY);
    let [one, two] = all.two();
    let (daemon, _other) = (one.node.site.start_ok(), two.node.site.start_ok());
    one.wait_for(&two.pods());
    daemon.kill();
    let heard = all.listen(None);
    // The nodes have default routes, by which it would go.
    one.node.machine.ip(&["link", "del", &one.node.tunnel().unwrap()]);
    for _ in 0..3 {
        assert!(two.pods().iter().all(|address| !one.reaches(address)));
    }
    assert_eq!(heard.end(), "");
    let _daemon = one.node.site.start_ok();
    one.wait_for(&two.pods());
}

#[test]
fn from_direct_ways_into_an_encrypted_tunnel_in_one_step_nothing_goes_in_clear() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    one.wait_for(&two.pods());
    let heard = all.listen(None);
    let (sent, back) = all.mesh.stream(0, 1, || {
        for settings in [OVERLAY, "", OVERLAY] {
            for of in [&one, &two] {
                of.node.site.write(&all.text(of, settings, &keys));
                of.node.site.wait_ok();
            }
            one.wait_for(&two.pods());
        }
    });
    println!("{} of {sent} packets were lost in three changes of mode and network", sent - back);
    assert_eq!(heard.end(), "");
}

#[test]
fn what_a_policy_sends_to_its_gateway_is_encrypted_with_the_tunnel() {
    let Some(all) = Nodes::new(2) else { return };
    let [one, two] = all.two();
    for (length, (server, own)) in
        [24, 64].iter().zip(SERVER.iter().zip(["192.168.33.11", "2001:db8:33::11"]))
    {
        let nodad: &[&str] = if own.contains(':') { &["nodad"] } else { &[] };
        let add = |address: &str| format!("{address}/{length}");
        all.mesh.wire.ip(&[&["addr", "add", &add(server), "dev", "br0"], nodad].concat());
        two.node.machine.ip(&[&["addr", "add", &add(own), "dev", "eth0"], nodad].concat());
    }
    let policy = format!(
        "\n[[egress]]\nname = \"legacy\"\nsources = [\"10.244.0.0/16\", \"fd00:244::/32\"]\n\
         destinations = [\"{}/32\", \"{}/128\"]\nips = [\"{}\", \"{}\"]\ngateways = [{{ node = \"{}\" }}]\n",
        SERVER[0],
        SERVER[1],
        EGRESS[0],
        EGRESS[1],
        two.node.site.node(),
    );
    all.write(&format!("{OVERLAY}\n{policy}"));
    let _daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    one.wait_for(&two.pods());
    let heard = all.listen(None);
    for server in SERVER {
        wait_until("answered", PATIENCE, || ping(&one.node.pod, server));
    }
    assert_eq!(heard.end(), "");
}
