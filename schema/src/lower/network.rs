//! What `[network]` means.

use crate::model::{Network, NetworkMode, Tunnel};
use crate::raw::{self, NetworkModeWord, each};

/// The virtual network of all nodes where the file names none.
const VNI_DEFAULT: u32 = 1;

pub(super) fn lower(raw: &raw::Network) -> Network {
    let word = raw.mode.map_or(NetworkModeWord::Direct, |at| at.value);
    let mode = match word {
        NetworkModeWord::Direct => NetworkMode::Direct,
        NetworkModeWord::Vxlan | NetworkModeWord::Geneve => NetworkMode::Tunnel,
        NetworkModeWord::CrossSubnet => NetworkMode::CrossSubnet,
    };
    let named = word.tunnel().or(raw.tunnel.map(|at| at.value));
    let kind = named.or((mode == NetworkMode::CrossSubnet).then(Default::default));
    let tunnel = kind.map(|kind| Tunnel {
        kind,
        port: raw.port.map_or(kind.port_default(), |at| at.value.get()),
        vni: raw.vni.map_or(VNI_DEFAULT, |at| at.value.wide()),
        underlay: raw.underlay.map(|at| at.value).unwrap_or_default(),
    });
    let mut pod_devices: Vec<_> = each(&raw.pod_devices).map(|at| at.value.clone()).collect();
    pod_devices.sort();
    Network { mode, tunnel, mtu: raw.mtu.map(|at| at.value).unwrap_or_default(), pod_devices }
}
