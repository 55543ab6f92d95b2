//! `[egress_failover]`.

use super::bgp_word::AbsolutePath;
use super::duration::Lasting;
use super::number::{PortNumber, Within};
use super::table::raw_table;
use crate::model::{EgressFailover, Quorum};

/// From one question to the next: more than twenty a second from every node is traffic of its own, and where they come
/// more seldom than every ten seconds nobody needs them.
pub(crate) type ProbeInterval = Lasting<50, 10_000>;

/// With fewer than three, one lost packet makes a gateway be taken for dead; with more than twenty, it is not taken for
/// dead in any useful time.
pub(crate) type Misses = Within<3, 20>;

raw_table! {
    /// Nodes watch the gateways, and a policy with several gateways goes to the best of those that live. All nodes ask
    /// the gateways by UDP whether they are there, and the gateways all nodes. Without the table, the file alone says
    /// which gateway is in force.
    pub(crate) struct Failover {
        /// From one question to the next.
        optional interval: ProbeInterval = "300ms", like "1s";
        /// So many intervals without an answer, and one more, and a gateway counts as dead; it gives its addresses up
        /// itself one interval before.
        optional misses: Misses = 3, like 5;
        /// The UDP port at which every node is asked, at its first address of a family.
        optional port: PortNumber = EgressFailover::PORT_DEFAULT, like 9473;
        /// Whether a gateway that has come back takes its policies again, if it is preferred. Otherwise it stands back
        /// behind all that live already.
        optional preempt: bool = true, like false;
        /// Whom a gateway has to hear to have addresses: `majority`, more than half of the nodes in the file, itself
        /// included, so that of two parts of a network at most one has them; `none`, nobody, so that both parts may.
        optional quorum: Quorum = "majority", like "none";
        /// A file with a secret that all nodes share, 16 to 80 bytes, readable by its owner only: messages without a
        /// proof that their sender knows it are ignored. Without it, whoever can send from the address of a node can
        /// keep a dead gateway in force, and put a live one out of it.
        optional key_file: AbsolutePath, like "/etc/netd/egress-failover.key";
    }
}
