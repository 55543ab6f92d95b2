//! What is as it should be is not touched, and looking changes nothing: counted by system calls.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::{Bed, Lab};
use serde_json::Value;

fn some_services() -> [Service; 2] {
    let web = Service::new("web", 10).port("tcp", 80, 8080).backend(1).backend(2);
    [web, Service::new("dns", 11).port("udp", 53, 53).backend_with(2, "weight = 7")]
}

#[test]
fn s1_a_second_apply_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    bed.write(&file(&some_services()));
    let (said, trace) = bed.traced(&["apply"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let changes = trace.changes(&bed);
    for word in
        ["BPF_PROG_LOAD", "BPF_LINK_CREATE", "BPF_OBJ_PIN", "BPF_MAP_UPDATE", "RTM_NEWNEIGH", "last-good"]
    {
        assert!(
            changes.iter().any(|call| call.contains(word)),
            "the trace does not show {word}: {changes:#?}"
        );
    }
    let (before, history) = (bed.kernel_state(), bed.netd(&["history", "--json"]).out);
    let (said, trace) = bed.traced(&["apply"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    // A database is not opened without writing to it; what it says is not changed.
    let database = bed.state_dir().join("db").display().to_string();
    let is_of_database = |call: &&str| call.contains(&database);
    let others: Vec<&str> = trace.changes(&bed).into_iter().filter(|call| !is_of_database(call)).collect();
    assert_eq!(others, Vec::<&str>::new());
    assert_eq!(bed.kernel_state(), before);
    assert_eq!(bed.netd(&["history", "--json"]).out, history);
}

#[test]
fn c27_the_same_content_in_a_new_file_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    bed.write(&file(&some_services()));
    let netd = bed.start_ok();
    // Neighbours have been resolved, and what was done is on disk.
    bed.wait_quiet(&netd);
    let before = (bed.kernel_state(), bed.status()["pass"]["number"].as_u64());
    let trace = bed.traced_while(netd.pid(), || {
        bed.write(&file(&some_services()));
        std::thread::sleep(std::time::Duration::from_millis(1000));
        let said = bed.netd(&["apply"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    });
    assert!(trace.calls.len() > 3, "nothing was traced: {trace:?}");
    assert_eq!(trace.changes(&bed), Vec::<&str>::new());
    assert!(bed.status()["pass"]["number"].as_u64() > before.1);
    assert_eq!(bed.kernel_state(), before.0);
}

#[test]
fn s14_a_plan_changes_nothing_and_is_what_apply_does() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 2);
    let [web, dns] = some_services();
    bed.write(&file(std::slice::from_ref(&web)));
    bed.apply();
    bed.write(&file(&[web.backend_with(1, "port = 8081").port("udp", 443, 443), dns]));
    let before = bed.kernel_state();
    let (said, trace) = bed.traced(&["plan", "--json"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert_eq!(trace.changes(&bed), Vec::<&str>::new());
    assert_eq!(bed.kernel_state(), before);
    let again = bed.netd(&["plan", "--json"]);
    assert_eq!(again.out, said.out, "the same plan of the same world is not the same text");
    let plan = said.json();
    let steps = plan.pointer("/plan/steps").and_then(Value::as_array).unwrap().len();
    let report = bed.netd(&["apply", "--json"]).json();
    assert_eq!(
        (report["pass"]["applied"].as_u64(), report["pass"]["not_applied"].as_u64()),
        (Some(steps as u64), Some(0))
    );
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
}
