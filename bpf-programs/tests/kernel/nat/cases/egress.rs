//! Egress policies: what is steered to the gateway, and what leaves it with the egress address.

use std::net::IpAddr;

use netd_bpf::nat::{EgressRule, EgressRules, Ports, Rules};

use super::super::bed::{
    EGRESS, EXCLUDED, NODE, OTHER_OF_NODE, OTHER_POD, OTHER_REMOTE, POD, REMOTE, ROUTER, rules,
};
use super::super::talk::{Becomes, Case, Drops, PORT, Passes, SERVER, Steers, Talk, case};
use crate::cases::layers::{ACK, Layers, RST, SYN};
use crate::decap::bed::prefixes;

/// The range of the egress address; the pod's port is not in it.
const PORTS: Ports = Ports { first: 40_000, last: 40_999 };
const ID: u32 = 0x4321;
/// The device by which pods' packets come in.
const POD_DEVICE: u32 = 7;

pub fn cases() -> Vec<Case> {
    let mut all = of_gateway();
    all.extend(of_others());
    all.extend(records());
    all.extend(chosen());
    all
}

fn network(text: &str) -> (IpAddr, u8) {
    *prefixes(&[text]).first().unwrap()
}

fn translate(t: &Talk<'_>) -> EgressRule {
    EgressRule::Translate { address: t.address(&EGRESS).parse().unwrap(), ports: PORTS }
}

/// Rules of one class, for packets of the pods.
fn set(t: &mut Talk<'_>, rules: &[(&str, EgressRule)]) {
    let pods = if t.is_v4() { "10.244.1.0/24" } else { "fd00:244:1::/64" };
    let rules = rules.iter().map(|(to, rule)| ((9, network(to)), *rule)).collect();
    t.bed.set_egress(EgressRules { sources: [(network(pods), 9)].into(), rules });
    t.bed.came_in_by = POD_DEVICE;
}

