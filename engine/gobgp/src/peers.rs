//! Adding, changing, removing and listing peers.

use crate::Client;
use crate::api;
use crate::call::{all, answered};
use crate::error::Error;
use crate::peer::{Peer, PeerConfig, Restarting, UpdateEffect};
use crate::peer_wire::{self, message};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whether what each peer is sent is counted, which takes the daemon a walk through its table per peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Advertised {
    Counted,
    Left,
}

impl Client {
    /// Every peer of the daemon, netd's and foreign ones.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn peers(&self) -> Result<BTreeMap<IpAddr, Peer>, Error> {
        self.list_peers(Advertised::Left).await
    }

    /// As [`Client::peers`], with how many routes each is sent: for people, not for every pass.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn peers_with_advertised(&self) -> Result<BTreeMap<IpAddr, Peer>, Error> {
        self.list_peers(Advertised::Counted).await
    }

    async fn list_peers(&self, advertised: Advertised) -> Result<BTreeMap<IpAddr, Peer>, Error> {
        let call = "list peers";
        let enable_advertised = advertised == Advertised::Counted;
        let request = api::ListPeerRequest { address: String::new(), enable_advertised };
        let listed = all(call, answered(call, self.api().list_peer(request)).await?).await?;
        let admissions = self.admissions().await?;
        let mut peers = BTreeMap::new();
        for listed in listed.into_iter().filter_map(|answer| answer.peer) {
            let mut peer = peer_wire::peer(listed)?;
            let admission = admissions.get(&peer.config.address);
            peer.is_admitted = admission.is_some();
            peer.config.import = admission.is_none_or(|import| *import);
            peers.insert(peer.config.address, peer);
        }
        Ok(peers)
    }

    /// Adds a peer. [`Client::prepare`] has to have been called in this life of the daemon.
    ///
    /// # Errors
    ///
    /// Any of a call; [`Error::Refused`] when there is one with this address; [`Error::Unsupported`].
    pub async fn add_peer(
        &self,
        peer: &PeerConfig,
        local_asn: u32,
        restarting: Restarting,
    ) -> Result<(), Error> {
        let request = api::AddPeerRequest { peer: Some(message(peer, local_asn, restarting)?) };
        self.admit(peer.address, peer.import).await?;
        answered("add a peer", self.api().add_peer(request)).await
    }

    /// Makes `to` of netd's peer `from`, as it was listed, and says what that cost.
    ///
    /// # Errors
    ///
    /// Any of a call; [`Error::Unsupported`].
    pub async fn update_peer(
        &self,
        from: &PeerConfig,
        to: &PeerConfig,
        local_asn: u32,
    ) -> Result<UpdateEffect, Error> {
        let effect = from.effect_of(to);
        let settings = message(to, local_asn, Restarting::No)?;
        self.admit(to.address, to.import).await?;
        match effect {
            UpdateEffect::None => {}
            UpdateEffect::InPlace => {
                let kept = PeerConfig { name: from.name.clone(), ..to.clone() };
                self.change(message(&kept, local_asn, Restarting::No)?).await?;
                if from.import != to.import {
                    self.reread(to.address).await?;
                }
            }
            // The daemon does not compare these, and would change nothing.
            UpdateEffect::SessionReset if from.ttl != to.ttl => {
                self.remove(from, local_asn).await?;
                let request = api::AddPeerRequest { peer: Some(settings) };
                answered("add a peer", self.api().add_peer(request)).await?;
            }
            UpdateEffect::SessionReset => self.change(settings).await?,
        }
        Ok(effect)
    }

    /// Removes netd's peer, as it was listed. Its session ends.
    ///
    /// # Errors
    ///
    /// Any of a call; [`Error::Refused`] when there is none with this address.
    pub async fn delete_peer(&self, peer: &PeerConfig, local_asn: u32) -> Result<(), Error> {
        self.remove(peer, local_asn).await?;
        self.dismiss(peer.address).await
    }

    async fn remove(&self, peer: &PeerConfig, local_asn: u32) -> Result<(), Error> {
        if peer.password.is_some() {
            // Deleting leaves the password at the listening socket, where a later peer with this address would meet
            // it; an update takes it away.
            let mut quiet =
                message(&PeerConfig { password: None, ..peer.clone() }, local_asn, Restarting::No)?;
            if let Some(conf) = &mut quiet.conf {
                conf.admin_down = true;
            }
            self.change(quiet).await?;
        }
        let request = api::DeletePeerRequest { address: peer.address.to_string(), interface: String::new() };
        answered("delete a peer", self.api().delete_peer(request)).await
    }

    async fn change(&self, settings: api::Peer) -> Result<(), Error> {
        let request = api::UpdatePeerRequest { peer: Some(settings), do_soft_reset_in: false };
        answered("update a peer", self.api().update_peer(request)).await.map(|_| ())
    }

    /// Has the daemon judge the peer's routes again.
    async fn reread(&self, peer: IpAddr) -> Result<(), Error> {
        let direction = api::reset_peer_request::SoftResetDirection::In.into();
        let address = peer.to_string();
        let request = api::ResetPeerRequest { address, communication: String::new(), soft: true, direction };
        answered("read a peer's routes again", self.api().reset_peer(request)).await
    }

    /// Has the daemon send the peer everything again, without a reset of the session.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn resend(&self, peer: IpAddr) -> Result<(), Error> {
        let direction = api::reset_peer_request::SoftResetDirection::Out.into();
        let address = peer.to_string();
        let request = api::ResetPeerRequest { address, communication: String::new(), soft: true, direction };
        answered("send everything again", self.api().reset_peer(request)).await
    }
}
