//! The manifests: nobody may do more than he has to.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn manifests(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

fn container(name: &str) -> Value {
    let pod = manifests("daemonset.yaml").remove(0)["spec"]["template"]["spec"].take();
    let containers = pod["containers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap().clone()
}

#[test]
fn the_adapter_may_list_and_watch_what_it_watches_and_nothing_else() {
    let rules: Vec<Value> = manifests("rbac.yaml")
        .iter()
        .filter(|object| object["kind"].as_str().unwrap().ends_with("Role"))
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect();
    assert_eq!(
        json!(rules),
        json!([
            { "apiGroups": [""], "resources": ["services", "nodes"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ])
    );
}

#[test]
fn the_adapter_has_no_capability_and_is_not_root() {
    let security = &container("kubernetes")["securityContext"];
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
}

#[test]
fn netd_has_no_token_of_the_cluster_and_only_its_capabilities() {
    let netd = container("netd");
    let mounts = netd["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["name"] != "token"));
    let added = json!(["NET_ADMIN", "BPF", "PERFMON", "NET_BIND_SERVICE"]);
    assert_eq!(netd["securityContext"]["capabilities"], json!({ "drop": ["ALL"], "add": added }));
}

#[test]
fn the_base_file_is_one_that_netd_takes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base.toml");
    netd_kubernetes::Base::read("base.toml", &fs::read_to_string(path).unwrap()).unwrap();
}
