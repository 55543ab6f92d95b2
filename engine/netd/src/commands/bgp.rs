//! `netd bgp`: the sessions of this node, and the routes on them, asked of gobgpd itself.

use super::duration::words;
use super::table;
use crate::cli::{BgpArgs, BgpCommand, Direction, Global, say};
use crate::clock;
use crate::commands::instance_of;
use crate::kinds::{bgp_instance, bgp_peer};
use crate::speaker::{self, Places};
use anyhow::{anyhow, bail};
use netd_core::render::escape;
use netd_gobgp::{Announcement, Client, Family, Peer, ReceivedRoute, Recipients, SessionState};
use netd_schema::Gobgpd;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// So many routes of a session and family are shown.
const ROUTES_MAX: usize = 100_000;

pub(super) async fn run(global: &Global, args: &BgpArgs) -> anyhow::Result<ExitCode> {
    let folder = instance_of(global).runtime_dir;
    match &args.command {
        BgpCommand::Peers => peers(&connected(&folder).await?, args.json).await,
        BgpCommand::Routes { direction, peer } => {
            routes(&connected(&folder).await?, *direction, peer.as_deref(), args.json).await
        }
        BgpCommand::Forget { gobgpd } => {
            forget(&folder, gobgpd)?;
            say(&format!("{} is given up; what netd put there stays.\n", escape(gobgpd)))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn connected(folder: &Path) -> anyhow::Result<Client> {
    let client = speaker::client_of(folder).await.map_err(|why| anyhow!(why))?;
    client.ok_or_else(|| anyhow!("this node has no BGP speaker: is there a [bgp] in the file in force?"))
}

/// Takes a gobgpd off the list of those that netd looks after.
fn forget(folder: &Path, name: &str) -> anyhow::Result<()> {
    let mut places = Places::of(folder).map_err(|why| anyhow!(why))?;
    let found = places.all().iter().find(|place| bgp_instance::name(place) == name).cloned();
    let Some(gobgpd) = found else {
        let all: Vec<String> = places.all().iter().map(bgp_instance::name).collect();
        let known = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        bail!("netd does not look after a gobgpd {}; it does after: {known}", escape(name))
    };
    if gobgpd == Gobgpd::Managed {
        bail!("the managed gobgpd is netd's own: a file without [bgp] ends it, and so does `netd teardown`")
    }
    places.forget(&gobgpd).map_err(|why| anyhow!(why))
}

/// A session as it is shown.
#[derive(Serialize)]
struct Session {
    peer: IpAddr,
    name: String,
    asn: u32,
    state: String,
    /// How long it has been established, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    families: BTreeMap<String, Counts>,
    /// Why it is not established, as far as gobgpd tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'static str>,
    /// Whether the file in force made it; otherwise somebody else did, through the same gobgpd.
    is_netds: bool,
}

#[derive(Serialize)]
struct Counts {
    received: u64,
    advertised: u64,
}

impl Session {
    fn of(address: IpAddr, peer: &Peer, now_unix_ms: u64) -> Self {
        let since = peer.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let uptime = |since: std::time::Duration| (now_unix_ms / 1000).saturating_sub(since.as_secs());
        let is_up = peer.state == SessionState::Established;
        let counts = |family: &Family| {
            let traffic = peer.traffic.get(family).copied().unwrap_or_default();
            (family.to_string(), Counts { received: traffic.received, advertised: traffic.advertised })
        };
        Self {
            peer: address,
            name: bgp_peer::name_of(&peer.config.name),
            asn: peer.config.asn,
            state: peer.state.to_string(),
            uptime_seconds: since.filter(|_| is_up).map(uptime),
            families: peer.config.families.iter().map(counts).collect(),
            why_not: peer.hindrance(),
            is_netds: peer.is_ours,
        }
    }

    /// A line for each family.
    fn rows(&self) -> Vec<Vec<String>> {
        let name = if self.name == self.peer.to_string() { String::new() } else { escape(&self.name) };
        let why = match (self.is_netds, self.why_not) {
            (_, Some(why)) => why.to_owned(),
            (false, None) => "somebody else's".to_owned(),
            (true, None) => String::new(),
        };
        let up = self.uptime_seconds.map(Duration::from_secs).map(words).unwrap_or_default();
        let row = |(family, counts): (&String, &Counts)| {
            vec![
                self.peer.to_string(),
                name.clone(),
                self.asn.to_string(),
                self.state.clone(),
                up.clone(),
                family.clone(),
                counts.received.to_string(),
                counts.advertised.to_string(),
                why.clone(),
            ]
        };
        self.families.iter().map(row).collect()
    }
}

async fn peers(client: &Client, is_json: bool) -> anyhow::Result<ExitCode> {
    let peers = client.peers_with_advertised().await?;
    let now = clock::unix_ms();
    let sessions: Vec<Session> =
        peers.iter().map(|(address, peer)| Session::of(*address, peer, now)).collect();
    let is_up = |session: &Session| session.uptime_seconds.is_some() || !session.is_netds;
    if is_json {
        say(&format!("{:#}\n", serde_json::to_value(&sessions)?))?;
    } else if sessions.is_empty() {
        say("There is no peer.\n")?;
    } else {
        say(&shown(&sessions))?;
    }
    Ok(super::success_if(sessions.iter().all(is_up)))
}

fn shown(sessions: &[Session]) -> String {
    let head = ["peer", "name", "asn", "state", "uptime", "family", "received", "advertised", "why not"];
    table::table(&head, [2, 6, 7], sessions.iter().flat_map(Session::rows).collect())
}

/// A route as it is shown.
#[derive(Serialize)]
struct Route {
    prefix: String,
    /// Whose session it is on; none for what is announced to whoever is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    /// Who is told; of what is announced only.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    next_hop: Option<IpAddr>,
    as_path: Vec<u32>,
    communities: Vec<String>,
    local_preference: Option<u32>,
    med: Option<u32>,
}

impl Route {
    fn announced(announcement: &Announcement, peers: &BTreeSet<IpAddr>) -> Self {
        let to = match &announcement.to {
            Recipients::All => "every peer".to_owned(),
            Recipients::Only(recipients) => {
                let is_told = |peer: &&IpAddr| recipients.contains(&netd_gobgp::Recipient::of(**peer));
                peers.iter().filter(is_told).map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        };
        let standard = announcement.communities.iter().map(|one| netd_schema::Community(one.0).to_string());
        let large = announcement.large_communities.iter().map(ToString::to_string);
        Self {
            prefix: announcement.prefix.to_string(),
            peer: None,
            to: Some(to),
            next_hop: announcement.next_hop,
            as_path: announcement.prepend.clone(),
            communities: standard.chain(large).collect(),
            local_preference: announcement.local_pref,
            med: announcement.med,
        }
    }

    fn of_session(peer: IpAddr, route: &ReceivedRoute) -> Self {
        let standard = route.communities.iter().map(|one| netd_schema::Community(one.0).to_string());
        let large = route.large_communities.iter().map(ToString::to_string);
        Self {
            prefix: route.prefix.to_string(),
            peer: Some(peer),
            to: None,
            next_hop: route.next_hop,
            as_path: route.as_path.clone(),
            communities: standard.chain(large).collect(),
            local_preference: route.local_pref,
            med: route.med,
        }
    }

    fn row(&self) -> Vec<String> {
        let optional = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
        let peer = self.peer.map(|peer| peer.to_string());
        let path: Vec<String> = self.as_path.iter().map(ToString::to_string).collect();
        vec![
            self.prefix.clone(),
            peer.or_else(|| self.to.clone()).unwrap_or_default(),
            self.next_hop.map_or_else(|| "self".to_owned(), |hop| hop.to_string()),
            path.join(" "),
            self.communities.join(" "),
            optional(self.local_preference),
            optional(self.med),
        ]
    }
}

/// The peer that has this address or name.
fn called(peers: &BTreeMap<IpAddr, Peer>, word: &str) -> anyhow::Result<IpAddr> {
    let is_it = |(address, peer): &(&IpAddr, &Peer)| {
        word.parse() == Ok(**address) || bgp_peer::name_of(&peer.config.name) == word
    };
    let found = peers.iter().find(is_it).map(|(address, _)| *address);
    found.ok_or_else(|| anyhow!("there is no peer {}; `netd bgp peers` lists them", escape(word)))
}

async fn routes(
    client: &Client,
    direction: Option<Direction>,
    peer: Option<&str>,
    is_json: bool,
) -> anyhow::Result<ExitCode> {
    let peers = client.peers().await?;
    let peer = peer.map(|word| called(&peers, word)).transpose()?;
    let mut found = Vec::new();
    match direction {
        None => {
            let all: BTreeSet<IpAddr> = peers.keys().copied().collect();
            let announced = client.announced().await?;
            found.extend(announced.ours.values().map(|announcement| Route::announced(announcement, &all)));
        }
        Some(direction) => {
            let chosen = peers.iter().filter(|(address, known)| match peer {
                Some(peer) => peer == **address,
                None => known.is_ours,
            });
            for (address, known) in chosen.filter(|(_, known)| known.state == SessionState::Established) {
                for family in &known.config.families {
                    let routes = match direction {
                        Direction::Advertised => client.sent(*address, *family, ROUTES_MAX).await?,
                        Direction::Received => client.received(*address, *family, ROUTES_MAX).await?,
                    };
                    found.extend(routes.routes.iter().map(|route| Route::of_session(*address, route)));
                }
            }
        }
    }
    if is_json {
        say(&format!("{:#}\n", serde_json::to_value(&found)?))?;
    } else if found.is_empty() {
        say(match direction {
            None => "Nothing is announced. What should be and is not, `netd status` tells.\n",
            Some(Direction::Advertised) => "No session has routes to its peer.\n",
            Some(Direction::Received) => "No peer has sent a route.\n",
        })?;
    } else {
        let head = ["prefix", "peer", "next hop", "as path", "communities", "local pref", "med"];
        say(&table::table(&head, [5, 6], found.iter().map(Route::row).collect()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_gobgpd_is_forgotten_by_the_name_that_the_file_gave_it_and_the_managed_one_is_not() {
        let folder = tempfile::TempDir::new().unwrap();
        let tls = netd_schema::BgpTls { ca: "/gone".into(), identity: None };
        for gobgpd in [Gobgpd::Https { authority: "a:1".into(), tls }, Gobgpd::Managed] {
            Places::of(folder.path()).unwrap().use_from_now(&gobgpd).unwrap();
        }
        let refusal = |name: &str| forget(folder.path(), name).unwrap_err().to_string();
        assert!(refusal("https://b:1").contains("it does after: https://a:1, managed"));
        assert!(refusal("managed").contains("netd's own"));
        forget(folder.path(), "https://a:1").unwrap();
        assert_eq!(Places::of(folder.path()).unwrap().all(), [Gobgpd::Managed]);
    }

    #[test]
    fn a_session_has_a_line_for_each_family_and_says_why_it_is_not_up() {
        let counts = || Counts { received: 1, advertised: 2 };
        let session = Session {
            peer: IpAddr::from([10, 0, 0, 1]),
            name: "tor-1".into(),
            asn: 64_513,
            state: "idle".into(),
            uptime_seconds: None,
            families: [("ipv4".to_owned(), counts()), ("ipv6".to_owned(), counts())].into(),
            why_not: Some("the peer does not answer"),
            is_netds: true,
        };
        let expected = "\
            PEER      NAME    ASN    STATE  UPTIME  FAMILY  RECEIVED  ADVERTISED  WHY NOT\n\
            10.0.0.1  tor-1  64513  idle           ipv4           1           2  the peer does not answer\n\
            10.0.0.1  tor-1  64513  idle           ipv6           1           2  the peer does not answer\n";
        let words = |text: &str| {
            let line = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
            text.lines().map(line).collect::<Vec<_>>()
        };
        assert_eq!(words(&shown(&[session])), words(expected));
    }
}
