//! `[metrics]`.

use super::table::raw_table;
use super::word::{Refused, Word, word_schema};
use crate::diagnostic::quote;
use schemars::{Schema, json_schema};
use std::net::{IpAddr, SocketAddr};

/// Where numbers are served if the table does not say: to the own machine only.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:9471";

raw_table! {
    /// Numbers for Prometheus, by HTTP at `/metrics`. Without the table none are served.
    pub(crate) struct Metrics {
        /// The address and the TCP port that answer. Whoever can reach them can read the numbers: no password is
        /// asked for.
        optional listen: Listen = LISTEN_DEFAULT, like "10.0.0.11:9471";
    }
}

/// An address and a port to listen on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listen(pub(crate) SocketAddr);

word_schema!(Listen);

impl Listen {
    /// [`LISTEN_DEFAULT`].
    pub(crate) fn standard() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 9471)))
    }
}

impl Word for Listen {
    const WHAT: &'static str = "an address and a port to listen on";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Ok(listen) = text.parse::<SocketAddr>() else {
            return Err(not_an_address(text));
        };
        if listen.port() == 0 {
            return Err(Refused::because("the port must be from 1 to 65535"));
        }
        if listen.ip().is_multicast() {
            return Err(Refused::because("a multicast address stands for many machines"));
        }
        Ok(Self(listen))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "an address and a port",
            "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+(%[0-9]+)?\\]):[0-9]+$",
        })
    }
}

fn not_an_address(text: &str) -> Refused {
    let why = "must be an address and a port, such as `127.0.0.1:9471` or `[::1]:9471`";
    let parts = text.rsplit_once(':');
    let write = match (text.parse::<IpAddr>(), parts) {
        (Ok(IpAddr::V4(ip)), _) => Some(format!("{ip}:9471")),
        (Ok(IpAddr::V6(ip)), _) => Some(format!("[{ip}]:9471")),
        (Err(_), Some(("", port))) => Some(format!("[::]:{port}")),
        (Err(_), Some(("localhost", port))) => Some(format!("127.0.0.1:{port}")),
        (Err(_), _) => None,
    };
    Refused { why: why.to_owned(), help: write.map(|write| format!("write {}", quote(&write))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_default_is_the_default() {
        let parsed = Listen::parse(LISTEN_DEFAULT).ok().map(|listen| listen.0);
        assert_eq!(parsed, Some(Listen::standard().0));
    }
}
