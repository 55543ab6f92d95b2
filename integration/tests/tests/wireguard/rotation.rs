//! Keys change under traffic: nothing is seen in clear, nothing that is secret is said, and it goes on. How many packets were
//! lost is printed.

use crate::nodes::{Node, Nodes, PATIENCE, transfer};
use netd_integration_tests::netd::wait_until;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What stands in a node's table for its keys.
fn two_keys(present: &str, other: &str) -> Option<String> {
    Some(format!("{present}\", next_public_key = \"{other}"))
}

/// The node's next key, which is made with this.
fn next_key(of: &Node<'_>) -> String {
    let said = of.node.site.netd(&["wireguard", "pubkey", "--next"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.out.trim().to_owned()
}

/// The resources that a plan for this node names, with what becomes of them.
fn planned(of: &Node<'_>) -> String {
    let said = of.node.site.netd(&["plan"]);
    assert_eq!(said.code, Some(2), "changes are to be made: {said:?}");
    said.out
}

fn secret(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn w7_keys_change_in_three_steps_under_traffic() {
    in_three_steps("");
}

#[test]
fn w7_keys_change_in_three_steps_under_traffic_in_a_tunnel_that_is_encrypted() {
    in_three_steps("mode = \"overlay\"\n\n[network]\nmode = \"vxlan\"");
}

fn in_three_steps(settings: &str) {
    let Some(all) = Nodes::new(2) else { return };
    let of_second = format!("generation = 1\n{settings}");
    let keys = all.write(settings);
    let [one, two] = all.two();
    let old = [keys[0].clone().unwrap(), keys[1].clone().unwrap()];
    let give = |settings: &str, keys: &[Option<String>], to: &[&Node<'_>]| {
        for of in to {
            of.node.site.write(&all.text(of, settings, keys));
            of.node.site.apply();
        }
    };
    give(settings, &keys, &[&one, &two]);
    one.wait_for(&two.pods());
    let new = [next_key(&one), next_key(&two)];
    let file = two.node.site.state_dir().join("wireguard.key.next");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let secrets = [
        secret(&two.node.site.state_dir().join("wireguard.key")),
        secret(&file),
        secret(&one.node.site.state_dir().join("wireguard.key")),
    ];
    let heard = all.listen(None);
    let mut plans = Vec::new();
    let (sent, back) = all.mesh.stream(0, 1, || {
        // Both are published: a second device takes what comes by them.
        let published = [two_keys(&old[0], &new[0]), two_keys(&old[1], &new[1])];
        one.node.site.write(&all.text(&one, settings, &published));
        plans.push(planned(&one));
        give(settings, &published, &[&one, &two]);
        let shown = one.node.site.netd(&["wireguard", "show", "--json"]).json();
        assert_eq!(shown["beside"]["port"], 51_872, "{shown}");
        // They are swapped: each node sends by the second device from then on, one before the other.
        let swapped = [two_keys(&new[0], &old[0]), two_keys(&new[1], &old[1])];
        two.node.site.write(&all.text(&two, &of_second, &swapped));
        plans.push(planned(&two));
        give(&of_second, &swapped, &[&two]);
        one.wait_for(&two.pods());
        give(&of_second, &swapped, &[&one]);
        one.wait_for(&two.pods());
        // The old ones are retired.
        let retired = new.clone().map(Some);
        one.node.site.write(&all.text(&one, &of_second, &retired));
        plans.push(planned(&one));
        give(&of_second, &retired, &[&one, &two]);
        one.wait_for(&two.pods());
    });
    println!("{} of {sent} packets were lost in a change of both keys in three steps", sent - back);
    assert!(back > 0);
    assert_eq!(heard.end(), "");
    for address in two.pods() {
        transfer(&one.node.pod, &two.node.pod, &address, 1024 * 1024);
    }
    for of in [&one, &two] {
        assert!(of.node.machine.try_ip(&["link", "show", of.interface()]).is_err(), "the first device went");
        assert_eq!(of.wg(&["show", &of.second(), "listen-port"]).trim(), "51872");
        assert!(!of.node.site.state_dir().join("wireguard.key.next").exists(), "its key is the first now");
        assert_eq!(of.wg(&["show", &of.second(), "public-key"]).trim(), new[of.at]);
    }
    let [publish, swap, retire] = plans.try_into().unwrap();
    assert!(publish.contains(&one.second()) && !publish.contains("wireguard_route"), "{publish}");
    assert!(swap.contains("wireguard_route"), "{swap}");
    assert!(!swap.contains("wireguard_device") && !swap.contains("wireguard_peer"), "{swap}");
    assert!(retire.contains("wireguard_device") && !retire.contains("wireguard_route"), "{retire}");
    for of in [&one, &two] {
        nothing_secret_is_said(of, &secrets, &[&publish, &swap, &retire]);
    }
}

#[test]
fn w7_a_key_that_changes_in_one_step_goes_on_as_soon_as_both_have_the_file() {
    let Some(all) = Nodes::new(2) else { return };
    let mut keys = all.write("");
    let [one, two] = all.two();
    let daemons = [one.node.site.start_ok(), two.node.site.start_ok()];
    one.wait_for(&two.pods());
    let heard = all.listen(None);
    let secrets = [secret(&two.node.site.state_dir().join("wireguard.key"))];
    keys[1] = Some(next_key(&two));
    let (sent, back) = all.mesh.stream(0, 1, || {
        for of in [&two, &one] {
            of.node.site.write(&all.text(of, "", &keys));
            of.node.site.wait_ok();
        }
        one.wait_for(&two.pods());
    });
    println!("{} of {sent} packets were lost in a change of a key in one step", sent - back);
    assert!(back > 0);
    assert_eq!(heard.end(), "");
    assert_eq!(two.wg(&["show", two.interface(), "public-key"]).trim(), keys[1].as_deref().unwrap());
    nothing_secret_is_said(&two, &secrets, &[&two.node.site.log()]);
    drop(daemons);
}

#[test]
fn w7_a_preshared_key_changes_under_traffic_and_a_wrong_one_is_seen_by_the_age_of_handshakes() {
    let Some(all) = Nodes::new(2) else { return };
    let keys = all.write("");
    let [one, two] = all.two();
    let psk = |of: &Node<'_>| of.node.site.folder().join("psk");
    let put = |of: &Node<'_>| {
        let key = of.wg(&["genpsk"]);
        for of in [&one, &two] {
            write_secret(&psk(of), &key);
        }
        key.trim().to_owned()
    };
    let first = put(&one);
    let text = |of: &Node<'_>| {
        let named =
            format!("{}\", preshared_key_file = \"{}", keys[0].as_deref().unwrap(), psk(of).display());
        all.text(of, "", &[Some(named), keys[1].clone()])
    };
    for of in [&one, &two] {
        of.node.site.write(&text(of));
        of.node.site.apply();
    }
    one.wait_for(&two.pods());
    let has = |of: &Node<'_>| of.wg(&["show", of.interface(), "preshared-keys"]);
    assert!(has(&one).contains(&first) && has(&two).contains(&first));
    // Another one on both: the session goes on with the one before, and the next has the new one.
    let heard = all.listen(None);
    let mut second = String::new();
    let (sent, back) = all.mesh.stream(0, 1, || {
        second = put(&one);
        for of in [&one, &two] {
            of.node.site.apply();
        }
        one.wait_for(&two.pods());
    });
    println!("{} of {sent} packets were lost in a change of a preshared key", sent - back);
    assert!(back > 0 && has(&one).contains(&second) && has(&two).contains(&second));
    assert_eq!(heard.end(), "");
    nothing_secret_is_said(&one, &[first, second], &[]);
    // A wrong one on one side: there is no session any more, and that is seen.
    let wrong = one.wg(&["genpsk"]);
    write_secret(&psk(&one), &wrong);
    one.node.machine.ip(&["link", "del", one.interface()]);
    one.node.site.apply();
    assert!(two.pods().iter().all(|address| !one.reaches(address)));
    let shown = one.node.site.netd(&["wireguard", "show", "--json"]).json();
    assert!(
        shown["peers"][0]["handshake_age_seconds"].is_null() && shown["peers"][0]["preshared_key"] == true
    );
    assert!(one.node.site.netd(&["wireguard", "show"]).out.contains("never"));
    std::fs::copy(psk(&two), psk(&one)).unwrap();
    one.node.site.apply();
    wait_until("answered again", PATIENCE, || two.pods().iter().all(|address| one.reaches(address)));
}

fn write_secret(path: &Path, key: &str) {
    std::fs::write(path, key).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Neither in a plan, nor in a status, nor in what netd remembers.
fn nothing_secret_is_said(of: &Node<'_>, secrets: &[String], said: &[&str]) {
    let status = of.node.site.netd(&["status", "--json"]).out;
    let shown = of.node.site.netd(&["wireguard", "show", "--json"]).out;
    for secret in secrets {
        for said in said.iter().copied().chain([status.as_str(), &shown]) {
            assert!(!said.contains(secret), "a secret is said");
        }
        for file in files(of.node.site.state_dir()) {
            let is_of_keys =
                file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wireguard.key"));
            let bytes = std::fs::read(&file).unwrap_or_default();
            let is_there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(is_of_keys || !is_there, "a secret is in {}", file.display());
        }
    }
}

/// All files below a folder.
fn files(folder: impl AsRef<Path>) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
