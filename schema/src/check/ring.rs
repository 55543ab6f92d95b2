//! Maglev tables: that the backends fit, and that what is said about them matters.

use super::backends::Summary;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{Algorithm, BackendFamily, Family, TABLE_SIZES, TableSize};
use crate::raw::{LoadBalancer, Service, each};
use crate::span::Span;

/// With fewer slots for each backend, their shares differ from the weights by more than some percent.
const SLOTS_PER_BACKEND: usize = 100;

/// `place` is where the backends are.
pub(super) fn check(
    service: &Service,
    balancer: Option<&LoadBalancer>,
    backends: &Summary,
    place: Span,
    diagnoses: &mut Diagnoses,
) {
    let size = service.table_size.or(balancer.and_then(|settings| settings.table_size));
    let (Some(size), count) = (size, largest(service, backends)) else { return };
    let TableSize::Fixed(slots) = size.value else { return };
    let slots = usize::try_from(slots).unwrap_or(usize::MAX);
    let enough =
        |wanted: usize| TABLE_SIZES.iter().find(|size| usize::try_from(**size).is_ok_and(|it| it >= wanted));
    if count > slots {
        diagnoses.push(|| {
            let draft = Draft::error(format!("{count} backends do not fit into a table of {slots} slots"))
                .label(size.span, "smaller than")
                .label(place, "these backends");
            match enough(count * SLOTS_PER_BACKEND).or(TABLE_SIZES.last()) {
                Some(larger) => draft.help(format!("take {larger}, or \"auto\"")),
                None => draft,
            }
        });
    } else if count * SLOTS_PER_BACKEND > slots
        && let Some(larger) = enough(count * SLOTS_PER_BACKEND).or(TABLE_SIZES.last())
        && usize::try_from(*larger).is_ok_and(|larger| larger > slots)
    {
        diagnoses.push(|| {
            Draft::warning(format!("{slots} slots do not share the traffic evenly between {count} backends"))
                .label(size.span, format!("fewer than {SLOTS_PER_BACKEND} slots for each of"))
                .label(place, "these backends")
                .help(format!("take {larger}, or \"auto\""))
        });
    }
}

/// Where each balancer chooses on its own, it does not matter what backends are called.
pub(super) fn names_without_use(service: &Service, diagnoses: &mut Diagnoses) {
    let (Some(algorithm), Some(names)) = (service.algorithm, service.hash_names) else { return };
    if algorithm.value == Algorithm::Random {
        diagnoses.push(|| {
            Draft::warning(
                "`hash_names` makes balancers choose alike, and `random` lets each choose on its own",
            )
            .label(names.span, "without use here")
            .label(algorithm.span, "because of this")
        });
    }
}

/// How many backends the largest table of the service has; each family of VIPs has its own.
fn largest(service: &Service, backends: &Summary) -> usize {
    let has_vip = |family: &Family| {
        service.pool.is_some() || each(&service.vips).any(|vip| Family::of(vip.value.0) == *family)
    };
    let count = |family| backends.of(family).count;
    match service.backend_family.map(|at| at.value).unwrap_or_default() {
        BackendFamily::Same => Family::BOTH.into_iter().filter(has_vip).map(count).max().unwrap_or(0),
        BackendFamily::Ipv4 => count(Family::Ipv4),
        BackendFamily::Ipv6 => count(Family::Ipv6),
    }
}
