//! What the file wants of a node, and what is seen of what others record.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::recorder::Remembered;
use crate::target::Target;
use netd_core::{Action, ResourceId, Spec, Step};

const FILE: &str = r#"
version = 1
[[nodes]]
name = "lb-1"
[[nodes]]
name = "lb-2"
[[services]]
name = "web"
vips = ["192.0.2.10"]
ports = [{ protocol = "tcp", port = 80 }]
[[captures]]
name = "web"
filters = ["any 0 192.0.2.10 80 tcp", "any 0 192.0.2.10/32 80 TCP"]
packets = 1000
[[captures]]
name = "elsewhere"
nodes = ["lb-2"]
filters = ["any 0 any 0 ANY"]
duration = "1m"
"#;

fn config(text: &str) -> Config {
    netd_schema::parse("desired.toml", text.as_bytes()).unwrap().config
}

fn of_node(node: &str) -> Facts {
    Facts { node: node.into(), ..Facts::default() }
}

fn keys(keys: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    keys.into_iter().map(|key| key.to_string()).collect()
}

fn web() -> Arc<dyn Spec> {
    desired(&config(FILE), &of_node("lb-1")).unwrap().table[&Key::new("web")].clone()
}

#[test]
fn a_node_records_what_names_it_and_what_names_no_node() {
    for (node, expected) in [("lb-1", vec!["web"]), ("lb-2", vec!["elsewhere", "web"])] {
        assert_eq!(keys(desired(&config(FILE), &of_node(node)).unwrap().table.keys()), expected);
    }
    assert!(desired(&config(FILE), &of_node("lb-3")).unwrap_err().contains("lb-3"));
}

#[test]
fn filters_that_say_the_same_are_one() {
    assert_eq!(web().summary(), "any 0 192.0.2.10/32 80 TCP, until 1000 packets");
}

#[test]
fn without_a_service_or_a_daemon_captures_wait() {
    let no_service = FILE.replace("[[services]]\nname = \"web\"\nvips = [\"192.0.2.10\"]\nports = [{ protocol = \"tcp\", port = 80 }]\n", "");
    let waiting = desired(&config(&no_service), &of_node("lb-1")).unwrap();
    assert!(waiting.table.is_empty() && waiting.held[&Key::new("web")].contains("no service"));
    let waiting = desired_without_daemon(&config(FILE), &of_node("lb-1")).unwrap();
    assert!(waiting.table.is_empty() && waiting.held[&Key::new("web")].contains("`netd run`"));
}

#[tokio::test]
async fn what_a_daemon_records_is_seen_beside_it_and_forgotten_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("captures");
    let mut target = CaptureTarget::new(Recording::Nowhere(folder.clone()));
    let facts = of_node("lb-1");
    assert!(target.observe(&facts).await.unwrap().owned.is_empty(), "there is no folder yet");
    let wanted = wanted(&config(FILE).captures[1]);
    let remembered = Remembered {
        wanted,
        begun_ms: 0,
        packets: 1000,
        bytes: 64_000,
        lost_packets: 0,
        lost_bytes: 0,
        ended: Some("it has all packets that were wanted".into()),
    };
    std::fs::create_dir_all(folder.join("web")).unwrap();
    std::fs::write(folder.join("web/capture.json"), serde_json::to_vec(&remembered).unwrap()).unwrap();
    std::fs::write(folder.join("web/web-000001-20260301T120005Z.pcapng"), "frames").unwrap();
    let seen = target.observe(&facts).await.unwrap();
    assert!(web().satisfied_by(seen.owned[&Key::new("web")].as_ref()));
    assert!(seen.notes[&Key::new("web")].contains("all packets"));
    let id = ResourceId { kind: NAME, key: Key::new("web") };
    let delete = Step { id, action: Action::Delete { from: web() } };
    assert_eq!(target.apply(&[delete], &facts).await, [netd_core::Outcome::Applied]);
    assert!(target.observe(&facts).await.unwrap().owned.is_empty());
    assert!(folder.join("web/web-000001-20260301T120005Z.pcapng").exists(), "the files stay");
}
