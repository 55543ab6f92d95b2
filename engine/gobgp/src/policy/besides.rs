//! What single peers are told of a prefix beyond what everybody is: a statement of netd's export policy for each peer and
//! each set of attributes, and a mark on the paths that it is for.
//!
//! A statement is there before the first path that has its mark, and goes after the last one: at no time is anything sent
//! without what belongs to it, and a change of attributes is one update, because it is another mark on the path.

use super::{EXPORT, Held, any_of, defined, neighbour, pattern, single, statement, to};
use crate::Client;
use crate::api::{self, community_action, med_action};
use crate::error::Error;
use crate::path::{Besides, Community, LargeCommunity};
use crate::path_wire::Said;
use crate::peer_wire::MARK;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What names of such statements go on with.
const SAY: &str = "say:";

impl Client {
    /// Makes sure that the peers are told this of paths with its mark.
    pub(crate) async fn say_besides(&self, all: &BTreeSet<(IpAddr, Besides)>) -> Result<(), Error> {
        if all.is_empty() {
            return Ok(());
        }
        let held = self.held().await?;
        let mut statements = Vec::new();
        for (peer, besides) in all {
            let (name, own) = (name(*peer, besides), to(*peer));
            if held.said().any(|(known, of, said)| *known == name && (of, &said) == (*peer, besides)) {
                continue;
            }
            // Half of it may be there, or something else by its name.
            self.take_back(&held, &name).await?;
            // The peer itself may come after what it is told.
            if !held.sets.contains(&(api::DefinedType::Neighbor.into(), own.clone())) {
                self.define(defined(api::DefinedType::Neighbor, &own, vec![single(*peer)])).await?;
            }
            let mark = vec![pattern(besides.mark(*peer))];
            self.define(defined(api::DefinedType::LargeCommunity, &name, mark)).await?;
            let conditions = api::Conditions { large_community_set: any_of(&name), ..neighbour(&own) };
            statements.push(statement(&name, conditions, saying(besides)));
        }
        match statements.is_empty() {
            true => Ok(()),
            false => self.add_to_export(statements).await,
        }
    }

    /// Takes out of the daemon whatever peers could be told besides, except this.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn say_no_more_than(&self, all: &BTreeSet<(IpAddr, Besides)>) -> Result<(), Error> {
        let held = self.held().await?;
        let is_meant = |peer: IpAddr, besides: &Besides| all.contains(&(peer, besides.clone()));
        let surplus = held.said().filter(|(_, peer, besides)| !is_meant(*peer, besides));
        for (name, ..) in surplus {
            self.take_back(&held, name).await?;
        }
        Ok(())
    }

    /// What peers are told besides, by the marks of the paths that it is said of.
    pub(crate) async fn said_besides(&self) -> Result<Said, Error> {
        let statements = self.statements().await?;
        let said = statements.iter().filter_map(read);
        Ok(said.map(|(peer, besides)| (besides.mark(peer), (peer, besides))).collect())
    }

    async fn add_to_export(&self, statements: Vec<api::Statement>) -> Result<(), Error> {
        let policy = Some(api::Policy { name: EXPORT.into(), statements });
        let request = api::AddPolicyRequest { policy, refer_existing_statements: false };
        crate::call::answered("extend a policy", self.api().add_policy(request)).await
    }
}

impl Held {
    /// What peers are told besides: the name of the statement, the peer, and what it is told.
    pub(super) fn said(&self) -> impl Iterator<Item = (&String, IpAddr, Besides)> {
        self.statements.iter().filter_map(|(name, statement)| {
            let (peer, besides) = read(statement)?;
            Some((name, peer, besides))
        })
    }
}

/// The peer's address, and the mark.
fn name(peer: IpAddr, besides: &Besides) -> String {
    let LargeCommunity(_, high, low) = besides.mark(peer);
    format!("{MARK}{SAY}{peer}/{high:08x}{low:08x}")
}

fn saying(besides: &Besides) -> api::Actions {
    let Besides { communities, large_communities, local_pref, med, prepend } = besides;
    let adding = |communities: Vec<String>| api::CommunityAction {
        r#type: community_action::Type::Add.into(),
        communities,
    };
    let listed = |communities: Vec<String>| Some(communities).filter(|all| !all.is_empty()).map(adding);
    let replace = med_action::Type::Replace.into();
    api::Actions {
        community: listed(communities.iter().map(ToString::to_string).collect()),
        large_community: listed(large_communities.iter().map(ToString::to_string).collect()),
        local_pref: local_pref.map(|value| api::LocalPrefAction { value }),
        med: med.map(|value| api::MedAction { r#type: replace, value: value.into() }),
        as_prepend: prepend.first().map(|asn| api::AsPrependAction {
            asn: *asn,
            repeat: u32::try_from(prepend.len()).unwrap_or(u32::MAX),
            use_left_most: false,
        }),
        ..Default::default()
    }
}

/// What a statement has a peer told, if that is what it is for. What makes no sense is left out, and is put right when
/// it is found to differ from what is meant.
fn read(statement: &api::Statement) -> Option<(IpAddr, Besides)> {
    let (peer, _) = statement.name.strip_prefix(MARK)?.strip_prefix(SAY)?.split_once('/')?;
    let peer = peer.parse().ok()?;
    let api::Actions { community, large_community, local_pref, med, as_prepend, .. } =
        statement.actions.clone().unwrap_or_default();
    let numbers = |action: Option<api::CommunityAction>| -> Vec<Vec<u32>> {
        let listed = action.map(|action| action.communities).unwrap_or_default();
        listed.iter().filter_map(|text| text.split(':').map(|part| part.parse().ok()).collect()).collect()
    };
    let standard = numbers(community).into_iter().filter_map(|parts| match parts[..] {
        [high, low] if high <= 0xffff && low <= 0xffff => Some(Community((high << 16) | low)),
        _ => None,
    });
    let large = numbers(large_community).into_iter().filter_map(|parts| match parts[..] {
        [administrator, first, second] => Some(LargeCommunity(administrator, first, second)),
        _ => None,
    });
    let besides = Besides {
        communities: standard.collect(),
        large_communities: large.collect(),
        local_pref: local_pref.map(|action| action.value),
        med: med.and_then(|action| u32::try_from(action.value).ok()),
        prepend: as_prepend.map_or_else(Vec::new, |action| {
            // The daemon keeps the number of times in a byte.
            vec![action.asn; usize::from(u8::try_from(action.repeat).unwrap_or(u8::MAX))]
        }),
    };
    Some((peer, besides))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_a_statement_says_is_read_back() {
        let all = Besides {
            communities: [Community((64512 << 16) | 7), Community(0xffff_ff01)].into(),
            large_communities: [LargeCommunity(64512, 1, u32::MAX)].into(),
            local_pref: Some(200),
            med: Some(0),
            prepend: vec![64512; 3],
        };
        for peer in ["10.0.0.1", "2001:db8::1"] {
            for besides in [all.clone(), Besides::default()] {
                let peer = peer.parse().unwrap();
                let made = statement(&name(peer, &besides), api::Conditions::default(), saying(&besides));
                assert_eq!(read(&made), Some((peer, besides)));
            }
        }
    }

    #[test]
    fn other_statements_of_netds_and_of_others_say_nothing_besides() {
        for name in ["netd:to:10.0.0.1", "netd:no-transit-e", "say:10.0.0.1/1", "netd:say:x/1", "theirs"] {
            let statement = api::Statement { name: name.into(), ..Default::default() };
            assert_eq!(read(&statement), None);
        }
    }
}
