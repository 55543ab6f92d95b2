//! What a daemon says by itself: that sessions change, and, by ending, that it is gone.

use crate::Client;
use crate::api::{self, watch_event_request, watch_event_response};
use crate::call::{answered, failure};
use crate::error::Error;
use crate::peer::SessionState;
use crate::peer_wire::session_state;
use std::net::IpAddr;
use tonic::Streaming;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session is now in this state; at the start of a watch also for every peer that is there.
    Session {
        /// The peer's address.
        peer: IpAddr,
        /// Where it stands.
        state: SessionState,
    },
}

/// The daemon's events. While it lasts, the daemon lives.
#[derive(Debug)]
pub struct Watch(Streaming<api::WatchEventResponse>);

impl Client {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// Any of a call.
    pub async fn watch(&self) -> Result<Watch, Error> {
        let request = api::WatchEventRequest { peer: Some(watch_event_request::Peer {}), table: None };
        answered("tell its events", self.api().watch_event(request)).await.map(Watch)
    }
}

impl Watch {
    /// The next event, whenever it comes.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`]: the daemon ended.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let call = "tell its events";
        loop {
            let answer = self.0.message().await.map_err(|status| failure(call, &status))?;
            let Some(answer) = answer else {
                return Err(Error::Gone { call, reason: "the daemon ended".into() });
            };
            if let Some(event) = event(answer) {
                return Ok(event);
            }
        }
    }
}

fn event(answer: api::WatchEventResponse) -> Option<Event> {
    match answer.event? {
        watch_event_response::Event::Peer(event) => {
            let state = event.peer?.state?;
            let peer = state.neighbor_address.parse().ok()?;
            Some(Event::Session { peer, state: session_state(state.session_state) })
        }
        watch_event_response::Event::Table(_) => None,
    }
}
