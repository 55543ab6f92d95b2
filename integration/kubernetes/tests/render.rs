//! Objects in, file and notes out: each folder of `cases` is one behaviour. `NETD_BLESS=1` writes what is expected again.

#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::Command;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Runs the program on the objects of a case; compares what it prints with `desired.toml` and `notes`.
fn check(name: &str) {
    let case = cases().join(name);
    let mut command = Command::cargo_bin("netd-kubernetes").unwrap();
    command.current_dir(&case).args(["render", "--from-dir", "."]);
    if case.join("base.toml").exists() {
        command.args(["--base", "base.toml"]);
    }
    if let Ok(arguments) = fs::read_to_string(case.join("arguments")) {
        command.args(arguments.split_whitespace());
    }
    let output = command.assert().success().get_output().clone();
    for (file, bytes) in [("desired.toml", output.stdout), ("notes", output.stderr)] {
        let (path, found) = (case.join(file), String::from_utf8(bytes).unwrap());
        if std::env::var_os("NETD_BLESS").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert!(expected == found, "{}:\n{found}\nis not what it has to be:\n{expected}", path.display());
    }
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_folder_is_a_case() {
            let named: BTreeSet<String> = [$(stringify!($name).to_owned()),*].into();
            let folders = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(named, folders.collect());
        }
    };
}

cases!(
    a10_hostile_objects_cost_only_themselves,
    a14_endpoints_that_terminate_keep_their_flows,
    a_load_balancer_service_of_both_families,
    addresses_come_from_pools_of_the_base_file,
    egress_policies_take_the_pods_that_they_choose,
    endpoints_of_several_slices_are_one_list,
    external_and_cluster_addresses_only_where_allowed,
    nodes_bring_addresses_pods_and_keys,
    the_older_service_has_the_address,
    what_is_not_supported_is_said,
    what_people_wrote_wins,
);
