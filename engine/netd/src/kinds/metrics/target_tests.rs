//! Listeners on loopback, by the promises that every target makes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::conformance::Subject;
use crate::metrics::Sources;
use crate::report::Report;
use netd_core::{Key, ResourceId};
use std::net::TcpListener;
use tokio::sync::watch;

fn target() -> MetricsTarget {
    let (_, reports) = watch::channel(Arc::new(Report::default()));
    let sources = Sources {
        reports,
        traffic: Arc::new(|| Ok(Vec::new())),
        flows: Arc::new(|| Ok(0)),
        decap: Arc::new(|| Ok(None)),
        nat: Arc::new(|| Ok(None)),
        strict: Arc::new(|| Ok(None)),
    };
    MetricsTarget::new(Arc::new(Page::new(sources)))
}

/// An address that nobody listens on; the kernel gives it to nobody else soon.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn resource(listen: SocketAddr) -> (Key, Arc<dyn Spec>) {
    let spec = MetricsSpec { listen };
    (spec.key(), Arc::new(spec))
}

fn create(listen: SocketAddr) -> Step {
    let (key, to) = resource(listen);
    Step { id: ResourceId { kind: NAME, key }, action: Action::Create { to } }
}

#[tokio::test]
async fn listeners_keep_what_every_target_promises() {
    let mut target = target();
    let mut subject = Subject {
        kind: NAME,
        target: &mut target,
        facts: || std::future::ready(Ok(Facts::default())),
        resources: [resource(free()), resource(free())],
        // Another address is another resource.
        updated: None,
    };
    subject.check().await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_outcome_and_is_tried_again() {
    let mut target = target();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let step = create(other.local_addr().unwrap());
    let outcomes = target.apply(std::slice::from_ref(&step), &Facts::default()).await;
    assert_eq!(outcomes, [Outcome::Failed("another program listens on this address".into())]);
    drop(other);
    assert_eq!(target.apply(&[step], &Facts::default()).await, [Outcome::Applied]);
}

#[tokio::test]
async fn an_address_of_another_machine_is_an_outcome() {
    let step = create("192.0.2.77:9471".parse().unwrap());
    let outcomes = target().apply(&[step], &Facts::default()).await;
    assert_eq!(outcomes, [Outcome::Failed("this machine does not have this address".into())]);
}

#[tokio::test]
async fn the_same_port_on_another_address_takes_the_place_of_the_first() {
    let mut target = target();
    let first = free();
    let every = SocketAddr::new("0.0.0.0".parse().unwrap(), first.port());
    for address in [first, every] {
        assert_eq!(
            target.apply(&[create(address)], &Facts::default()).await,
            [Outcome::Applied],
            "{address}"
        );
    }
    let observed = target.observe(&Facts::default()).await.unwrap();
    assert_eq!(observed.owned.keys().cloned().collect::<Vec<_>>(), [resource(every).0]);
    assert_eq!(observed.notes.len(), 1, "it is open to the network");
}
