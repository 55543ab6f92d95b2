//! The peers of gobgpd that are netd's.

use super::label::Label;
use super::{PeerSpec, read_password};
use crate::facts::Facts;
use crate::speaker::{Line, Shared, Speaker};
use crate::target::Target;
use async_trait::async_trait;
use netd_core::{Action, Key, Observation, Outcome, Spec, Step};
use netd_gobgp::{Family, GracefulRestart, Password, Peer, PeerConfig, Restarting, Ttl};
use netd_schema::{BgpPeer, Import};
use std::sync::Arc;
use std::time::Duration;

/// Said of a password file whose content is not what gobgpd has.
const ANOTHER_CONTENT: &str = " (as it was before)";

/// Said of a peer with `bfd`.
const NO_BFD: &str =
    "gobgpd 3 does not support BFD: remove `bfd`; `hold` finds a dead peer, too, within 3 s at best";

/// The target of peers.
pub struct PeerTarget(Shared);

impl PeerTarget {
    /// The target that drives this speaker.
    #[must_use]
    pub fn new(speaker: Shared) -> Self {
        Self(speaker)
    }
}

#[async_trait]
impl Target for PeerTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let mut observation = Observation::default();
        let mut speaker = self.0.lock().await;
        let Some(line) = speaker.line()? else { return Ok(observation) };
        let peers = line.client.peers().await.map_err(|error| speaker.failed(&error))?;
        speaker.tell_of_sessions(&peers);
        for (address, peer) in &peers {
            let key = Key::new(address.to_string());
            if !peer.is_ours {
                let who = format!("a peer that somebody else added: {:?}", peer.config.name);
                observation.foreign.insert(key, who);
                continue;
            }
            let label = speaker.labels.get(address).unwrap_or(&peer.config.name);
            observation.owned.insert(key.clone(), Arc::new(spec(peer, &Label::parse(label))));
            if let Some(hindrance) = peer.hindrance() {
                let said = speaker.complaint(*address);
                let said = said.map(|said| format!(" (gobgpd: {said})")).unwrap_or_default();
                observation.notes.insert(key, format!("{}: {hindrance}{said}", peer.state));
            }
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut speaker = self.0.lock().await;
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            let outcome = match speaker.line_for_changes().await {
                Ok(line) => make(&mut speaker, &line, step).await,
                Err(why) => Outcome::Failed(why),
            };
            outcomes.push(outcome);
        }
        outcomes
    }
}

async fn make(speaker: &mut Speaker, line: &Line, step: &Step) -> Outcome {
    let typed = |spec: &Arc<dyn Spec>| spec.as_any().downcast_ref::<PeerSpec>().cloned();
    let (wanted, address) = match &step.action {
        Action::Create { to } | Action::Update { to, .. } => match typed(to) {
            Some(to) => (Some(to.clone()), to.address),
            None => return Outcome::Failed("this is not a peer".into()),
        },
        Action::Delete { from } => match typed(from) {
            Some(from) => (None, from.address),
            None => return Outcome::Failed("this is not a peer".into()),
        },
    };
    // As late as possible: the daemon has no way to be told that a peer is to be changed only if it is netd's.
    let now = match line.client.peers().await {
        Ok(mut peers) => peers.remove(&address),
        Err(error) => return Outcome::Failed(speaker.failed(&error)),
    };
    match &now {
        Some(peer) if !peer.is_ours => {
            return Outcome::Conflict(format!("a peer that somebody else added: {:?}", peer.config.name));
        }
        Some(_) | None => {}
    }
    let done = match (wanted, now) {
        (None, None) => Ok(()),
        (None, Some(peer)) => {
            speaker.labels.remove(&address);
            line.client.delete_peer(&peer.config, line.asn).await
        }
        (Some(wanted), now) => {
            let config = match config(&wanted) {
                Ok(config) => config,
                Err(why) => return Outcome::Failed(why),
            };
            // The daemon keeps the label of a session that goes on.
            speaker.labels.insert(address, config.name.clone());
            // Packets flow, because peers come after the datapath: what the peer kept of an earlier life still holds.
            match now {
                None => line.client.add_peer(&config, line.asn, Restarting::Yes).await,
                Some(peer) => line.client.update_peer(&peer.config, &config, line.asn).await.map(|_| ()),
            }
        }
    };
    match done {
        Ok(()) => Outcome::Applied,
        Err(error) => Outcome::Failed(speaker.failed(&error)),
    }
}

