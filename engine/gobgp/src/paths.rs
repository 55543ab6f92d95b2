//! Announcing, withdrawing and listing.

use crate::Client;
use crate::api;
use crate::call::{CALL_MAX, LISTING_MAX, answered, next, within};
use crate::error::Error;
use crate::path::{Announcement, Besides, Community, Family, LargeCommunity};
use crate::path_wire::{self, Said, announcing, withdrawing};
use futures_util::stream;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Paths in one message: with fewer the daemon is slower, more make it no faster.
const PATHS_PER_MESSAGE: usize = 100;

/// Paths in one call. The daemon takes 15,000 to 40,000 a second, so a call stays well below its deadline also on a
/// machine that is ten times slower.
const PATHS_PER_CALL: usize = 2_000;

/// What netd announces now, and what of it is not netd's alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// netd's own.
    pub ours: BTreeMap<IpNetwork, Announcement>,
    /// Prefixes that somebody else announces through this daemon.
    pub foreign: BTreeMap<IpNetwork, String>,
}

/// The routes of a session and family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// By their prefixes, at most as many as were asked for.
    pub routes: Vec<ReceivedRoute>,
    /// So many more there are.
    pub left_out: u64,
    /// So many make no sense.
    pub unreadable: u64,
}

/// A route of a session, as a peer sent it or as it is sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRoute {
    /// The prefix.
    pub prefix: IpNetwork,
    /// Through which address.
    pub next_hop: Option<IpAddr>,
    /// The ASes on the way, the nearest first.
    pub as_path: Vec<u32>,
    /// Standard communities.
    pub communities: Vec<Community>,
    /// Large communities.
    pub large_communities: Vec<LargeCommunity>,
    /// The multi-exit discriminator.
    pub med: Option<u32>,
    /// The local preference.
    pub local_pref: Option<u32>,
}

impl Client {
    /// Announces these, in place of what netd said of the same prefixes before. Saying the same again changes nothing
    /// but may be sent again.
    ///
    /// # Errors
    ///
    /// Any of a call. Some of them may be in force then.
    pub async fn announce(&self, announcements: &[Announcement]) -> Result<(), Error> {
        let all = announcements.iter().flat_map(|announcement| &announcement.besides);
        let besides: BTreeSet<(IpAddr, Besides)> =
            all.map(|(peer, besides)| (*peer, besides.clone())).collect();
        self.say_besides(&besides).await?;
        for call in announcements.chunks(PATHS_PER_CALL) {
            self.stream("announce", call.iter().map(announcing).collect()).await?;
        }
        Ok(())
    }

    /// Withdraws netd's announcements of these prefixes. Withdrawing what is not announced succeeds.
    ///
    /// # Errors
    ///
    /// Any of a call. Some of them may be withdrawn then.
    pub async fn withdraw(&self, prefixes: &[IpNetwork]) -> Result<(), Error> {
        for call in prefixes.chunks(PATHS_PER_CALL) {
            self.stream("withdraw", call.iter().map(withdrawing).collect()).await?;
        }
        Ok(())
    }

    async fn stream(&self, call: &'static str, paths: Vec<api::Path>) -> Result<(), Error> {
        let mut left = paths.into_iter();
        let messages = std::iter::from_fn(move || {
            let paths: Vec<_> = left.by_ref().take(PATHS_PER_MESSAGE).collect();
            let table_type = api::TableType::Global.into();
            (!paths.is_empty()).then(|| api::AddPathStreamRequest {
                table_type,
                vrf_id: String::new(),
                paths,
            })
        });
        answered(call, self.api().add_path_stream(stream::iter(messages))).await
    }

    /// Everything that netd announces. The whole table is read: this is not for every pass.
    ///
    /// # Errors
    ///
    /// Any of a call, also when one of netd's own paths makes no sense.
    pub async fn announced(&self) -> Result<Announced, Error> {
        let said = self.said_besides().await?;
        let mut found = Announced::default();
        for family in Family::ALL {
            let paths = |path: &api::Path| -> Result<(), Error> {
                if !path_wire::is_local(path) {
                    return Ok(());
                }
                if path_wire::is_ours(path) {
                    let announcement = path_wire::announced(path, &said).map_err(Error::Undecodable)?;
                    found.ours.insert(announcement.prefix, announcement);
                } else if let Ok(prefix) = path_wire::prefix(path) {
                    found.foreign.insert(prefix, "announced by somebody else through the same gobgpd".into());
                }
                Ok(())
            };
            self.list(api::TableType::Global, family, String::new(), paths).await?;
        }
        Ok(found)
    }

