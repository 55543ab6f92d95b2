//! A kernel that has no memory for maps, or no bpf(2) at all.

use netd_integration_tests::desired::{Service, file_with};
use netd_integration_tests::restless;
use netd_integration_tests::{Bed, Lab};
use std::collections::BTreeSet;
use std::process::Stdio;

/// Another hop limit is a constant of the program: it is loaded anew.
fn text(hop_limit: u8) -> String {
    let steady = [10, 11].map(|vip| {
        Service::new(&format!("steady-{vip}"), vip).port("udp", 53, 53).backend(1).backend(2).backend(3)
    });
    file_with(&format!("devices = [\"eth0\"]\nhop_limit = {hop_limit}"), &steady)
}

/// The program on the device, as `ip link` names it.
fn program(bed: &Bed) -> String {
    let shown = bed.lb.ip(&["link", "show", "eth0"]);
    shown.lines().find(|line| line.contains("prog/xdp")).unwrap_or_default().trim().to_owned()
}

/// Each moment takes two runs of netd, one of them under strace.
const MOMENTS_MAX: usize = 4;

/// So many at most, from the first to the last.
fn some_of(moments: &BTreeSet<(String, usize)>) -> Vec<(String, usize)> {
    let mut moments: Vec<_> = moments.iter().cloned().collect();
    moments.sort_by_key(|&(_, count)| count);
    let last = moments.len().saturating_sub(1);
    let picked: BTreeSet<usize> = (0..MOMENTS_MAX).map(|step| step * last / (MOMENTS_MAX - 1)).collect();
    picked.into_iter().filter_map(|at| moments.get(at).cloned()).collect()
}

#[test]
fn k2_without_memory_for_maps_the_old_program_and_its_maps_stay() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    bed.write(&text(60));
    bed.apply();
    bed.write(&text(61));
    let (said, trace) = bed.traced(&["apply"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let moments = trace.moments_of("BPF_MAP_CREATE");
    let some = some_of(&moments);
    let flows = restless::flows(&bed);
    let mut refused = 0;
    for (moment, hop_limit) in some.iter().zip([60, 61].into_iter().cycle()) {
        let before = program(&bed);
        bed.write(&text(hop_limit));
        let said = bed.refused_at(moment, "ENOMEM", &["apply"]);
        // Which thread of several makes a call is not the same in every run.
        if said.code == Some(1) {
            refused += 1;
            assert_eq!(program(&bed), before, "{moment:?}: {said:?}");
            let is_named =
                ["the kernel did not take program xdp_lb: ", "bpf(2) is refused: there is no memory"];
            assert!(is_named.iter().any(|words| said.out.contains(words)), "{moment:?}: {said:?}");
        }
        bed.apply();
        assert_ne!(program(&bed), before);
    }
    eprintln!("{refused} of {} calls refused, of {} that there are", some.len(), moments.len());
    assert!(refused > 0, "none of {} calls", some.len());
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    restless::assert_whole(flows);
}

#[test]
fn k4_a_kernel_without_bpf_is_named_and_the_rest_works() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let nodes = "\n[[nodes]]\nname = \"lb\"\naddresses = [\"10.0.0.254\"]\n\n[[nodes]]\nname = \"other\"\n\
                 addresses = [\"10.0.0.1\"]\npod_cidrs = [\"10.244.1.0/24\"]\n";
    bed.write(&(text(60) + nodes));
    // The tracer is nobody's parent, so that what is ended is netd.
    let without =
        ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=bpf", "-e", "inject=bpf:error=ENOSYS"];
    let netd = bed.spawn_under(&without, Stdio::null());
    let report =
        bed.wait("degraded", |report| report["word"] == "degraded" && report["kinds"]["route"]["ready"] == 1);
    let all = report["not_ready"].as_array().unwrap();
    let balancer = all.iter().find(|one| one["kind"] == "balancer").unwrap()["message"].as_str().unwrap();
    assert!(
        balancer.contains("bpf(2) is refused: the kernel was built without it, or a sandbox"),
        "{report:#}"
    );
    assert!(balancer.contains("unction not implemented"), "{report:#}");
    assert!(bed.lb.ip(&["route", "show", "proto", "177"]).contains("10.244.1.0/24"));
    drop(netd);
    let netd = bed.start_ok();
    assert!(!program(&bed).is_empty());
    netd.stop();
}

/// What the kernel can do is not asked while it refuses everything: the answer would be remembered.
#[test]
fn k2_a_netd_that_met_a_kernel_without_memory_goes_on_when_there_is_some() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    bed.write("version = 1\n");
    let netd = bed.start_ok();
    bed.with_bpf_refused(netd.pid(), "ENOMEM", || {
        bed.write(&text(60));
        let report = bed.wait("degraded", |report| {
            let all = report["not_ready"].as_array().cloned().unwrap_or_default();
            report["word"] == "degraded" && all.iter().any(|one| one["kind"] == "balancer")
        });
        assert!(report.to_string().contains("bpf(2) is refused: there is no memory for it"), "{report:#}");
        assert!(program(&bed).is_empty());
    });
    bed.wait_ok();
    assert!(!program(&bed).is_empty());
    netd.stop();
}
