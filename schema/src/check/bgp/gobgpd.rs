//! Which gobgpd, and what it is known by.

use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Bgp, GobgpdWord};

pub(super) fn check(bgp: &Bgp, diagnoses: &mut Diagnoses) {
    let https = bgp.gobgpd.as_ref().filter(|at| matches!(at.value, GobgpdWord::Https(_)));
    match (&bgp.tls, https) {
        (None, Some(https)) => diagnoses.push(|| {
            Draft::error("a gobgpd behind `https` needs `bgp.tls`")
                .label(https.span, "which authority vouches for it is not said")
                .help("write `tls = { ca = \"/etc/netd/gobgpd-ca.pem\" }`")
        }),
        (Some(tls), None) => diagnoses.push(|| {
            let draft = Draft::error("`bgp.tls` has no meaning without a gobgpd behind `https`")
                .label(tls.span, "used by nothing");
            match &bgp.gobgpd {
                Some(gobgpd) => draft.label(gobgpd.span, "not behind `https`"),
                None => draft.help("give its address: `gobgpd = \"https://HOST:PORT\"`"),
            }
        }),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let Some(tls) = &bgp.tls else { return };
    let pair = [(&tls.value.certificate, "certificate"), (&tls.value.key, "key")];
    if let [(Some(given), name), (None, missing)] | [(None, missing), (Some(given), name)] = pair {
        diagnoses.push(|| {
            Draft::error(format!("`bgp.tls` has a `{name}` and no `{missing}`"))
                .label(given.span, "of no use alone")
                .label(tls.span, format!("`{missing}` must be given here"))
        });
    }
}