fn everywhere(t: &Talk<'_>) -> &'static str {
    if t.is_v4() { "0.0.0.0/0" } else { "::/0" }
}

fn set_everywhere(t: &mut Talk<'_>, rule: EgressRule) {
    let everywhere = everywhere(t);
    set(t, &[(everywhere, rule)]);
}

/// The packet as it leaves with the egress address, at some port of its range.
fn leaves(t: &mut Talk<'_>, packet: &Layers) -> Layers {
    let port = t.leaves_as(packet, &EGRESS);
    assert!((PORTS.first..=PORTS.last).contains(&port), "{port}");
    packet.clone().from(t.address(&EGRESS)).with_source_port(port)
}

/// An answer to what left from this port.
fn answer(t: &Talk<'_>) -> Layers {
    t.remote().to(t.address(&EGRESS))
}

fn port_of(t: &mut Talk<'_>, packet: &Layers) -> u16 {
    t.leaves_as(packet, &EGRESS)
}

fn of_gateway() -> Vec<Case> {
    vec![
        case("a connection leaves the gateway with the egress address and its answers come back", |t| {
            set_everywhere(t, translate(t));
            let syn = t.pod().tcp(PORT, SERVER).syn();
            let port = port_of(t, &syn);
            let back = answer(t).tcp(SERVER, port).with(SYN | ACK);
            t.comes(&back, Becomes(&t.inner(&back).port(PORT)));
            assert_eq!(port_of(t, &t.pod().tcp(PORT, SERVER).with(ACK).data(b"GET /")), port);
            assert_eq!((t.counted("created"), t.counted("out_packets"), t.counted("in_packets")), (1, 2, 1));
        }),
        case("datagrams and pings leave the gateway with the egress address", |t| {
            set_everywhere(t, translate(t));
            for packet in [t.pod().udp(PORT, 53).data(b"who"), t.pod().ping(u32::from(PORT) << 16, b"data")] {
                leaves(t, &packet);
            }
            let port = port_of(t, &t.pod().udp(PORT, 53));
            let back = answer(t).udp(53, port).data(b"I");
            t.comes(&back, Becomes(&t.inner(&back).port(PORT)));
            let id = port_of(t, &t.pod().ping(u32::from(PORT) << 16, b""));
            let pong = answer(t).pong(u32::from(id) << 16, b"");
            t.comes(&pong, Becomes(&t.inner(&t.remote().pong(u32::from(PORT) << 16, b""))));
        }),
        case("pods that are masqueraded by nobody leave with the egress address, too", |t| {
            t.bed.restart(Rules { sources: prefixes(&["192.0.2.128/25"]), ..rules() });
            set_everywhere(t, translate(t));
            let packet = t.pod().udp(PORT, 80);
            leaves(t, &packet);
        }),
        case("what is not masqueraded, because it is excluded, leaves with the egress address", |t| {
            set_everywhere(t, translate(t));
            let packet = t.pod().to(t.address(&EXCLUDED)).udp(PORT, 80);
            let port = t.leaves_as(&packet, &EGRESS);
            assert!((PORTS.first..=PORTS.last).contains(&port), "{port}");
        }),
        case("fragments leave the gateway with the egress address", |t| {
            set_everywhere(t, translate(t));
            let large = t.pod().udp(PORT, 80).data(&[7; 100]);
            let outer = leaves(t, &large);
            t.leaves(&large.clone().first(48, ID), Becomes(&outer.clone().first(48, ID)));
            t.leaves(&large.clone().later(48, ID), Becomes(&outer.later(48, ID)));
            t.leaves(&large.later(48, ID + 1), Drops("fragment_lost"));
        }),
        case("a router's error about what left the gateway reaches the pod", |t| {
            set_everywhere(t, translate(t));
            let packet = t.pod().udp(PORT, 33_434).data(b"trace");
            let outer = leaves(t, &packet);
            let error = t.from(&ROUTER).to(t.address(&EGRESS)).error_about(&outer, 1000);
            t.comes(&error, Becomes(&t.from(&ROUTER).to(t.address(&POD)).error_about(&packet, 1000)));
        }),
        case("a pod's error about what came by the egress address leaves with it", |t| {
            set_everywhere(t, translate(t));
            let port = port_of(t, &t.pod().udp(PORT, 33_434));
            let late = answer(t).udp(33_434, port).data(b"late");
            let inner = t.inner(&late).port(PORT);
            t.comes(&late, Becomes(&inner));
            let error = t.pod().error_about(&inner, 1000);
            let outer = t.from(&EGRESS).to(t.address(&REMOTE)).error_about(&late, 1000);
            t.leaves(&error, Becomes(&outer));
            // The gateway's own.
            t.bed.came_in_by = 0;
            let error = t.from(&OTHER_OF_NODE).error_about(&inner, 1000);
            t.leaves(&error, Becomes(&t.from(&OTHER_OF_NODE).error_about(&late, 1000)));
        }),
        case("nothing that has no ports leaves with the egress address", |t| {
            set_everywhere(t, translate(t));
            t.leaves(&t.pod().raw(132, &[0; 20]), Drops("unsupported"));
            t.leaves(&t.pod().tcp(PORT, SERVER).with(RST), Drops("no_mapping"));
        }),
        case("the gateway takes back a port of the egress address that it uses itself", |t| {
            set_everywhere(t, translate(t));
            let port = port_of(t, &t.pod().udp(PORT, 80));
            t.leaves(&t.from(&EGRESS).udp(port, 80), Passes);
            assert_eq!(t.counted("yielded"), 0);
            t.bed.came_in_by = 0;
            t.leaves(&t.from(&EGRESS).udp(port, 80), Passes);
            assert_eq!(t.counted("yielded"), 1);
        }),
        case("a new range of the egress address moves no flow, and another address begins flows anew", |t| {
            set_everywhere(t, translate(t));
            let packet = t.pod().udp(PORT, 80);
            let port = port_of(t, &packet);
            let address = t.address(&EGRESS).parse().unwrap();
            set_everywhere(
                t,
                EgressRule::Translate { address, ports: Ports { first: 50_000, last: 50_001 } },
            );
            assert_eq!(port_of(t, &packet), port);
            let address = t.address(&OTHER_OF_NODE).parse().unwrap();
            set_everywhere(t, EgressRule::Translate { address, ports: PORTS });
            t.leaves_as(&packet, &OTHER_OF_NODE);
            assert_eq!(t.counted("created"), 2);
            // As long as the node has the address, its answers are not for the host.
            let back = answer(t).udp(80, port);
            t.comes(&back, Becomes(&t.inner(&back).port(PORT)));
            t.bed.set_rules(rules());
            t.comes(&back, Becomes(&t.inner(&back).port(PORT)));
            t.bed.forget_addresses();
            t.comes(&back, Passes);
        }),
        case("a flow that changes its address and comes back has its port again", |t| {
            set_everywhere(t, translate(t));
            let packet = t.pod().udp(PORT, 80);
            let port = port_of(t, &packet);
            set(t, &[]);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            set_everywhere(t, translate(t));
            assert_eq!(port_of(t, &packet), port);
        }),
    ]
}

fn of_others() -> Vec<Case> {
    vec![
        case("what another node's gateway is for is steered there as it is", |t| {
            let address = t.address(&OTHER_REMOTE).parse().unwrap();
            let v6: IpAddr = "2001:db8:1::9".parse().unwrap();
            let v4: IpAddr = "192.0.2.9".parse().unwrap();
            let large = t.pod().udp(PORT, 80).data(&[7; 100]);
            for rule in [
                EgressRule::NextHop { address, ifindex: 3 },
                EgressRule::Tunnel { remote: v4, vni: 1, ifindex: 4 },
                EgressRule::Tunnel { remote: v6, vni: 0xff_ffff, ifindex: 4 },
            ] {
                set_everywhere(t, rule);
                for packet in [
                    t.pod().tcp(PORT, SERVER).syn(),
                    t.pod().ping(0, b""),
                    t.pod().pong(0, b""),
                    t.pod().raw(132, &[0; 20]),
                    large.clone().first(48, ID),
                    large.clone().later(48, ID),
                ] {
                    t.leaves(&packet, Steers);
                }
            }
            assert_eq!((t.counted("steered"), t.counted("created")), (18, 0));
        }),
        case("what came by the tunnel is not steered back into it", |t| {
            let remote = "192.0.2.9".parse().unwrap();
            set_everywhere(t, EgressRule::Tunnel { remote, vni: 1, ifindex: POD_DEVICE });
            t.leaves(&t.pod().udp(PORT, 80), Drops("looped"));
            set_everywhere(t, EgressRule::Tunnel { remote, vni: 1, ifindex: POD_DEVICE + 1 });
            t.leaves(&t.pod().udp(PORT, 80), Steers);
        }),
        case("without a gateway nothing leaves", |t| {
            set_everywhere(t, EgressRule::Drop);
            for packet in [t.pod().tcp(PORT, SERVER).syn(), t.pod().ping(0, b""), t.pod().raw(132, &[0; 20])]
            {
                t.leaves(&packet, Drops("no_gateway"));
            }
        }),
        case("the host's own packets are never taken", |t| {
            set_everywhere(t, EgressRule::Drop);
            t.bed.came_in_by = 0;
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
        }),
        case("what passes is masqueraded as without policies", |t| {
            set_everywhere(t, EgressRule::Pass);
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            t.leaves(&t.from(&ROUTER).udp(PORT, 80), Passes);
        }),
        case("a packet that was translated takes nothing back on another device", |t| {
            let packet = t.pod().udp(PORT, 80);
            t.bed.came_in_by = POD_DEVICE;
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            t.leaves(&t.outer(&packet), Passes);
            assert_eq!(t.counted("yielded"), 0);
            let back = t.remote().udp(80, PORT);
            t.comes(&back, Becomes(&t.inner(&back)));
        }),
        case("an answer that was turned around on another device makes no record", |t| {
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            t.comes(&t.inner(&t.remote().udp(80, PORT)), Passes);
            assert_eq!(t.counted("direct"), 0);
            t.comes(&t.inner(&t.remote().udp(81, PORT)), Passes);
            assert_eq!(t.counted("direct"), 1);
        }),
    ]
}

/// What comes for a pod whose packets a policy has.
fn records() -> Vec<Case> {
    vec![
        case("an answer that another node's gateway has turned around makes no record", |t| {
            let v4: IpAddr = "192.0.2.9".parse().unwrap();
            let question = t.pod().tcp(PORT, SERVER).with(ACK);
            for rule in [
                EgressRule::NextHop { address: t.address(&OTHER_REMOTE).parse().unwrap(), ifindex: 3 },
                EgressRule::Tunnel { remote: v4, vni: 1, ifindex: 4 },
                EgressRule::Drop,
            ] {
                set_everywhere(t, rule);
                t.comes(&t.inner(&t.remote().tcp(SERVER, PORT).with(ACK)), Passes);
                // The policy's gateway is here now.
                set_everywhere(t, translate(t));
                leaves(t, &question);
                t.bed.age(8000);
            }
            assert_eq!(t.counted("direct"), 0);
        }),
        case("an answer that was turned around here to an egress address makes no record", |t| {
            set_everywhere(t, translate(t));
            port_of(t, &t.pod().udp(PORT, 80));
            t.comes(&t.inner(&t.remote().udp(80, PORT)), Passes);
            assert_eq!(t.counted("direct"), 0);
        }),
        case("an answer to a flow from before the policy makes no record", |t| {
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            set_everywhere(t, translate(t));
            t.comes(&t.inner(&t.remote().udp(80, PORT)), Passes);
            assert_eq!(t.counted("direct"), 0);
        }),
        case("the gateway passes what is answered from the pod's own address", |t| {
            set_everywhere(t, translate(t));
            t.comes(&t.inner(&t.remote().tcp(SERVER, PORT).syn()), Passes);
            t.leaves(&t.pod().tcp(PORT, SERVER).with(SYN | ACK), Passes);
            t.leaves(&t.pod().tcp(PORT, SERVER).with(ACK), Passes);
            assert_eq!((t.counted("direct"), t.counted("created")), (1, 0));
        }),
    ]
}

fn chosen() -> Vec<Case> {
    vec![
        case("the longest prefix of the destination decides", |t| {
            let everywhere = everywhere(t);
            let (near, own) = if t.is_v4() {
                ("198.51.100.0/24", "198.51.100.8/32")
            } else {
                ("2001:db8:9::/64", "2001:db8:9::8/128")
            };
            let rule = translate(t);
            set(t, &[(everywhere, EgressRule::Drop), (near, rule), (own, EgressRule::Pass)]);
            t.leaves_as(&t.pod().udp(PORT, 80), &EGRESS);
            let other = t.pod().to(t.address(&OTHER_REMOTE)).udp(PORT, 80);
            t.leaves(&other, Becomes(&t.outer(&other)));
            t.leaves(&t.pod().to(t.address(&ROUTER)).udp(PORT, 80), Drops("no_gateway"));
        }),
        case("the longest prefix of the source decides by what a packet goes", |t| {
            let everywhere = network(everywhere(t));
            let (pods, one) = if t.is_v4() {
                ("10.244.0.0/16", "10.244.1.6/32")
            } else {
                ("fd00:244::/32", "fd00:244:1::6/128")
            };
            let rule = translate(t);
            t.bed.set_egress(EgressRules {
                sources: [(network(pods), 1), (network(one), 2)].into(),
                rules: [((1, everywhere), EgressRule::Drop), ((2, everywhere), rule)].into(),
            });
            t.bed.came_in_by = POD_DEVICE;
            t.leaves(&t.pod().udp(PORT, 80), Drops("no_gateway"));
            t.leaves_as(&t.from(&OTHER_POD).udp(PORT, 80), &EGRESS);
        }),
        case("a class without a rule for the destination leaves it to masquerading", |t| {
            set(t, &[]);
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
        }),
        case("prefixes of one family say nothing about the other", |t| {
            let (pods, everywhere) = if t.is_v4() { ("::/0", "::/0") } else { ("0.0.0.0/0", "0.0.0.0/0") };
            let sources = [(network(pods), 1)].into();
            let rules = [((1, network(everywhere)), EgressRule::Drop)].into();
            t.bed.set_egress(EgressRules { sources, rules });
            t.bed.came_in_by = POD_DEVICE;
            let packet = t.pod().udp(PORT, 80);
            t.leaves(&packet, Becomes(&t.outer(&packet)));
            t.bed.came_in_by = 0;
            t.leaves(&t.from(&NODE).udp(1, 80), Passes);
        }),
    ]
}
