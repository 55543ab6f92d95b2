//! What the watch of the gateways has to do by the file in force, and which addresses this node keeps by what it sees.

use super::orders::Orders;
use super::seen::{Seen, Standing};
use super::wrong;
use crate::egress;
use crate::facts::Facts;
use crate::kinds::address::Kept;
use netd_schema::{Config, Egress, EgressFailover, OnExit};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What the file that is in force asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub(super) orders: Arc<Orders>,
    pub(super) config: Arc<Config>,
    lease: Duration,
    /// Whether netd takes back what it announces when it stops: nobody is to wait for it then.
    pub(super) goes_for_good: bool,
    /// What of the node keeps it from being a gateway.
    pub(super) wrong: Option<String>,
    /// The devices that packets of policies leave by, or their answers come by.
    pub(super) devices: BTreeSet<String>,
}

/// Gives the task that follows from a file, if it is another one than before; `None` where nobody is watched. Before the
/// first pass nothing is known of the node but its name.
pub fn order(to: &watch::Sender<Option<Task>>, config: Option<&Config>, me: &str, facts: Option<&Facts>) {
    to.send_if_modified(|before| {
        let now = config.and_then(|config| Task::of(config, me, facts, before.as_ref()));
        let is_new = now != *before;
        if is_new {
            *before = now;
        }
        is_new
    });
}

impl Task {
    fn of(config: &Config, me: &str, facts: Option<&Facts>, before: Option<&Self>) -> Option<Self> {
        let failover = config.egress_failover.as_ref()?;
        let orders = Orders::of(config, me)?;
        // Only what egress policies say is read of it.
        let kept = || {
            let egress = config.egress.clone();
            Arc::new(Config { egress, egress_failover: Some(failover.clone()), ..Config::default() })
        };
        let same = before.filter(|task| task.config.egress == config.egress);
        Some(Self {
            config: same.map_or_else(kept, |task| Arc::clone(&task.config)),
            lease: EgressFailover::lease(failover),
            goes_for_good: config.bgp.as_ref().is_some_and(|bgp| bgp.on_exit == OnExit::Withdraw),
            wrong: facts.and_then(|facts| wrong::by_facts(config, facts, &orders.me)),
            devices: facts.map(|facts| egress::devices(config, facts).looked_at).unwrap_or_default(),
            orders: Arc::new(orders),
        })
    }

    /// The policies that this node is in force for by what it sees, and that could have another gateway.
    pub(super) fn in_force(&self, seen: &Seen) -> impl Iterator<Item = &Egress> {
        let is_mine = |policy: &&Egress| {
            seen.standing == Standing::Ready
                && egress::in_force(policy, Some(seen)).is_some_and(|it| it.node == self.orders.me)
        };
        self.config.egress.iter().filter(|policy| egress::is_shared(policy)).filter(is_mine)
    }

    /// What becomes of the addresses that could be another gateway's. `is_unmissed`: whether those of an earlier life
    /// stay while it is not known who lives.
    pub(super) fn kept(&self, seen: &Seen, is_unmissed: bool) -> Kept {
        let is_mine = |policy: &&Egress| policy.gateways.iter().any(|gateway| gateway.node == self.orders.me);
        let shared = self.config.egress.iter().filter(|policy| egress::is_shared(policy)).filter(is_mine);
        let earlier = shared.filter(|_| is_unmissed && seen.standing == Standing::Starting);
        let own = earlier.chain(self.in_force(seen)).flat_map(|policy| &policy.ips);
        let hold: BTreeSet<IpAddr> = own.copied().collect();
        // One that another gateway takes over in good order is removed by the pass that sends packets there.
        let gives_up = match seen.standing {
            Standing::Starting => false,
            Standing::Ready => seen.unable.is_some(),
            Standing::Alone { .. } | Standing::Settling => self.orders.is_gateway,
        };
        Kept { hold, lease: self.lease, gives_up }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netd_schema::{EgressGateway, Node};

    fn task() -> Task {
        let policy = |name: &str, ip: &str, gateways: &[&str]| Egress {
            name: name.into(),
            ips: vec![ip.parse().unwrap()],
            gateways: gateways
                .iter()
                .map(|node| EgressGateway { node: (*node).into(), priority: u16::from(*node == "a") })
                .collect(),
            ..Egress::default()
        };
        let config = Config {
            nodes: ["a", "b"].map(|name| Node { name: name.into(), ..Node::default() }).into(),
            egress: vec![policy("one", "192.0.2.1", &["a", "b"]), policy("two", "192.0.2.2", &["a"])],
            egress_failover: Some(EgressFailover::default()),
            ..Config::default()
        };
        Task::of(&config, "a", None, None).unwrap()
    }

    fn seen(standing: Standing, alive: &[(&str, u32)]) -> Seen {
        let alive = alive.iter().map(|(name, rank)| ((*name).to_owned(), *rank)).collect();
        Seen { standing, alive, ..Seen::default() }
    }

    fn told(kept: &Kept) -> (Vec<String>, bool) {
        (kept.hold.iter().map(ToString::to_string).collect(), kept.gives_up)
    }

    #[test]
    fn who_is_in_force_keeps_what_could_be_anothers_and_who_is_not_leaves_it_to_the_pass() {
        let task = task();
        let own = seen(Standing::Ready, &[("a", 0), ("b", 0)]);
        assert_eq!(told(&task.kept(&own, false)), (vec!["192.0.2.1".into()], false));
        let others = seen(Standing::Ready, &[("a", 1), ("b", 0)]);
        assert_eq!(told(&task.kept(&others, false)), (vec![], false));
        let unable = Seen { unable: Some("no programs".into()), ..others };
        assert_eq!(told(&task.kept(&unable, false)), (vec![], true));
    }

    #[test]
    fn who_hears_too_few_gives_up_at_once() {
        for standing in [Standing::Alone { hears: 1, needs: 2 }, Standing::Settling] {
            assert_eq!(told(&task().kept(&seen(standing, &[("b", 0)]), true)), (vec![], true));
        }
    }

    #[test]
    fn who_starts_keeps_what_it_has_if_nobody_has_missed_it_and_removes_nothing() {
        let starting = seen(Standing::Starting, &[]);
        assert_eq!(told(&task().kept(&starting, true)), (vec!["192.0.2.1".into()], false));
        assert_eq!(told(&task().kept(&starting, false)), (vec![], false));
    }
}
