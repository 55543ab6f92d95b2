//! Health checks: times that fit, and only keys that the kind of check uses.

use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{self, HealthKind};
use crate::raw::{HealthCheck, shown};
use crate::span::Span;

pub(super) fn check(check: &HealthCheck, diagnoses: &mut Diagnoses) {
    times(check, diagnoses);
    foreign_keys(check, diagnoses);
    if let Some(kind) = check.kind.filter(|kind| kind.value == HealthKind::Udp)
        && check.send.is_none()
    {
        diagnoses.push(|| {
            Draft::warning("the check sends an empty datagram")
                .label(kind.span, "few services answer that")
                .help("give in `send` what they answer")
        });
    }
}

/// A check ends before the next begins.
fn times(check: &HealthCheck, diagnoses: &mut Diagnoses) {
    let standard = model::HealthCheck::default();
    let interval = check.interval.map_or(standard.interval, |at| at.value.0);
    let timeout = check.timeout.map_or(standard.timeout, |at| at.value.0);
    if timeout <= interval {
        return;
    }
    diagnoses.push(|| {
        let (timeout, interval) = (shown(timeout), shown(interval));
        let draft = Draft::error(format!("the `timeout` {timeout} is longer than the `interval` {interval}"));
        match (check.timeout, check.interval) {
            (Some(given), None) => {
                draft.label(given.span, format!("longer than {interval}, the default of `interval`"))
            }
            (None, Some(given)) => {
                draft.label(given.span, format!("shorter than {timeout}, the default of `timeout`"))
            }
            (Some(one), Some(other)) => draft
                .label(one.span, "an answer is waited for so long")
                .label(other.span, "and asked again after"),
            (None, None) => draft,
        }
    });
}

/// Nothing in the file may be ignored silently.
fn foreign_keys(check: &HealthCheck, diagnoses: &mut Diagnoses) {
    use HealthKind::{Http, Https, Tcp, Udp};
    let Some(kind) = check.kind else { return };
    let http: &[HealthKind] = &[Http, Https];
    let of = |span: Option<Span>, key: &'static str, kinds| (span, key, kinds);
    let keys: [(Option<Span>, &str, &[HealthKind]); 6] = [
        of(check.path.as_ref().map(|at| at.span), "path", http),
        of(check.host.as_ref().map(|at| at.span), "host", http),
        of(check.status.as_ref().map(|at| at.span), "status", http),
        of(check.send.as_ref().map(|at| at.span), "send", &[Udp]),
        of(check.expect.as_ref().map(|at| at.span), "expect", &[Udp]),
        of(check.port.map(|at| at.span), "port", &[Tcp, Http, Https, Udp]),
    ];
    for (span, key, kinds) in keys {
        let Some(span) = span.filter(|_| !kinds.contains(&kind.value)) else { continue };
        diagnoses.push(|| {
            let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
            let name = kind.value.name();
            Draft::error(format!("`{key}` has no meaning in a check by `{name}`"))
                .label(span, format!("used by {}", names.join(", ")))
                .label(kind.span, format!("this check is `{name}`"))
        });
    }
}
