//! The announcements of gobgpd that are netd's.

use super::{Besides, PathSpec, Recipients};
use crate::facts::Facts;
use crate::speaker::{Extent, Line, Paths, Shared, Speaker};
use crate::target::Target;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_core::{Action, Key, Observation, Outcome, Spec, Step, Table};
use netd_gobgp::{Announcement, Client, Error, Family, Recipient};
use netd_schema::{Community, LargeCommunity};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The whole table is listed again after so many resyncs, ten minutes or so: what somebody else changed of netd's paths
/// shows otherwise only if there are fewer of them.
const RESYNCS_PER_LISTING: u32 = 20;

/// The target of announcements.
pub struct PathTarget {
    speaker: Shared,
    resyncs: u32,
}

impl PathTarget {
    /// The target that drives this speaker.
    #[must_use]
    pub fn new(speaker: Shared) -> Self {
        Self { speaker, resyncs: 0 }
    }
}

#[async_trait]
impl Target for PathTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let mut speaker = self.speaker.lock().await;
        let Some(line) = speaker.line()? else { return Ok(Observation::default()) };
        match refresh(&mut speaker, &line).await {
            Ok(()) => {}
            Err(error) => return Err(speaker.failed(&error)),
        }
        let mut extent = Extent::default();
        for spec in speaker.paths.iter().flat_map(|paths| paths.owned.values()).filter_map(typed) {
            extent.count(Family::of(&spec.prefix), &spec.to);
        }
        speaker.extent = extent;
        let paths = speaker.paths.as_ref();
        Ok(paths.map_or_else(Observation::default, |paths| Observation {
            owned: paths.owned.clone(),
            foreign: paths.foreign.clone(),
            ..Observation::default()
        }))
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut speaker = self.speaker.lock().await;
        let line = match speaker.line_for_changes().await {
            Ok(line) => line,
            Err(why) => return vec![Outcome::Failed(why); steps.len()],
        };
        let (mut announcements, mut prefixes) = (Vec::new(), Vec::new());
        for step in steps {
            match &step.action {
                Action::Create { to } | Action::Update { to, .. } => {
                    announcements.extend(typed(to).map(announcement))
                }
                Action::Delete { from } => prefixes.extend(typed(from).map(|spec| spec.prefix)),
            }
        }
        let made = match make(&mut speaker, &line.client, announcements, &prefixes, steps).await {
            Ok(()) if steps.iter().any(is_about_single_peers) => tidy(&speaker, &line.client).await,
            made => made,
        };
        match made {
            Ok(()) => steps.iter().map(|step| outcome(&speaker, step)).collect(),
            Err(error) => vec![Outcome::Failed(speaker.failed(&error)); steps.len()],
        }
    }

    async fn tend(&mut self) -> Result<(), String> {
        self.resyncs += 1;
        if self.resyncs >= RESYNCS_PER_LISTING {
            self.resyncs = 0;
            self.speaker.lock().await.paths = None;
        }
        Ok(())
    }
}

fn typed(spec: &Arc<dyn Spec>) -> Option<&PathSpec> {
    spec.as_any().downcast_ref::<PathSpec>()
}

/// Whether something is, or was, told to single peers.
fn is_about_single_peers(step: &Step) -> bool {
    let is = |spec| typed(spec).is_some_and(|spec| !spec.besides.is_empty());
    match &step.action {
        Action::Create { to } => is(to),
        Action::Update { from, to } => is(from) || is(to),
        Action::Delete { from } => is(from),
    }
}

/// Takes out of the daemon what no path has peers told any more.
async fn tidy(speaker: &Speaker, client: &Client) -> Result<(), Error> {
    let Some(paths) = &speaker.paths else { return Ok(()) };
    let told = paths.owned.values().filter_map(typed).flat_map(|spec| &spec.besides);
    let told: BTreeSet<_> = told.map(|(peer, besides)| (*peer, wire_besides(besides))).collect();
    client.say_no_more_than(&told).await
}