/// What gobgpd is asked for.
fn config(spec: &BgpPeer) -> Result<PeerConfig, String> {
    if spec.bfd.is_some() {
        return Err(NO_BFD.into());
    }
    let seconds = |what: &str, duration: Duration| {
        u16::try_from(duration.as_secs()).map_err(|_| format!("{what} is longer than 65535 s"))
    };
    let graceful_restart = match spec.graceful_restart {
        Some(time) => Some(GracefulRestart { restart_seconds: seconds("graceful_restart", time)? }),
        None => None,
    };
    Ok(PeerConfig {
        address: spec.address,
        asn: spec.asn,
        name: Label::of(spec).text(),
        port: spec.port,
        hold_seconds: seconds("hold", spec.hold)?,
        keepalive_seconds: seconds("keepalive", spec.keepalive)?,
        connect_retry_seconds: seconds("connect_retry", spec.connect_retry)?,
        ttl: match (spec.multihop_ttl, spec.ttl_security) {
            (_, true) => Ttl::Security,
            (Some(hops), false) => Ttl::Multihop(hops),
            (None, false) => Ttl::Direct,
        },
        source: spec.source,
        password: password(spec)?,
        families: spec.families.iter().map(|family| wire_family(*family)).collect(),
        graceful_restart,
        passive: spec.passive,
        import: spec.import.is_some(),
    })
}

fn password(peer: &BgpPeer) -> Result<Option<Password>, String> {
    let Some(file) = &peer.password_file else { return Ok(None) };
    let read = read_password(file).map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })?;
    Password::new(read.reveal().to_owned().into())
        .map(Some)
        .ok_or_else(|| format!("the password file {} holds no password", file.display()))
}

fn wire_family(family: netd_schema::Family) -> Family {
    match family {
        netd_schema::Family::Ipv4 => Family::Ipv4,
        netd_schema::Family::Ipv6 => Family::Ipv6,
    }
}

/// What a peer of netd's was found to be. What the daemon does not tell, its label does.
fn spec(peer: &Peer, label: &Label) -> PeerSpec {
    let PeerConfig { address, asn, port, ttl, source, passive, .. } = peer.config;
    let seconds = |seconds: u16| Duration::from_secs(seconds.into());
    let mut found = BgpPeer {
        address,
        name: label.name.clone(),
        asn,
        port,
        password_file: label.password_file.clone(),
        hold: seconds(peer.config.hold_seconds),
        keepalive: seconds(peer.config.keepalive_seconds),
        connect_retry: seconds(peer.config.connect_retry_seconds),
        multihop_ttl: match ttl {
            Ttl::Multihop(hops) => Some(hops),
            Ttl::Direct | Ttl::Security => None,
        },
        ttl_security: ttl == Ttl::Security,
        source,
        families: peer.config.families.iter().map(|family| file_family(*family)).collect(),
        extended_next_hop: label.extended_next_hop,
        graceful_restart: peer.config.graceful_restart.map(|graceful| seconds(graceful.restart_seconds)),
        bfd: None,
        passive,
        nodes: Vec::new(),
        import: peer.config.import.then(Import::default),
    };
    found.families.sort();
    // A file that cannot be read says nothing about the session that is there.
    if let Ok(read) = password(&found)
        && read != peer.config.password
        && let Some(file) = &mut found.password_file
    {
        file.as_mut_os_string().push(ANOTHER_CONTENT);
    }
    if !peer.is_admitted {
        // Left half-made: everything is said again.
        found.name.push_str(" (half made)");
    }
    PeerSpec::new(found)
}

fn file_family(family: Family) -> netd_schema::Family {
    match family {
        Family::Ipv4 => netd_schema::Family::Ipv4,
        Family::Ipv6 => netd_schema::Family::Ipv6,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use netd_gobgp::SessionState;
    use std::net::IpAddr;

    fn wanted() -> PeerSpec {
        PeerSpec::new(BgpPeer {
            name: "tor-1".into(),
            address: "10.0.0.1".parse::<IpAddr>().unwrap(),
            source: Some("10.0.0.9".parse().unwrap()),
            families: vec![netd_schema::Family::Ipv4, netd_schema::Family::Ipv6],
            extended_next_hop: true,
            multihop_ttl: Some(4),
            graceful_restart: Some(Duration::from_secs(60)),
            passive: true,
            ..BgpPeer::default()
        })
    }

    fn listed(config: PeerConfig) -> Peer {
        Peer {
            config,
            is_ours: true,
            is_admitted: true,
            state: SessionState::Active,
            since: None,
            flaps: 0,
            router_id: None,
            notifications: (0, 0),
            updates: (0, 0),
            opens: (0, 0),
            traffic: Default::default(),
        }
    }

    #[test]
    fn a_peer_as_the_file_has_it_is_recognised() {
        let peer = listed(config(&wanted()).unwrap());
        assert_eq!(spec(&peer, &Label::parse(&peer.config.name)), wanted());
    }

    #[test]
    fn a_password_file_with_another_content_is_a_change_and_one_that_is_gone_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("password");
        let write = |text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("one");
        let wanted = PeerSpec::new(BgpPeer { password_file: Some(file.clone()), ..wanted().0 });
        let peer = listed(config(&wanted).unwrap());
        let found = || spec(&peer, &Label::parse(&peer.config.name));
        assert_eq!(found(), wanted);
        write("two");
        assert_ne!(found(), wanted);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(found(), wanted);
        assert!(config(&wanted).unwrap_err().contains("No such file"));
    }

    #[test]
    fn bfd_is_said_to_be_unsupported() {
        let wanted = BgpPeer { bfd: Some(netd_schema::Bfd::default()), ..wanted().0 };
        assert_eq!(config(&wanted).unwrap_err(), NO_BFD);
    }
}
