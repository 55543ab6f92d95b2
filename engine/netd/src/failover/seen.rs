//! What is known of the gateways, as a fact for a pass.

use crate::report::{GatewayReport, GatewaysReport};
use std::collections::BTreeMap;
use std::fmt;

/// Is in the rank of a gateway that cannot do what egress needs: behind all that can, whenever they came.
pub(super) const UNABLE: u32 = 1 << 31;

/// What this node knows of the gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The gateways that live, by their names, this node among them if it is one and may have addresses: how many were
    /// before it when it came, if gateways do not take back what others have. Lower is preferred to any priority.
    pub alive: BTreeMap<String, u32>,
    /// How this node itself stands.
    pub standing: Standing,
    /// Why this node cannot do what egress needs, if it is a gateway: others that can are preferred.
    pub unable: Option<String>,
    /// Since when this node is in force, by the names of policies that can fail over: seconds of Unix time.
    pub since: BTreeMap<String, u64>,
    /// The gateways that this node asks, and whether they answer it.
    pub peers: BTreeMap<String, Peer>,
    /// Why nobody can be asked.
    pub hindrance: Option<String>,
}

impl Seen {
    /// As it is published.
    #[must_use]
    pub fn report(&self) -> GatewaysReport {
        let Self { alive, standing, unable, since: _, peers, hindrance } = self;
        let others = peers.iter().map(|(name, peer)| (name, *peer == Peer::Answers));
        let own = alive.keys().filter(|name| !peers.contains_key(*name)).map(|name| (name, true));
        let is_able = |(name, rank): (&String, &u32)| peers.contains_key(name) && rank & UNABLE == 0;
        let report = |(name, answers): (&String, bool)| {
            (name.clone(), GatewayReport { up: alive.contains_key(name), answers })
        };
        GatewaysReport {
            standing: match unable {
                Some(why) if !alive.iter().any(is_able) => {
                    format!("this node cannot do what egress needs, nor can any other gateway: {why}")
                }
                Some(why) => format!("other gateways are preferred to this node: {why}"),
                None => standing.to_string(),
            },
            gateways: others.chain(own).map(report).collect(),
            hindrance: hindrance.clone(),
        }
    }
}

/// A gateway, as this node hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It answers.
    Answers,
    /// It does not, and others hear it.
    HeardByOthers,
    /// Nobody hears it, or it says itself that it is none.
    Gone,
}

/// How a node stands among those that may have addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Standing {
    /// It has not listened for long enough to know who lives: what it has it keeps, and takes nothing.
    #[default]
    Starting,
    /// It knows.
    Ready,
    /// It hears too few nodes to have addresses.
    Alone {
        /// So many it hears, itself included.
        hears: usize,
        /// So many it would have to.
        needs: usize,
    },
    /// It hears enough again, and waits until that has lasted.
    Settling,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("it is not known yet which gateways live"),
            Self::Ready => f.write_str("ready"),
            Self::Alone { hears, needs } => {
                write!(f, "this node hears {hears} nodes, itself included, and has to hear {needs}")
            }
            Self::Settling => f.write_str("this node waits until it has heard enough nodes for a while"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_said_to_be_preferred_only_where_one_of_them_is_able() {
        let said = |rank| {
            let seen = Seen {
                alive: [("a".to_owned(), UNABLE), ("b".to_owned(), rank)].into(),
                standing: Standing::Ready,
                unable: Some("no programs".into()),
                peers: [("b".to_owned(), Peer::Answers)].into(),
                ..Seen::default()
            };
            seen.report().standing
        };
        assert_eq!(said(1), "other gateways are preferred to this node: no programs");
        assert_eq!(
            said(UNABLE),
            "this node cannot do what egress needs, nor can any other gateway: no programs"
        );
    }
}