/// What came of a step of a batch that was made.
fn outcome(speaker: &Speaker, step: &Step) -> Outcome {
    let holder = || speaker.paths.as_ref()?.foreign.get(&step.id.key).cloned();
    match &step.action {
        Action::Create { to } | Action::Update { to, .. } => match typed(to) {
            Some(_) => holder().map_or(Outcome::Applied, Outcome::Conflict),
            None => Outcome::Failed("this is not an announcement".into()),
        },
        Action::Delete { from } => match typed(from) {
            Some(_) => Outcome::Applied,
            None => Outcome::Failed("this is not an announcement".into()),
        },
    }
}

/// Makes the changes in as few calls as possible, and keeps what is known true.
async fn make(
    speaker: &mut Speaker,
    client: &Client,
    announcements: Vec<Announcement>,
    prefixes: &[IpNetwork],
    steps: &[Step],
) -> Result<(), Error> {
    let nobody = BTreeMap::new();
    let foreign = speaker.paths.as_ref().map_or(&nobody, |paths| &paths.foreign);
    let mut free = announcements;
    if !foreign.is_empty() {
        free.retain(|announcement| !foreign.contains_key(announcement.prefix.to_string().as_str()));
    }
    let calls = async {
        client.announce(&free).await?;
        client.withdraw(prefixes).await?;
        counts(client).await
    };
    // The daemon is what takes time: this is done meanwhile.
    let (counts, mut announced) = tokio::join!(calls, async { announced(steps, foreign) });
    let counts = counts?;
    if let Some(paths) = &mut speaker.paths {
        for step in steps.iter().filter(|step| matches!(step.action, Action::Delete { .. })) {
            paths.owned.remove(&step.id.key);
        }
        paths.owned.append(&mut announced);
        paths.counts = counts;
    }
    Ok(())
}

/// What is announced after these steps, and no foreign one's.
fn announced(steps: &[Step], foreign: &BTreeMap<Key, String>) -> Table {
    let of = |step: &Step| match &step.action {
        Action::Create { to } | Action::Update { to, .. } if !foreign.contains_key(&step.id.key) => {
            Some((step.id.key.clone(), Arc::clone(to)))
        }
        Action::Create { .. } | Action::Update { .. } | Action::Delete { .. } => None,
    };
    steps.iter().filter_map(of).collect()
}

/// Makes sure that what is known of netd's paths still holds: as long as the daemon lives and has not fewer of them, it
/// does, because nobody but netd changes them.
async fn refresh(speaker: &mut Speaker, line: &Line) -> Result<(), Error> {
    let counts = counts(&line.client).await?;
    if let Some(paths) = &mut speaker.paths
        && paths.counts.iter().zip(counts).all(|(before, now)| *before <= now)
    {
        paths.counts = counts;
        return Ok(());
    }
    let announced = line.client.announced().await?;
    let known: BTreeMap<Recipient, IpAddr> =
        line.client.peers().await?.into_keys().map(|peer| (Recipient::of(peer), peer)).collect();
    let mut owned = Table::new();
    for announcement in announced.ours.into_values() {
        let spec = spec(announcement, &known);
        owned.insert(spec.key(), Arc::new(spec));
    }
    let foreign =
        announced.foreign.into_iter().map(|(prefix, who)| (Key::new(prefix.to_string()), who)).collect();
    speaker.paths = Some(Paths { owned, foreign, counts });
    Ok(())
}

async fn counts(client: &Client) -> Result<[u64; 2], Error> {
    let (ipv4, ipv6) = tokio::try_join!(client.routes(Family::Ipv4), client.routes(Family::Ipv6))?;
    Ok([ipv4, ipv6])
}

fn announcement(spec: &PathSpec) -> Announcement {
    let PathSpec { prefix, next_hop, communities, large_communities, local_preference, .. } = spec;
    let PathSpec { med, prepend, to, besides, .. } = spec;
    Announcement {
        prefix: *prefix,
        next_hop: *next_hop,
        communities: wire_standard(communities),
        large_communities: wire_large(large_communities),
        local_pref: *local_preference,
        med: *med,
        prepend: prepend.clone(),
        to: match to {
            Recipients::All(_) => netd_gobgp::Recipients::All,
            Recipients::Only(peers) => netd_gobgp::Recipients::only(peers.iter().copied()),
        },
        besides: besides.iter().map(|(peer, besides)| (*peer, wire_besides(besides))).collect(),
    }
}

