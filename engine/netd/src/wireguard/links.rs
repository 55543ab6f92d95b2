//! The links of WireGuard devices: made, marked by their alias, set up, deleted.

use super::Trouble;
use crate::facts::{Link, links};
use crate::netlink::{Answer, Connection, Request};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rustix::io::Errno;
use std::io;

/// The link with this name, now.
pub(super) async fn named(connection: &mut Connection, name: &str) -> Result<Option<Link>, String> {
    let links = links(connection).await.map_err(|error| format!("read links: {error}"))?;
    Ok(links.into_values().find(|link| link.name == name))
}

/// Makes a link of the kernel's WireGuard.
pub(super) async fn create(connection: &mut Connection, name: &str) -> Result<(), Trouble> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    match connection.change(Request { message: Message::NewLink(message), flags }).await {
        Answer::Done => Ok(()),
        Answer::Refused(Errno::EXIST) => Err(Trouble::Anothers(format!("a device called {name} appeared"))),
        Answer::Refused(Errno::OPNOTSUPP) => Err(Trouble::Unsupported),
        Answer::Refused(error) | Answer::Lost(error) => {
            Err(Trouble::Failed(failure("make the device", error)))
        }
    }
}

/// Marks a link as netd's.
pub(super) async fn mark(connection: &mut Connection, index: u32, alias: &str) -> Result<(), String> {
    let mut message = of(index);
    message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    change(connection, "mark the device", Message::SetLink(message)).await
}

/// Sets a link's MTU, and sets it up; `port` is the UDP port that it takes then.
pub(super) async fn set_up(
    connection: &mut Connection,
    index: u32,
    mtu: u32,
    port: u16,
) -> Result<(), String> {
    let mut message = of(index);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    match connection.change(Request { message: Message::SetLink(message), flags: 0 }).await {
        Answer::Done => Ok(()),
        Answer::Refused(Errno::ADDRINUSE) => Err(netd_wireguard::Error::PortInUse(port).to_string()),
        Answer::Refused(error) | Answer::Lost(error) => Err(failure("set up the device", error)),
    }
}

pub(super) async fn delete(connection: &mut Connection, index: u32) -> Result<(), String> {
    change(connection, "delete the device", Message::DelLink(of(index))).await
}

fn of(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

async fn change(connection: &mut Connection, what: &str, message: Message) -> Result<(), String> {
    match connection.change(Request { message, flags: 0 }).await {
        Answer::Done => Ok(()),
        Answer::Refused(error) | Answer::Lost(error) => Err(failure(what, error)),
    }
}

fn failure(what: &str, error: Errno) -> String {
    format!("{what}: {}", io::Error::from(error))
}
