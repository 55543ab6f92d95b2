//! The numbers of strict mode.

use super::encode::Out;
use netd_bpf::strict::abi::Counts;
use std::fmt;

/// What was dropped, by where it was found; nothing on a node without strict mode.
pub(super) fn encode(counted: Option<&Counts>, out: &mut Out<'_>) -> fmt::Result {
    let Some(counts) = counted else { return Ok(()) };
    let reasons = by_reason(counts).map(|(reason, count)| ([("reason", reason)], count));
    let help =
        "Packets that were dropped because they were to be encrypted and were not, by where that was found.";
    out.counter("netd_strict_dropped_packets", help, reasons.into_iter())
}

/// The counts, each under the name of its reason.
pub(crate) fn by_reason(counts: &Counts) -> [(&'static str, u64); 5] {
    let Counts { out_plain, out_tunnel, out_fragment, in_plain, in_tunnel, reserved: _ } = *counts;
    [
        ("out-plain", out_plain),
        ("out-tunnel", out_tunnel),
        ("out-fragment", out_fragment),
        ("in-plain", in_plain),
        ("in-tunnel", in_tunnel),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::encode::written;
    use super::*;

    #[test]
    fn what_was_dropped_is_on_the_page_by_its_reason() {
        let counts = Counts { out_plain: 7, in_tunnel: 3, ..Counts::default() };
        let page = written(move |out| encode(Some(&counts), out));
        for line in [
            "netd_strict_dropped_packets_total{reason=\"out-plain\"} 7",
            "netd_strict_dropped_packets_total{reason=\"out-tunnel\"} 0",
            "netd_strict_dropped_packets_total{reason=\"in-tunnel\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert_eq!(written(|out| encode(None, out)).trim(), "# EOF");
    }
}