fn wire_besides(besides: &Besides) -> netd_gobgp::Besides {
    let Besides { communities, large_communities, local_preference, med, prepend } = besides;
    netd_gobgp::Besides {
        communities: wire_standard(communities),
        large_communities: wire_large(large_communities),
        local_pref: *local_preference,
        med: *med,
        prepend: prepend.clone(),
    }
}

fn file_besides(found: netd_gobgp::Besides) -> Besides {
    let netd_gobgp::Besides { communities, large_communities, local_pref, med, prepend } = found;
    Besides {
        communities: file_standard(communities),
        large_communities: file_large(large_communities),
        local_preference: local_pref,
        med,
        prepend,
    }
}

fn wire_standard(communities: &BTreeSet<Community>) -> BTreeSet<netd_gobgp::Community> {
    communities.iter().map(|community| netd_gobgp::Community(community.0)).collect()
}

fn file_standard(communities: BTreeSet<netd_gobgp::Community>) -> BTreeSet<Community> {
    communities.into_iter().map(|community| Community(community.0)).collect()
}

fn wire_large(communities: &BTreeSet<LargeCommunity>) -> BTreeSet<netd_gobgp::LargeCommunity> {
    let large = |community: &LargeCommunity| {
        let LargeCommunity { administrator, data: [first, second] } = *community;
        netd_gobgp::LargeCommunity(administrator, first, second)
    };
    communities.iter().map(large).collect()
}

fn file_large(communities: BTreeSet<netd_gobgp::LargeCommunity>) -> BTreeSet<LargeCommunity> {
    let large = |netd_gobgp::LargeCommunity(administrator, first, second)| LargeCommunity {
        administrator,
        data: [first, second],
    };
    communities.into_iter().map(large).collect()
}

/// What an announcement of netd's was found to say. Of recipients that are no peers any more nothing is known.
fn spec(found: Announcement, known: &BTreeMap<Recipient, IpAddr>) -> PathSpec {
    let Announcement { prefix, next_hop, communities, large_communities, local_pref, .. } = found;
    let Announcement { med, prepend, to, besides, .. } = found;
    PathSpec {
        prefix,
        next_hop,
        communities: file_standard(communities),
        large_communities: file_large(large_communities),
        local_preference: local_pref,
        med,
        prepend,
        to: match to {
            netd_gobgp::Recipients::All => Recipients::All(BTreeSet::new()),
            netd_gobgp::Recipients::Only(peers) => {
                Recipients::Only(peers.iter().filter_map(|peer| known.get(peer).copied()).collect())
            }
        },
        besides: besides.into_iter().map(|(peer, besides)| (peer, file_besides(besides))).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_announcement_is_recognised() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        for to in [Recipients::All(BTreeSet::new()), Recipients::Only([peer].into())] {
            let wanted = PathSpec {
                prefix: "192.0.2.10/32".parse().unwrap(),
                next_hop: Some("10.0.0.9".parse().unwrap()),
                communities: [Community(7)].into(),
                large_communities: [LargeCommunity { administrator: 1, data: [2, 3] }].into(),
                local_preference: Some(4),
                med: Some(5),
                prepend: vec![6, 6],
                to,
                besides: [(
                    peer,
                    Besides {
                        communities: [Community(8)].into(),
                        large_communities: [LargeCommunity { administrator: 1, data: [2, 4] }].into(),
                        local_preference: Some(9),
                        med: Some(10),
                        prepend: vec![6],
                    },
                )]
                .into(),
            };
            let known = BTreeMap::from([(Recipient::of(peer), peer)]);
            assert_eq!(spec(announcement(&wanted), &known), wanted);
        }
    }
}
