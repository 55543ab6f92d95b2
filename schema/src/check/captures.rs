//! Captures: unique names, and nodes that there are.

use super::Once;
use super::reference::Reference;
use crate::diagnostic::Diagnoses;
use crate::raw::{Top, each};

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let mut names = Once::new();
    let is_whole = top.nodes.as_ref().is_none_or(|nodes| nodes.value.complete);
    let nodes: Option<Vec<&str>> = each(&top.nodes)
        .map(|node| Some(node.value.name.as_ref()?.value.0.as_str()))
        .collect::<Option<_>>()
        .filter(|_| is_whole);
    for capture in each(&top.captures).map(|at| &at.value) {
        if let Some(name) = &capture.name {
            let what = || format!("two captures are called `{}`", name.value.0);
            names.claim(&name.value, name.span, diagnoses, what);
        }
        let mut recording = Once::new();
        for node in each(&capture.nodes) {
            let what = || format!("node `{}` records it twice", node.value.0);
            recording.claim(&node.value, node.span, diagnoses, what);
            let name = node.value.0.as_str();
            let Some(nodes) = nodes.as_ref().filter(|nodes| !nodes.contains(&name)) else { continue };
            Reference { what: "node", header: "[[nodes]]", name, span: node.span }
                .unknown(nodes.iter().copied(), diagnoses);
        }
    }
}
