//! Decides which backends of a service are meant by an address, and whether they can be drained.

use crate::commands::traffic::hint;
use anyhow::{Context as _, bail};
use netd_schema::{Backend, BackendState, Config, Service};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A backend as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    address: IpAddr,
    /// Where it is to be reached; `None` means all of its ports.
    port: Option<u16>,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { address, port: None });
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(Ok(address)) = bare.map(str::parse) {
            return Ok(Self { address: IpAddr::V6(address), port: None });
        }
        let socket: SocketAddr = text.parse().ok().with_context(|| {
            format!("`{text}` is no backend; write 10.1.0.2, 10.1.0.2:8080 or [fd00::2]:80")
        })?;
        Ok(Self { address: socket.ip(), port: Some(socket.port()) })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.address, port)),
            None => write!(f, "{}", self.address),
        }
    }
}

impl Place {
    /// Whether packets to this address and port are meant.
    pub(super) fn includes(self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|own| own == port)
    }
}

/// What is to become of the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// No new flows.
    Drain,
    /// New flows again.
    Undo,
}

impl Wish {
    /// The state that the file is to say.
    pub(super) fn state(self) -> BackendState {
        match self {
            Self::Drain => BackendState::Terminating,
            Self::Undo => BackendState::Active,
        }
    }
}

/// What tells a backend of a file from the others of its service: its address, and the port that it names itself.
pub(super) type Entry = (IpAddr, Option<u16>);

/// The service of this name.
///
/// # Errors
///
/// That there is none, with the name that was probably meant.
pub(super) fn service<'c>(config: &'c Config, name: &str) -> anyhow::Result<&'c Service> {
    config.services.iter().find(|service| service.name == name).with_context(|| {
        let known = config.services.iter().map(|service| service.name.as_str());
        format!("the file has no service `{name}`{}", hint(name, known))
    })
}

/// The backends of the service that are meant and are not yet as wished; none, if all are.
///
/// # Errors
///
/// That there is no such backend, that the port cannot be taken out by itself, or that the backend gets no traffic for
/// another reason.
pub(super) fn entries(service: &Service, place: Place, wish: Wish) -> anyhow::Result<BTreeSet<Entry>> {
    let meant = meant(service, place)?;
    for backend in &meant {
        let word = match backend.state {
            BackendState::Active | BackendState::Terminating => continue,
            BackendState::Quarantined => "quarantined",
            BackendState::Maintenance => "in maintenance",
        };
        bail!(
            "{place} is {word}: it has no flows to lose and gets none; change its `state` in the file if that is meant"
        );
    }
    let is_to_change = |backend: &&&Backend| backend.state != wish.state();
    Ok(meant.iter().filter(is_to_change).map(|backend| (backend.address, backend.port)).collect())
}

fn meant(service: &Service, place: Place) -> anyhow::Result<Vec<&Backend>> {
    let at_address: Vec<&Backend> =
        service.backends.iter().filter(|backend| backend.address == place.address).collect();
    if at_address.is_empty() {
        let all: BTreeSet<String> = service.backends.iter().map(|one| one.address.to_string()).collect();
        let known = all.iter().map(String::as_str);
        bail!(
            "service `{}` has no backend {}{}",
            service.name,
            place.address,
            hint(&place.address.to_string(), known)
        );
    }
    let Some(port) = place.port else { return Ok(at_address) };
    let ports = |backend: &Backend| -> BTreeSet<u16> {
        service.ports.iter().map(|port| backend.port_for(port)).collect()
    };
    let at_port: Vec<&Backend> =
        at_address.iter().copied().filter(|backend| ports(backend).contains(&port)).collect();
    let listed = |ports: BTreeSet<u16>| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    if at_port.is_empty() {
        let known = at_address.iter().flat_map(|backend| ports(backend)).collect();
        bail!("{} is a backend of `{}` at port {}", place.address, service.name, listed(known));
    }
    match at_port.iter().find(|backend| ports(backend).len() > 1) {
        Some(backend) => bail!(
            "{} is one backend at the ports {}: its state is that of all of them; name it without a port",
            place.address,
            listed(ports(backend))
        ),
        None => Ok(at_port),
    }
}

/// Whether new flows to a VIP of the service would find no backend of its family after this.
pub(super) fn is_last(service: &Service, entries: &BTreeSet<Entry>) -> bool {
    let takes_flows = |backend: &&Backend| backend.state == BackendState::Active && backend.weight > 0;
    let is_left = |backend: &Backend| !entries.contains(&(backend.address, backend.port));
    entries.iter().any(|(address, _)| {
        let mut family = service
            .backends
            .iter()
            .filter(takes_flows)
            .filter(|backend| backend.address.is_ipv4() == address.is_ipv4());
        !family.any(is_left)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const FILE: &str = r#"version = 1

[[services]]
name = "web"
vips = ["192.0.2.10", "2001:db8:100::10"]
ports = [{ protocol = "tcp", port = 80, backend_port = 8080 }, { protocol = "tcp", port = 443 }]
backends = [
  { address = "10.1.0.2" },
  { address = "10.1.0.3", port = 9000 },
  { address = "10.1.0.3", port = 9001, state = "terminating" },
  { address = "10.1.0.4", state = "maintenance" },
  { address = "fd00::2", port = 80 },
]
"#;

    fn config() -> Config {
        netd_schema::parse("desired.toml", FILE.as_bytes()).unwrap().config
    }

    fn entries_of(place: &str, wish: Wish) -> Result<BTreeSet<Entry>, String> {
        let config = config();
        let web = service(&config, "web").unwrap();
        entries(web, place.parse().unwrap(), wish).map_err(|error| error.to_string())
    }

    #[test]
    fn a_backend_is_named_by_its_address_with_or_without_a_port() {
        for (text, port) in [
            ("10.1.0.2", None),
            ("10.1.0.2:8080", Some(8080)),
            ("fd00::2", None),
            ("[fd00::2]", None),
            ("[fd00::2]:80", Some(80)),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.port, port, "{text}");
        }
        for text in ["", "web", "10.1.0.2:", "10.1.0.2:0x50", "10.1.0.2:99999", "fd00::2:80:90::"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_alone_means_every_port() {
        let both = entries_of("10.1.0.3", Wish::Drain).unwrap();
        assert_eq!(both.into_iter().collect::<Vec<_>>(), [([10, 1, 0, 3].into(), Some(9000))]);
        assert_eq!(entries_of("10.1.0.3:9001", Wish::Drain).unwrap().len(), 0, "drains already");
        assert_eq!(entries_of("10.1.0.3", Wish::Undo).unwrap().len(), 1);
        assert_eq!(entries_of("[fd00::2]:80", Wish::Drain).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_drained_is_said() {
        for (place, part) in [
            ("10.1.0.9", "did you mean `10.1.0."),
            ("10.1.0.2:8080", "one backend at the ports 443, 8080"),
            ("10.1.0.3:1", "at port 9000, 9001"),
            ("10.1.0.4", "in maintenance"),
        ] {
            let why = entries_of(place, Wish::Drain).unwrap_err();
            assert!(why.contains(part), "{place}: {why}");
        }
        let why = service(&config(), "wbe").unwrap_err().to_string();
        assert_eq!(why, "the file has no service `wbe`; did you mean `web`?");
    }

    #[test]
    fn the_last_backend_of_a_family_is_known_as_such() {
        let config = config();
        let web = service(&config, "web").unwrap();
        let is_last = |place: &str| is_last(web, &entries(web, place.parse().unwrap(), Wish::Drain).unwrap());
        assert!(is_last("fd00::2"));
        assert!(!is_last("10.1.0.2"));
    }
}
