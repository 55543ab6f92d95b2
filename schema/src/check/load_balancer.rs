//! The load balancer's own settings.

use super::{Once, rss_source};
use crate::diagnostic::Diagnoses;
use crate::raw::{LoadBalancer, Top, each};

pub(super) fn check(settings: &LoadBalancer, top: &Top, diagnoses: &mut Diagnoses) {
    let mut devices = Once::new();
    for device in each(&settings.devices) {
        let what = || format!("the device `{}` is given twice", device.value.0);
        devices.claim(&device.value, device.span, diagnoses, what);
    }
    rss_source::check(settings, top, diagnoses);
}
