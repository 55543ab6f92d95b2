//! The two ways to a device, behind one door.

use crate::{Change, Device, Error, PeerChange};

/// Reads and changes devices of one sort. Calls block for the moment that the other side needs.
pub trait Access: Send {
    /// What the device has.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] where there is no such device; [`Error::Unsupported`] where there are none of the sort.
    fn read(&mut self, interface: &str) -> Result<Device, Error>;

    /// Changes what `change` names, and nothing else.
    ///
    /// # Errors
    ///
    /// As [`Access::read`]; [`Error::PortInUse`] leaves the device at its port. What was changed before an error stays.
    fn change(&mut self, interface: &str, change: &Change) -> Result<(), Error>;
}

/// Peers are changed in pieces of at most so many bytes. The attribute that holds peers has a length of 16 bits.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// About how much a peer takes without its allowed addresses, and how much one of these.
const PEER_BYTES: usize = 160;
const ALLOWED_IP_BYTES: usize = 44;

/// Cuts changes into pieces that fit a message, in their order. A peer with many addresses is cut, too.
pub(crate) fn chunks(peers: &[PeerChange]) -> Vec<Vec<PeerChange>> {
    let mut all = Vec::new();
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for peer in peers.iter().flat_map(PeerChange::in_pieces) {
        let own = PEER_BYTES + peer.added() * ALLOWED_IP_BYTES;
        if bytes + own > CHUNK_BYTES_MAX && !chunk.is_empty() {
            all.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += own;
        chunk.push(peer);
    }
    if !chunk.is_empty() {
        all.push(chunk);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Presence, PublicKey, Settings};

    #[test]
    fn w8_a_thousand_peers_go_in_pieces_that_fit_in_their_order() {
        let peer = |at: u16| {
            let mut key = [1; 32];
            key[..2].copy_from_slice(&at.to_be_bytes());
            let settings = Settings {
                allowed_ips: vec![([10, at.to_be_bytes()[0], at.to_be_bytes()[1], 0].into(), 24); 2]
                    .into_iter()
                    .filter_map(|(ip, length)| ipnetwork::IpNetwork::new(ip, length).ok())
                    .collect(),
                ..Settings::of(Presence::New)
            };
            PeerChange::Set(PublicKey::from_bytes(key), settings)
        };
        let peers: Vec<PeerChange> = (0..1000).map(peer).collect();
        let chunks = chunks(&peers);
        assert!(chunks.len() > 10);
        let keys = |all: &[PeerChange]| all.iter().map(PeerChange::key).collect::<Vec<_>>();
        assert_eq!(keys(&chunks.concat()), keys(&peers));
    }

    #[test]
    fn a_peer_with_very_many_addresses_is_cut_and_is_new_only_once() {
        let allowed_ips = (0..=255u8)
            .flat_map(|high| (0..8u8).map(move |low| (high, low)))
            .filter_map(|(high, low)| ipnetwork::IpNetwork::new([10, high, low, 0].into(), 24).ok())
            .collect();
        let settings = Settings { allowed_ips, ..Settings::of(Presence::New) };
        let chunks = chunks(&[PeerChange::Set(PublicKey::from_bytes([1; 32]), settings)]);
        assert!(chunks.len() > 4, "{}", chunks.len());
        assert_eq!(chunks.iter().flatten().map(PeerChange::added).sum::<usize>(), 2048);
        let new = chunks
            .iter()
            .flatten()
            .filter(|it| matches!(it, PeerChange::Set(_, it) if it.presence == Presence::New));
        assert_eq!(new.count(), 1);
    }
}
