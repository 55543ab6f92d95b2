//! `[masquerade]`.

use super::List;
use super::number::Within;
use super::table::raw_table;
use super::word::{Address, DeviceName, Prefix, Refused, Word, word_schema};
use crate::diagnostic::quote;
use crate::model::{FLOWS_DEFAULT, FLOWS_MAX, FLOWS_MIN, PortRange};
use schemars::{Schema, json_schema};

/// Room for flows.
pub(crate) type Flows = Within<{ FLOWS_MIN }, { FLOWS_MAX }>;

raw_table! {
    /// Packets of this node's pods that leave the network get an address of the node, and what answers them is turned
    /// around: TCP, UDP and pings, and errors about them, of both families. Other protocols do not leave then. What is
    /// for pods of any node goes as it is; so does what is for other nodes, where packets travel to them directly.
    pub(crate) struct Masquerade {
        /// The devices by which packets leave the network. Without it, those of the default routes.
        optional devices: List<DeviceName, 1>, like ["eth0"];
        /// Whose packets are translated. Without it, the `pod_cidrs` of this node.
        optional source: List<Prefix, 1>, like ["10.244.1.0/24", "fd00:244:1::/64"];
        /// Destinations to which packets go as they are.
        optional exclude: List<Prefix> = [""; 0], like ["10.0.0.0/8", "fd00::/8"];
        /// What packets get: an address of a family at most, which the node has. Without one of a family, that of the
        /// device that they leave by.
        optional addresses: List<Address, 1, 2>, like ["192.0.2.1", "2001:db8::1"];
        /// The ports that are given away, and numbers of pings. They should be none that the kernel gives to sockets
        /// of the node (`net.ipv4.ip_local_port_range`); ports at which the node listens are left out by themselves.
        optional ports: PortRange = "1024-32767", like "20000-29999";
        /// Flows at the same time. Each takes about 200 bytes, when it is there.
        optional flows: Flows = FLOWS_DEFAULT;
    }
}

word_schema!(PortRange);

impl Word for PortRange {
    const WHAT: &'static str = "a range of ports";

    fn parse(text: &str) -> Result<Self, Refused> {
        let port = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
            text.parse::<u16>().ok().filter(|port| is_plain && *port > 0)
        };
        let Some((first, last)) = text.split_once('-') else {
            let help = port(text).map(|port| format!("write {}", quote(&format!("{port}-{port}"))));
            return Err(Refused { why: "two ports from 1 to 65535, with a `-` between them".into(), help });
        };
        let (Some(first), Some(last)) = (port(first), port(last)) else {
            return Err(Refused::because("both have to be ports from 1 to 65535"));
        };
        if first > last {
            let help = Some(format!("write {}", quote(&format!("{last}-{first}"))));
            return Err(Refused { why: "ends before it begins".into(), help });
        }
        Ok(Self { first, last })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "a range of ports",
            "pattern": "^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}$",
        })
    }
}
