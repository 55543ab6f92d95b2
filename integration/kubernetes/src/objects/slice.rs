//! An EndpointSlice, reduced: a cluster may have a hundred thousand endpoints, of each of which an address matters here,
//! and whether it is to be given traffic.

use crate::note::plain;
use k8s_openapi::api::discovery::v1::{Endpoint as Given, EndpointPort, EndpointSlice};
use netd_schema::Protocol;
use std::net::IpAddr;

/// The label that names the service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// So many mistakes of one slice are told; the rest is counted.
const PROBLEMS_MAX: usize = 5;

/// What a slice says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The name of the service in the same namespace.
    pub(crate) service: Option<String>,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// What of it cannot be used, and why.
    pub(crate) problems: Vec<String>,
    /// Whether zones or nodes are named that the endpoints are for.
    pub(crate) has_hints: bool,
}

/// A port of all endpoints of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlicePort {
    /// The name of the service's port; empty for its only one.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    /// `None` is whatever port was asked for.
    pub(crate) port: Option<u16>,
}

/// An address of the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) state: State,
}

/// Whether it is given traffic; where an address is there twice, the first of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// New and established flows.
    Active,
    /// Established flows: it still serves, and will end.
    Terminating,
    /// None: it is not ready.
    Quarantined,
}

impl Slice {
    pub(crate) fn of(given: &EndpointSlice) -> Self {
        let labels = given.metadata.labels.as_ref();
        let mut slice =
            Self { service: labels.and_then(|labels| labels.get(SERVICE_LABEL)).cloned(), ..Self::default() };
        let wants_ipv4 = match given.address_type.as_str() {
            "IPv4" => true,
            "IPv6" => false,
            other => {
                let other = plain(other);
                slice
                    .problems
                    .push(format!("its addresses are of the type `{other}`, which netd cannot send to"));
                return slice;
            }
        };
        let mut problems = Vec::new();
        for port in given.ports.iter().flatten() {
            match read_port(port) {
                Ok(port) => slice.ports.push(port),
                Err(problem) => problems.push(problem),
            }
        }
        for endpoint in &given.endpoints {
            slice.has_hints |= endpoint.hints.is_some();
            match read_endpoint(endpoint, wants_ipv4) {
                Ok(endpoint) => slice.endpoints.push(endpoint),
                Err(problem) => problems.push(problem),
            }
        }
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        slice.problems = problems;
        if more > 0 {
            slice.problems.push(format!("{more} more of its endpoints cannot be used"));
        }
        slice
    }
}

fn read_port(given: &EndpointPort) -> Result<SlicePort, String> {
    let name = given.name.clone().unwrap_or_default();
    let protocol = read_protocol(given.protocol.as_deref())?;
    let port = match given.port {
        None => None,
        Some(number) => Some(read_number(number)?),
    };
    Ok(SlicePort { name, protocol, port })
}

/// The protocol of a port; without one it is TCP.
pub(crate) fn read_protocol(given: Option<&str>) -> Result<Protocol, String> {
    match given.unwrap_or("TCP") {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Err("SCTP is not supported by this version".to_owned()),
        other => Err(format!("the protocol `{}` is not known", plain(other))),
    }
}

/// A port that packets can be sent to.
pub(crate) fn read_number(given: i32) -> Result<u16, String> {
    let number = u16::try_from(given).ok().filter(|number| *number != 0);
    number.ok_or_else(|| format!("{given} is no port: it must be 1 to 65535"))
}

fn read_endpoint(given: &Given, wants_ipv4: bool) -> Result<Endpoint, String> {
    // Consumers look at the first only, says the API.
    let Some(text) = given.addresses.first() else {
        return Err("an endpoint has no address".to_owned());
    };
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(format!("`{}` is no address", plain(text)));
    };
    if address.is_ipv4() != wants_ipv4 {
        let family = if wants_ipv4 { "IPv4" } else { "IPv6" };
        return Err(format!("{address} is in a slice for {family}"));
    }
    if let Some(why) = netd_schema::unusable_address(address) {
        return Err(format!("{address} cannot be a backend: {why}"));
    }
    let conditions = given.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let state = match (ready, serving, terminating) {
        (true, _, false) => State::Active,
        // With `publishNotReadyAddresses` one that ends may still call itself ready.
        (true, _, true) | (false, true, true) => State::Terminating,
        (false, false, true) | (false, _, false) => State::Quarantined,
    };
    Ok(Endpoint { address, state })
}
