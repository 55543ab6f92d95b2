//! Flows while backends change: windows, records, affinity, chance.

use super::hall::{
    ANYWHERE, ANYWHERE_CLOSED, BEYOND, CHANCE, CHANCE_PATHLESS, CLOSED, DRAINED, DRAINING, EMPTIED, EMPTY,
    FAILED, LEAVING, NEW, OLD, OPEN, REFUSING, STICKY, STICKY_DRAINING, STICKY_OPEN,
};
use super::layers::{ACK, FAMILIES, FIN, Family, RST, SYN, ip};
use super::{Case, case};
use crate::reference::Count::{KeptFlows, NoBackend, NoNextHop};

/// The record of the client's own flow, and that of the client.
const FLOW: u16 = 12345;
const CLIENT: u16 = 0;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in FAMILIES {
        windows(family, &mut cases);
        records(family, &mut cases);
        anywhere(family, &mut cases);
        affinity(family, &mut cases);
        sticky_drains(family, &mut cases);
        sticky_windows(family, &mut cases);
        chance(family, &mut cases);
        nothing_to_choose(family, &mut cases);
    }
    cases
}

fn windows(family: Family, cases: &mut Vec<Case>) {
    let tcp = |port, flags| ip(family).tcp(12345, port).with(flags);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(
        over("in the window an unknown flow stays, and is recorded", tcp(OPEN, ACK))
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(
        over("in the window a SYN goes where the ring says, and is recorded", tcp(OPEN, SYN))
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("in the window a SYN with ACK is no new flow", tcp(OPEN, SYN | ACK))
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(over("in the window a RST stays and is not recorded", tcp(OPEN, RST)).sent_to(OLD));
    cases.push(over("in the window a RST with ACK is not recorded", tcp(OPEN, RST | ACK)).sent_to(OLD));
    cases.push(over("in the window a SYN with RST is not recorded", tcp(OPEN, SYN | RST)).sent_to(NEW));
    cases.push(over("in the window a packet without flags is not recorded", tcp(OPEN, 0)).sent_to(OLD));
    cases.push(over("in the window a FIN alone is not recorded", tcp(OPEN, FIN)).sent_to(OLD));
    cases.push(
        over("in the window a FIN with ACK is recorded", tcp(OPEN, FIN | ACK)).sent_to(OLD).counts(KeptFlows),
    );
    cases.push(
        over("in the window UDP stays, and is recorded", ip(family).udp(12345, OPEN).data(&[2; 20]))
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(
        over("the second packet is not recorded again", tcp(OPEN, ACK)).after(tcp(OPEN, ACK)).sent_to(OLD),
    );
    cases.push(over("what follows a SYN follows it", tcp(OPEN, ACK)).after(tcp(OPEN, SYN)).sent_to(NEW));
    cases.push(
        over("another port is another flow", ip(family).tcp(12346, OPEN))
            .after(tcp(OPEN, SYN))
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(
        over("after the window an unknown flow goes where the ring says", tcp(CLOSED, ACK)).sent_to(NEW),
    );
    cases.push(over("after the window a SYN needs no record", tcp(CLOSED, SYN)).sent_to(NEW));
    cases.push(
        over("in the window a draining backend keeps an unknown flow", tcp(DRAINING, ACK))
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(
        over("in the window a SYN leaves a draining backend", tcp(DRAINING, SYN))
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("in the window a failed backend keeps nothing", tcp(FAILED, ACK)).sent_to(NEW).counts(KeptFlows),
    );
    cases.push(
        over("with no ring left a draining backend keeps its flows", tcp(EMPTIED, ACK))
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(over("with no ring left a SYN has nowhere to go", tcp(EMPTIED, SYN)).dropped(NoBackend));
}

fn records(family: Family, cases: &mut Vec<Case>) {
    let tcp = |port, flags| ip(family).tcp(12345, port).with(flags);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(
        over("a record is followed after the window", tcp(CLOSED, ACK)).recorded(FLOW, OLD, 5).sent_to(OLD),
    );
    cases.push(over("a RST follows the record", tcp(CLOSED, RST)).recorded(FLOW, OLD, 5).sent_to(OLD));
    cases.push(
        over("a SYN follows the record of an active backend", tcp(CLOSED, SYN))
            .recorded(FLOW, OLD, 5)
            .sent_to(OLD),
    );
    cases.push(over("a record may name a third backend", tcp(OPEN, ACK)).recorded(FLOW, 0, 5).sent_to(0));
    cases.push(
        over("a draining backend keeps a recorded flow", tcp(DRAINED, ACK))
            .recorded(FLOW, OLD, 5)
            .sent_to(OLD),
    );
    cases.push(
        over("a SYN leaves the recorded backend that drains, and is recorded", tcp(DRAINED, SYN))
            .recorded(FLOW, OLD, 5)
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("what follows such a SYN follows it, also after the window", tcp(DRAINED, ACK))
            .recorded(FLOW, OLD, 5)
            .after(tcp(DRAINED, SYN))
            .sent_to(NEW),
    );
    cases.push(
        over("a record of a failed backend is replaced", tcp(FAILED, ACK))
            .recorded(FLOW, OLD, 5)
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(over("a RST replaces no record", tcp(FAILED, RST)).recorded(FLOW, OLD, 5).sent_to(NEW));
    cases.push(
        over("a record of the client is none of the flow", tcp(CLOSED, ACK))
            .recorded(CLIENT, OLD, 5)
            .sent_to(NEW),
    );
}

/// Where the size of the ring has changed, flows of slots that have not changed may have records as well.
fn anywhere(family: Family, cases: &mut Vec<Case>) {
    let tcp = |port, flags| ip(family).tcp(12345, port).with(flags);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(
        over("a record is followed in a slot that has not changed", tcp(ANYWHERE, ACK))
            .recorded(FLOW, OLD, 5)
            .sent_to(OLD),
    );
    let unknown = "in such a slot an unknown flow goes where both rings say, without a record";
    cases.push(over(unknown, tcp(ANYWHERE, ACK)).sent_to(NEW));
    cases.push(over("a SYN there needs no record", tcp(ANYWHERE, SYN)).sent_to(NEW));
    cases.push(
        over("a SYN there leaves the recorded backend that drains, and is recorded", tcp(ANYWHERE, SYN))
            .recorded(FLOW, LEAVING, 5)
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("with records anywhere a record is followed after the window", tcp(ANYWHERE_CLOSED, ACK))
            .recorded(FLOW, OLD, 5)
            .sent_to(OLD),
    );
    let after = "with records anywhere an unknown flow is the current ring's after the window";
    cases.push(over(after, tcp(ANYWHERE_CLOSED, ACK)).sent_to(NEW));
}

fn affinity(family: Family, cases: &mut Vec<Case>) {
    let tcp = |flags| ip(family).tcp(12345, STICKY).with(flags);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(over("a new client is recorded", tcp(SYN)).sent_to(NEW).counts(KeptFlows));
    cases.push(
        over("a client's UDP is recorded", ip(family).udp(12345, STICKY)).sent_to(NEW).counts(KeptFlows),
    );
    cases.push(over("a new client's RST is not recorded", tcp(RST)).sent_to(NEW));
    cases.push(
        over("a client's second flow is not recorded again", ip(family).tcp(12346, STICKY).syn())
            .after(tcp(SYN))
            .sent_to(NEW),
    );
    cases.push(over("a client stays with its backend", tcp(SYN)).recorded(CLIENT, OLD, 5).sent_to(OLD));
    cases.push(over("a client stays until the timeout", tcp(SYN)).recorded(CLIENT, OLD, 28).sent_to(OLD));
    cases.push(
        over("after the timeout a client is new", tcp(SYN))
            .recorded(CLIENT, OLD, 31)
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("without KEEP_FLOWS a flow's own record is not asked for", tcp(ACK))
            .recorded(FLOW, OLD, 5)
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("a flow stays with the client's backend that drains", tcp(ACK))
            .recorded(CLIENT, LEAVING, 5)
            .sent_to(LEAVING),
    );
    cases.push(
        over("a new flow leaves the client's backend that drains", tcp(SYN))
            .recorded(CLIENT, LEAVING, 5)
            .sent_to(NEW)
            .counts(KeptFlows),
    );
    cases.push(
        over("a SYN with RST leaves it without a record", tcp(SYN | RST))
            .recorded(CLIENT, LEAVING, 5)
            .sent_to(NEW),
    );
}

/// A service with affinity of which backends drain, or have drained: flows' own records are looked for.
fn sticky_drains(family: Family, cases: &mut Vec<Case>) {
    let tcp = |flags| ip(family).tcp(12345, STICKY_DRAINING).with(flags);
    let other = ip(family).tcp(12346, STICKY_DRAINING);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(
        over("what follows the SYN of a flow that left its client's backend follows it", tcp(ACK))
            .recorded(CLIENT, LEAVING, 5)
            .after(tcp(SYN))
            .sent_to(NEW),
    );
    cases.push(
        over("the client's other flows stay with the backend that drains", other.clone())
            .recorded(CLIENT, LEAVING, 5)
            .after(tcp(SYN))
            .sent_to(LEAVING),
    );
    cases.push(
        over("a flow's own record counts where the client's backend drains", tcp(SYN))
            .recorded(CLIENT, LEAVING, 5)
            .recorded(FLOW, OLD, 5)
            .sent_to(OLD),
    );
    cases.push(
        over("a flow that left the client's backend stays away when that is active again", tcp(ACK))
            .recorded(CLIENT, OLD, 5)
            .recorded(FLOW, NEW, 5)
            .sent_to(NEW),
    );
    cases.push(
        over("the client's other flows go where the client's record says", other.clone())
            .recorded(CLIENT, OLD, 5)
            .recorded(FLOW, NEW, 5)
            .sent_to(OLD),
    );
    cases.push(
        over("a SYN leaves its own record's backend that drains for the client's, and is recorded", tcp(SYN))
            .recorded(CLIENT, OLD, 5)
            .recorded(FLOW, LEAVING, 5)
            .sent_to(OLD)
            .counts(KeptFlows),
    );
    cases.push(
        over("what follows such a SYN follows it to the client's backend", tcp(ACK))
            .recorded(CLIENT, OLD, 5)
            .recorded(FLOW, LEAVING, 5)
            .after(tcp(SYN))
            .sent_to(OLD),
    );
    cases.push(
        over("a new client's SYN replaces the flow's record as well", tcp(SYN))
            .recorded(FLOW, LEAVING, 5)
            .sent_to(NEW)
            .counts(KeptFlows)
            .counts(KeptFlows),
    );
    cases.push(
        over("a RST replaces neither record", tcp(RST | SYN))
            .recorded(CLIENT, OLD, 31)
            .recorded(FLOW, LEAVING, 5)
            .sent_to(NEW),
    );
    cases.push(
        over("a flow's record comes before a client's that is too old, and makes it anew", tcp(ACK))
            .recorded(CLIENT, OLD, 31)
            .recorded(FLOW, LEAVING, 5)
            .sent_to(LEAVING)
            .counts(KeptFlows),
    );
    cases.push(
        over("UDP stays with the client's backend that drains", ip(family).udp(12345, STICKY_DRAINING))
            .recorded(CLIENT, LEAVING, 5)
            .sent_to(LEAVING),
    );
}

fn sticky_windows(family: Family, cases: &mut Vec<Case>) {
    let tcp = |flags| ip(family).tcp(12345, STICKY_OPEN).with(flags);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(
        over("in the window an unknown client stays with its flow", tcp(ACK)).sent_to(OLD).counts(KeptFlows),
    );
    cases.push(
        over("in the window a new client goes where the ring says", tcp(SYN)).sent_to(NEW).counts(KeptFlows),
    );
    cases.push(
        over("in the window the flow's record counts before the client's", tcp(ACK))
            .recorded(CLIENT, 0, 5)
            .recorded(FLOW, OLD, 5)
            .sent_to(OLD),
    );
    cases.push(
        over("in the window the client's record counts before the ring", tcp(ACK))
            .recorded(CLIENT, 0, 5)
            .sent_to(0),
    );
    cases.push(
        over("a flow's record makes the client's", tcp(ACK))
            .recorded(FLOW, 0, 5)
            .sent_to(0)
            .counts(KeptFlows),
    );
    cases.push(
        over("the record that a flow's made is followed by others", ip(family).tcp(12346, STICKY_OPEN).syn())
            .recorded(FLOW, 0, 5)
            .after(tcp(ACK))
            .sent_to(0),
    );
}

fn chance(family: Family, cases: &mut Vec<Case>) {
    let tcp = |flags| ip(family).tcp(12345, CHANCE).with(flags);
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    cases.push(
        over("a SYN goes to any backend of the ring, and is recorded", tcp(SYN))
            .sent_to_one_of(&[OLD, NEW])
            .counts(KeptFlows),
    );
    cases.push(
        over("a SYN with RST goes to any backend and is not recorded", tcp(SYN | RST))
            .sent_to_one_of(&[OLD, NEW]),
    );
    cases.push(
        over("UDP goes to any backend of the ring, and is recorded", ip(family).udp(12345, CHANCE))
            .sent_to_one_of(&[OLD, NEW])
            .counts(KeptFlows),
    );
    // Slots 73 and 166 of 251: the hashes are transcribed from the published function.
    let by_hash = if family == Family::V4 { NEW } else { OLD };
    let name = "a flow that did not begin here goes where its hash says, and is recorded";
    cases.push(over(name, tcp(ACK)).sent_to(by_hash).counts(KeptFlows));
    cases.push(over("a RST that did not begin here is not recorded", tcp(RST)).sent_to(by_hash));
    cases.push(over("a recorded flow stays", tcp(ACK)).recorded(FLOW, OLD, 5).sent_to(OLD));
    cases.push(over("a recorded SYN stays", tcp(SYN)).recorded(FLOW, OLD, 5).sent_to(OLD));
    cases.push(
        over("a recorded flow stays with a backend that drains", tcp(ACK))
            .recorded(FLOW, LEAVING, 5)
            .sent_to(LEAVING),
    );
    cases.push(
        over("a SYN leaves a backend that drains by chance", tcp(SYN))
            .recorded(FLOW, LEAVING, 5)
            .sent_to_one_of(&[OLD, NEW])
            .counts(KeptFlows),
    );
    let pathless = ip(family).tcp(12345, CHANCE_PATHLESS);
    cases.push(
        over("an unknown flow is recorded even if the backend has no path", pathless.with(ACK))
            .dropped(NoNextHop)
            .counts(KeptFlows),
    );
}

fn nothing_to_choose(family: Family, cases: &mut Vec<Case>) {
    let over = |name: &str, packet| case(format!("{name}, over {family}"), packet);
    for (protocol, transport) in [(6, "TCP"), (17, "UDP")] {
        let to = |port| ip(family).transport(protocol, port);
        cases.push(
            over(&format!("a service without backends drops {transport}"), to(EMPTY)).dropped(NoBackend),
        );
        cases.push(
            over(&format!("a slot that names no backend drops {transport}"), to(BEYOND)).dropped(NoBackend),
        );
    }
    let group = [1, 0, 0x5e, 0, 0, 1];
    let packet = ip(family).at_mac(group).udp(12345, REFUSING);
    cases.push(over("what came to a group is not rejected", packet).dropped(NoBackend));
}
