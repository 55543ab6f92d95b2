//! What is known of gobgpds that cannot be asked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use netd_schema::BgpTls;
use tempfile::TempDir;

fn behind_tls(authority: &str, folder: &TempDir) -> Gobgpd {
    let tls = BgpTls { ca: folder.path().join("gone.pem"), identity: None };
    Gobgpd::Https { authority: authority.into(), tls }
}

#[tokio::test]
async fn a_gobgpd_whose_certificates_are_gone_can_get_others_and_can_be_given_up_and_is_not_taken_for_empty()
{
    let folder = TempDir::new().unwrap();
    let (before, now) = (behind_tls("localhost:1", &folder), behind_tls("localhost:2", &folder));
    for gobgpd in [&before, &now] {
        Places::of(folder.path()).unwrap().use_from_now(gobgpd).unwrap();
    }
    let mut speaker = Speaker::new(folder.path(), None);
    let found = speaker.look().await.unwrap();
    assert_eq!(found, [(before.clone(), UNKNOWN), (now, UNKNOWN)]);
    let Err(why) = speaker.line() else { panic!("it cannot be asked") };
    assert!(why.contains("gone.pem"), "{why}");
    let Err(Trouble::Failed(why)) = speaker.give_up(&before).await else { panic!("it cannot be cleared") };
    assert!(why.contains("`netd bgp forget https://localhost:1`"), "{why}");
}
