//! `[decap]`.

use super::List;
use super::number::PortNumber;
use super::table::raw_table;
use super::word::{DeviceName, Prefix};
use crate::model::GUE_PORT_DEFAULT;

raw_table! {
    /// Taking packets out of the load balancer's tunnel, on a node that is a backend, before the network stack sees
    /// them. Other tunnels to this node are left to it: those with packets for others than the VIPs of the file's
    /// services, its pools and `to`. A tunnel with packets for these that is not from a load balancer is dropped.
    pub(crate) struct Decap {
        /// The devices on which tunnelled packets arrive. None of them may be one of `load_balancer.devices`.
        required devices: List<DeviceName, 1>, like ["eth0"];
        /// The outer sources that are believed: the addresses of the load balancers, or their
        /// `load_balancer.rss_source`.
        required from: List<Prefix, 1>, like ["10.100.0.0/16"];
        /// Inner destinations that are taken besides the VIPs and pools of the file.
        optional to: List<Prefix> = [""; 0], like ["198.51.100.0/24"];
        /// The UDP port on which GUE arrives: `load_balancer.gue_port` of the senders.
        optional gue_port: PortNumber = GUE_PORT_DEFAULT;
    }
}