    /// How many paths of a family the daemon's table has, netd's and all others: a cheap look at whether it is still
    /// what it was.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn routes(&self, family: Family) -> Result<u64, Error> {
        let family = Some(path_wire::family(family));
        let request =
            api::GetTableRequest { table_type: api::TableType::Global.into(), family, name: String::new() };
        Ok(answered("count routes", self.api().get_table(request)).await?.num_path)
    }

    /// What a peer has sent, at most `limit` routes of a family, before any policy.
    ///
    /// # Errors
    ///
    /// Any of a call; [`Error::Refused`] when there is no such peer.
    pub async fn received(&self, peer: IpAddr, family: Family, limit: usize) -> Result<Routes, Error> {
        self.of_session(api::TableType::AdjIn, peer, family, limit).await
    }

    /// What is sent to a peer, at most `limit` routes of a family, after all policies.
    ///
    /// # Errors
    ///
    /// As [`Client::received`].
    pub async fn sent(&self, peer: IpAddr, family: Family, limit: usize) -> Result<Routes, Error> {
        self.of_session(api::TableType::AdjOut, peer, family, limit).await
    }

    async fn of_session(
        &self,
        table: api::TableType,
        peer: IpAddr,
        family: Family,
        limit: usize,
    ) -> Result<Routes, Error> {
        let mut found = Routes::default();
        let take = |path: &api::Path| {
            found.take(path, limit);
            Ok(())
        };
        self.list(table, family, peer.to_string(), take).await?;
        found.routes.sort_by_key(|route| route.prefix);
        Ok(found)
    }

    async fn list(
        &self,
        table: api::TableType,
        family: Family,
        name: String,
        mut take: impl FnMut(&api::Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let call = "list routes";
        let family = Some(path_wire::family(family));
        let request = api::ListPathRequest { table_type: table.into(), name, family, ..Default::default() };
        let mut stream = within(LISTING_MAX, call, self.api().list_path(request)).await?;
        let mut limit = LISTING_MAX;
        while let Some(answer) = next(limit, call, &mut stream).await? {
            limit = CALL_MAX;
            for path in answer.destination.iter().flat_map(|destination| &destination.paths) {
                take(path)?;
            }
        }
        Ok(())
    }
}

impl Routes {
    /// Of what a peer sends, one path that makes no sense must not hide the others.
    fn take(&mut self, path: &api::Path, limit: usize) {
        match ReceivedRoute::of(path) {
            Err(_) => self.unreadable += 1,
            Ok(_) if self.routes.len() >= limit => self.left_out += 1,
            Ok(route) => self.routes.push(route),
        }
    }
}

impl ReceivedRoute {
    /// # Errors
    ///
    /// What cannot be understood.
    pub(crate) fn of(path: &api::Path) -> Result<Self, String> {
        let announcement = path_wire::announced(path, &Said::new())?;
        let Announcement { prefix, next_hop, communities, large_communities, .. } = announcement;
        let Announcement { local_pref, med, prepend, .. } = announcement;
        Ok(Self {
            prefix,
            next_hop,
            as_path: prepend,
            communities: communities.into_iter().collect(),
            large_communities: large_communities.into_iter().collect(),
            med,
            local_pref,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_path_that_makes_no_sense_hides_no_other_and_what_is_too_much_is_counted() {
        let path = |prefix: &str| announcing(&Announcement::plain(prefix.parse().unwrap()));
        let mut garbled = path("192.0.2.0/24");
        garbled.nlri.as_mut().unwrap().value = vec![0xff; 3];
        let mut found = Routes::default();
        for path in [path("192.0.2.2/32"), garbled, path("192.0.2.1/32"), path("192.0.2.3/32")] {
            found.take(&path, 2);
        }
        assert_eq!((found.routes.len(), found.left_out, found.unreadable), (2, 1, 1));
    }
}
