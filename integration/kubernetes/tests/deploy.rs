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

/// What the roles of a file allow.
fn rules(file: &str) -> Value {
    manifests(file)
        .iter()
        .filter(|object| object["kind"].as_str().unwrap().ends_with("Role"))
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
        .collect()
}

/// The arguments of the adapter with the patches of a component, applied as kustomize would.
fn patched(component: &str) -> Vec<String> {
    let mut arguments = container("kubernetes")["args"].take();
    let kustomization = manifests(&format!("components/{component}/kustomization.yaml")).remove(0);
    for patch in kustomization["patches"].as_array().unwrap() {
        let operations: Vec<Value> = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
        for operation in operations {
            let path = operation["path"].as_str().unwrap();
            let Some(at) = path.strip_prefix("/spec/template/spec/containers/1/args/") else { continue };
            let list = arguments.as_array_mut().unwrap();
            match operation["op"].as_str().unwrap() {
                "test" => assert_eq!(list[at.parse::<usize>().unwrap()], operation["value"]),
                "remove" => drop(list.remove(at.parse().unwrap())),
                "add" => list.push(Some(operation["value"].clone()).filter(|_| at == "-").unwrap()),
                other => assert_eq!(other, "one that kustomize knows"),
            }
        }
    }
    serde_json::from_value(arguments).unwrap()
}

#[test]
fn egress_policies_come_with_what_they_need_and_no_more() {
    assert!(container("kubernetes")["args"].as_array().unwrap().contains(&json!("--no-egress")));
    assert!(!patched("egress").contains(&"--no-egress".to_owned()));
    let policies = ["ciliumegressgatewaypolicies", "ciliumegressnatpolicies"];
    assert_eq!(
        rules("components/egress/rbac.yaml"),
        json!([
            { "apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["list", "watch"] },
            { "apiGroups": ["cilium.io"], "resources": policies, "verbs": ["list", "watch"] },
        ])
    );
}

#[test]
fn what_is_written_to_the_cluster_comes_with_what_it_needs_and_no_more() {
    let lease = json!([
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["netd-kubernetes"],
            "verbs": ["get", "update"],
        },
    ]);
    let role = |group: &str, resource: &str, verb: &str| json!([{ "apiGroups": [group], "resources": [resource], "verbs": [verb] }]);
    let of = |component: &str, file: &str| rules(&format!("components/{component}/{file}"));
    assert_eq!(of("write-status", "rbac.yaml"), role("", "services/status", "patch"));
    assert_eq!(of("write-events", "rbac.yaml"), role("events.k8s.io", "events", "create"));
    assert_eq!(of("write-key", "rbac.yaml"), role("", "nodes", "patch"));
    assert_eq!(of("write-status", "lease.yaml"), lease);
    assert_eq!(of("write-events", "lease.yaml"), lease);
}

#[test]
fn the_program_takes_the_arguments_of_every_component() {
    let own = ["egress", "write-status", "write-events", "write-key"];
    let plain = container("kubernetes")["args"].take();
    assert!(plain.as_array().unwrap().iter().all(|argument| !argument.as_str().unwrap().contains("write")));
    for component in own {
        let mut arguments = patched(component);
        arguments.push("--help".to_owned());
        assert_cmd::Command::cargo_bin("netd-kubernetes").unwrap().args(arguments).assert().success();
    }
}

#[test]
fn the_adapter_may_list_and_watch_what_it_watches_and_nothing_else() {
    assert_eq!(
        rules("rbac.yaml"),
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

/// The namespace of the base reaches what is of the base alone.
#[test]
fn what_components_bring_is_in_the_namespace_of_the_base() {
    let of_clusters = ["ClusterRole", "ClusterRoleBinding"];
    for component in ["egress", "write-status", "write-events", "write-key"] {
        let kustomization = manifests(&format!("components/{component}/kustomization.yaml")).remove(0);
        for file in kustomization["resources"].as_array().unwrap() {
            for object in manifests(&format!("components/{component}/{}", file.as_str().unwrap())) {
                let is_of_cluster = of_clusters.contains(&object["kind"].as_str().unwrap());
                let namespace = if is_of_cluster { Value::Null } else { json!("netd-system") };
                assert_eq!(object["metadata"]["namespace"], namespace, "{object:#}");
            }
        }
        for generated in kustomization["configMapGenerator"].as_array().into_iter().flatten() {
            assert_eq!(generated["namespace"], "netd-system", "{generated:#}");
        }
    }
}
