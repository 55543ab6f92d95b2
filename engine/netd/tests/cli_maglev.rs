//! `netd maglev --offline` from outside: the tables that other balancers of a tier compute, from the file alone.
#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs it on a service of three backends with these weights and further keys, as a user without rights would.
fn maglev(keys: &str, weights: [u16; 3], args: &[&str]) -> (Option<i32>, String, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("desired.toml");
    let backend =
        |(host, weight): (usize, &u16)| format!("{{ address = \"10.0.0.{}\", weight = {weight} }}", host + 1);
    let backends: Vec<String> = weights.iter().enumerate().map(backend).collect();
    let text = format!(
        "version = 1\n\n[[services]]\nname = \"web\"\nvips = [\"192.0.2.10\", \"192.0.2.11\"]\n\
         ports = [{{ protocol = \"tcp\", port = 80 }}]\nbackends = [{}]\n{keys}\n",
        backends.join(", ")
    );
    std::fs::write(&path, text).unwrap();
    let mut command = Command::cargo_bin("netd").unwrap();
    command.env_clear().args(["maglev", "--offline", "--config"]).arg(path).args(args);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn first_frontend(keys: &str, weights: [u16; 3]) -> Value {
    let (code, out, error) = maglev(keys, weights, &["web", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let value: Value = serde_json::from_str(&out).unwrap();
    value.pointer("/frontends/0").unwrap().clone()
}

#[test]
fn a_vectors_digests_are_those_of_cilium() {
    let rows = [
        (
            "table_size = 251\nhash_names = \"cilium-1.10\"",
            [100, 100, 100],
            "0d3251869902784aede5c94ae5b14f0a5d16921fa22648459e6cf8e5070e1875",
        ),
        (
            "table_size = 16381\nhash_names = \"cilium-1.10\"",
            [100, 100, 100],
            "d30c6e8ef361c25303fca7c2340239e2dd223b48fe5bf68d72630e5a5633c056",
        ),
        (
            "table_size = 251",
            [100, 100, 100],
            "81a386cd0df51e68c1dd6dd4fbeb8e10e4e1ad330f237379b188f3eb772f704e",
        ),
        (
            "table_size = 251\nhash_names = \"cilium\"",
            [1, 2, 3],
            "205ed15c80da8cbfe9c32cc25cd6933c17af47f81694ef8db5721bdfd6850058",
        ),
    ];
    for (keys, weights, digest) in rows {
        let frontend = first_frontend(keys, weights);
        assert_eq!(frontend["sha256"], digest, "{keys}");
        assert_eq!(frontend["hash_seed"], "JLfvgnHc2kaSUFaI");
        assert_eq!(frontend["source"], "file");
    }
}

#[test]
fn each_backend_has_its_number_name_slots_and_what_moves_without_it() {
    let frontend = first_frontend("table_size = 251", [1, 2, 3]);
    assert_eq!((&frontend["frontend"], &frontend["table_size"]), (&json!("192.0.2.10:80/tcp"), &json!(251)));
    let slots: Vec<&Value> =
        frontend["backends"].as_array().unwrap().iter().map(|backend| &backend["slots"]).collect();
    assert_eq!(slots, [42, 84, 125]);
    let backend = &frontend["backends"][0];
    assert_eq!((&backend["number"], &backend["name"]), (&json!(1), &json!("[10.0.0.1:80/TCP,State:active]")));
    let moved = backend["others_moved_without_percent"].as_f64().unwrap();
    assert!((0.0..20.0).contains(&moved), "{moved}");
}

#[test]
fn one_frontend_is_chosen_by_its_name() {
    let (_, all, _) = maglev("", [100, 100, 100], &["web"]);
    assert!(all.contains("192.0.2.10:80/tcp") && all.contains("192.0.2.11:80/tcp"), "{all}");
    let (code, one, _) = maglev("", [100, 100, 100], &["web", "192.0.2.11:80/tcp"]);
    assert!(code == Some(0) && !one.contains("192.0.2.10:80/tcp"), "{one}");
    for part in
        ["192.0.2.11:80/tcp of the file: 2039 slots", "names cilium", "sha256 ", "10.0.0.3:80", "33.3 %"]
    {
        assert!(one.contains(part), "{part} in {one}");
    }
    let (code, _, error) = maglev("", [100, 100, 100], &["web", "192.0.2.12:80/tcp"]);
    assert_eq!(
        (code, error.as_str()),
        (Some(1), "error: web has no frontend 192.0.2.12:80/tcp; did you mean `192.0.2.11:80/tcp`?\n")
    );
}

#[test]
fn a_service_that_is_not_there_or_has_no_table_is_an_error() {
    let (code, _, error) = maglev("", [100, 100, 100], &["wbe"]);
    assert_eq!((code, error.as_str()), (Some(1), "error: there is no service `wbe`; did you mean `web`?\n"));
    let (code, _, error) = maglev("algorithm = \"random\"", [100, 100, 100], &["web"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("picked at random"), "{error}");
}

#[test]
fn a_file_with_mistakes_gives_them_and_no_table() {
    let (code, out, error) = maglev("tabel_size = 251", [100, 100, 100], &["web"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.starts_with("error: ") && error.contains("did you mean `table_size`?"), "{error}");
}
