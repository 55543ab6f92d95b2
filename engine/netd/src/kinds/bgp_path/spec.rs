//! What an announcement is, and how a plan says it.

use ipnetwork::IpNetwork;
use netd_core::{Described, FieldChange, Key};
use netd_schema::{Community, LargeCommunity};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// One prefix, what is said about it, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathSpec {
    /// What can be reached here.
    #[serde(serialize_with = "as_text")]
    pub prefix: IpNetwork,
    /// Through which address; `None`: through this end of each session.
    pub next_hop: Option<IpAddr>,
    /// Standard communities.
    #[serde(serialize_with = "as_texts")]
    pub communities: BTreeSet<Community>,
    /// Large communities.
    #[serde(serialize_with = "as_texts")]
    pub large_communities: BTreeSet<LargeCommunity>,
    /// For iBGP peers.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// What the AS path has before a session adds the own AS: that AS some times more. Never with an iBGP peer among
    /// those who are told, which would take the path for a loop.
    pub prepend: Vec<u32>,
    /// Who is told.
    pub to: Recipients,
    /// What some of them are told beyond that.
    pub besides: BTreeMap<IpAddr, Besides>,
}

/// What one peer is told of a prefix beyond what all are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Besides {
    /// Standard communities, added to the others.
    #[serde(serialize_with = "as_texts")]
    pub communities: BTreeSet<Community>,
    /// Large communities, added to the others.
    #[serde(serialize_with = "as_texts")]
    pub large_communities: BTreeSet<LargeCommunity>,
    /// For an iBGP peer.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// As that of a path, for an eBGP peer.
    pub prepend: Vec<u32>,
}

/// Who is told of a prefix.
#[derive(Clone, Debug, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipients {
    /// Every peer that has the family; these are they, as far as that is known.
    All(BTreeSet<IpAddr>),
    /// These, and nobody else.
    Only(BTreeSet<IpAddr>),
}

impl Recipients {
    fn peers(&self) -> &BTreeSet<IpAddr> {
        match self {
            Self::All(peers) | Self::Only(peers) => peers,
        }
    }
}

impl PartialEq for Recipients {
    /// Every peer is every peer, whoever that is.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All(_), Self::All(_)) => true,
            (Self::Only(one), Self::Only(other)) => one == other,
            (Self::All(_), Self::Only(_)) | (Self::Only(_), Self::All(_)) => false,
        }
    }
}

impl fmt::Display for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(peers) if peers.is_empty() => f.write_str("every peer"),
            Self::All(peers) | Self::Only(peers) => f.write_str(&listed(peers, ", ")),
        }
    }
}

fn as_text<S: Serializer>(prefix: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}

fn as_texts<T: fmt::Display, S: Serializer>(values: &BTreeSet<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

fn listed<T: fmt::Display>(values: &BTreeSet<T>, between: &str) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

impl PathSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.prefix.to_string())
    }

    /// What is said about it, in words; what is usual is left out.
    fn said(&self) -> Vec<String> {
        let Self { communities, large_communities, local_preference, med, prepend, .. } = self.clone();
        let mut said = Besides { communities, large_communities, local_preference, med, prepend }.said();
        said.extend(self.next_hop.map(|next_hop| format!("next hop {next_hop}")));
        said
    }
}

impl Besides {
    /// In words; what is usual is left out.
    fn said(&self) -> Vec<String> {
        let mut said = Vec::new();
        let mut list = |word: &str, several: &str, count: usize, text: String| match count {
            0 => {}
            1 => said.push(format!("{word} {text}")),
            _ => said.push(format!("{several} {text}")),
        };
        list("community", "communities", self.communities.len(), listed(&self.communities, " "));
        let large = &self.large_communities;
        list("large community", "large communities", large.len(), listed(large, " "));
        said.extend(self.local_preference.map(|preference| format!("local preference {preference}")));
        said.extend(self.med.map(|med| format!("MED {med}")));
        match self.prepend.len() {
            0 => {}
            count => said.push(format!("prepended {count}×")),
        }
        said
    }
}

fn told_besides(besides: &BTreeMap<IpAddr, Besides>) -> Vec<String> {
    besides.iter().map(|(peer, besides)| format!("{peer} also {}", besides.said().join(", "))).collect()
}

impl Described for PathSpec {
    fn summary(&self) -> String {
        let said = Some(self.said().join(", ")).filter(|said| !said.is_empty());
        let all: Vec<String> = said.into_iter().chain(told_besides(&self.besides)).collect();
        match all.is_empty() {
            true => format!("to {}", self.to),
            false => format!("to {} ({})", self.to, all.join("; ")),
        }
    }

    fn headline(&self) -> Option<String> {
        Some(format!("announce {} {}", self.prefix, self.summary()))
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let Self { prefix, next_hop, communities, large_communities, local_preference, .. } = self;
        let Self { med, prepend, to, besides, .. } = self;
        let optional =
            |value: Option<u32>| value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        let hop = |hop: Option<IpAddr>| hop.map_or_else(|| "self".to_owned(), |hop| hop.to_string());
        fn or_none<T: fmt::Display>(values: &BTreeSet<T>) -> String {
            if values.is_empty() { "none".to_owned() } else { listed(values, " ") }
        }
        let compared = [
            FieldChange::between("prefix", observed.prefix, prefix),
            FieldChange::between("next hop", hop(observed.next_hop), hop(*next_hop)),
            FieldChange::between("communities", or_none(&observed.communities), or_none(communities)),
            FieldChange::between(
                "large communities",
                or_none(&observed.large_communities),
                or_none(large_communities),
            ),
            FieldChange::between(
                "local preference",
                optional(observed.local_preference),
                optional(*local_preference),
            ),
            FieldChange::between("MED", optional(observed.med), optional(*med)),
            FieldChange::between("prepended", format!("{:?}", observed.prepend), format!("{prepend:?}")),
        ];
        let mut changes: Vec<_> = compared.into_iter().flatten().collect();
        let single = |besides: &BTreeMap<IpAddr, Besides>| match besides.is_empty() {
            true => "none".to_owned(),
            false => told_besides(besides).join("; "),
        };
        changes.extend(FieldChange::between("to single peers", single(&observed.besides), single(besides)));
        if *to != observed.to {
            let all = |to: &Recipients| match to {
                Recipients::All(_) => "every peer".to_owned(),
                Recipients::Only(_) if to.peers().is_empty() => "nobody".to_owned(),
                Recipients::Only(_) => to.to_string(),
            };
            changes.push(FieldChange::changed("to", all(&observed.to), all(to)));
        }
        changes
    }
}
