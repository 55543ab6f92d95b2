//! The numbers of the gateways of egress policies.

use super::encode::Out;
use crate::report::{GatewayReport, GatewaysReport};
use std::fmt;

/// Writes them; nothing where nobody watches them.
pub(super) fn encode(report: Option<&GatewaysReport>, out: &mut Out<'_>) -> fmt::Result {
    let Some(GatewaysReport { standing: _, gateways, hindrance: _ }) = report else { return Ok(()) };
    let each = |value: fn(&GatewayReport) -> bool| {
        gateways.iter().map(move |(node, gateway)| ([("node", node.as_str())], u64::from(value(gateway))))
    };
    let help = "1 while the gateway can be in force, as this node knows it.";
    out.gauge("netd_egress_gateway_up", help, each(|gateway| gateway.up))?;
    let help = "1 while the gateway answers this node.";
    out.gauge("netd_egress_gateway_answers", help, each(|gateway| gateway.answers))
}

#[cfg(test)]
mod tests {
    use super::super::encode::written;
    use super::*;

    #[test]
    fn a_gateway_that_others_hear_is_up_and_does_not_answer() {
        let one = GatewayReport { up: true, answers: false };
        let gateways = [("gw-1".to_owned(), one), ("gw-2".to_owned(), GatewayReport::default())].into();
        let report = GatewaysReport { gateways, ..GatewaysReport::default() };
        let page = written(move |out| encode(Some(&report), out));
        for line in [
            "netd_egress_gateway_up{node=\"gw-1\"} 1",
            "netd_egress_gateway_up{node=\"gw-2\"} 0",
            "netd_egress_gateway_answers{node=\"gw-1\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert_eq!(written(|out| encode(None, out)).trim(), "# EOF");
    }
}
