//! Says beside the counters of a backend why it is out of force.

use super::in_force::why_not;
use super::verdict::{BackendId, Unhealthy, Verdicts};
use crate::kinds::service::{BackendTraffic, ServiceTraffic, state_word};
use netd_schema::BackendState;

/// Adds to backends that are out of force for their health why they are.
pub fn tell_why(services: &mut [ServiceTraffic], verdicts: &Verdicts) {
    let word = state_word(BackendState::Quarantined);
    for service in services {
        let name = &service.service;
        for backend in service.backends.iter_mut().filter(|backend| backend.state == word) {
            let mut of_service = verdicts.unhealthy.iter().filter(|(group, _)| group.service == *name);
            let mut known = of_service.find_map(|(_, known)| known.iter().find(|(id, _)| is_it(id, backend)));
            backend.why = known.take().map(|(_, unhealthy): (_, &Unhealthy)| why_not(unhealthy));
        }
    }
}

/// A backend without a port of its own has those of its service.
fn is_it(id: &BackendId, backend: &BackendTraffic) -> bool {
    id.address == backend.address && id.port.is_none_or(|port| port == backend.port)
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Group;
    use super::*;

    #[test]
    fn a_backend_says_why_it_is_out_of_force_and_one_that_is_not_says_nothing() {
        let unhealthy = Unhealthy { since_unix_ms: 1000, why: "connection refused".into() };
        let id = |last| BackendId { address: [10, 0, 0, last].into(), port: None };
        let group = Group { service: "web".into(), vip: [192, 0, 2, 10].into() };
        let known = [(id(1), unhealthy.clone()), (id(2), unhealthy)].into();
        let verdicts = Verdicts { unhealthy: [(group, known)].into(), ..Verdicts::default() };
        let quarantined = |last| BackendTraffic {
            state: "quarantined".into(),
            ..BackendTraffic::active([10, 0, 0, last], 0)
        };
        // The second is below its floor, and in force; the third was taken out by the file.
        let backends = vec![quarantined(1), BackendTraffic::active([10, 0, 0, 2], 0), quarantined(3)];
        let other =
            ServiceTraffic { service: "dns".into(), backends: backends.clone(), ..Default::default() };
        let mut services = [ServiceTraffic { service: "web".into(), backends, ..Default::default() }, other];
        tell_why(&mut services, &verdicts);
        let said: Vec<_> = services[0].backends.iter().map(|backend| backend.why.as_deref()).collect();
        assert_eq!(said, [Some("unhealthy since 1970-01-01 00:00:01Z: connection refused"), None, None]);
        assert!(services[1].backends.iter().all(|backend| backend.why.is_none()));
    }
}
