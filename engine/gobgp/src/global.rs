//! The speaker as a whole: its AS, its identifier, and whether it listens.

use crate::Client;
use crate::api;
use crate::call::answered;
use crate::error::Error;
use std::net::Ipv4Addr;

/// Where a speaker listens that netd started: everywhere, as by default, and in another order than by default. It is
/// what the daemon keeps of how it was started and takes no part in its work; unlike a mark that is put there
/// afterwards, it cannot be missing because netd was killed in between.
const LISTENS: [&str; 2] = ["::", "0.0.0.0"];

/// What makes a daemon a BGP speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// The local AS, 1 to 4294967295.
    pub asn: u32,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// The TCP port on which sessions are accepted; `None`: sessions are only opened from here.
    pub listen_port: Option<u16>,
}

impl Client {
    /// What the daemon was started as; `None` when it was not started, or was restarted since.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn global(&self) -> Result<Option<Global>, Error> {
        let answer = answered("say what it is", self.api().get_bgp(api::GetBgpRequest {})).await?;
        let Some(global) = answer.global.filter(|global| global.asn != 0) else { return Ok(None) };
        let router_id = global.router_id.parse();
        let router_id =
            router_id.map_err(|_| Error::Undecodable(format!("router id {:?}", global.router_id)))?;
        // -1 says that it does not listen.
        let listen_port = u16::try_from(global.listen_port).ok().filter(|port| *port != 0);
        Ok(Some(Global { asn: global.asn, router_id, listen_port }))
    }

    /// Makes the daemon a speaker. Policies that it had are gone afterwards.
    ///
    /// # Errors
    ///
    /// Any of a call; [`Error::Refused`] also when the port cannot be had.
    pub async fn start(&self, global: &Global) -> Result<(), Error> {
        let Global { asn, router_id, listen_port } = global;
        let global = api::Global {
            asn: *asn,
            router_id: router_id.to_string(),
            listen_port: listen_port.map_or(-1, i32::from),
            listen_addresses: LISTENS.map(str::to_owned).into(),
            ..api::Global::default()
        };
        answered("start", self.api().start_bgp(api::StartBgpRequest { global: Some(global) }))
            .await
            .map(|_| ())
    }

    /// Whether netd made the daemon a speaker; otherwise somebody else did, and it is not netd's to stop.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn is_started_by_netd(&self) -> Result<bool, Error> {
        let answer = answered("say what it is", self.api().get_bgp(api::GetBgpRequest {})).await?;
        Ok(answer.global.is_some_and(|global| global.asn != 0 && global.listen_addresses == LISTENS))
    }

    /// Ends all sessions and forgets everything, also what is foreign. For a daemon that is netd's alone.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn stop(&self) -> Result<(), Error> {
        answered("stop", self.api().stop_bgp(api::StopBgpRequest {})).await
    }
}
