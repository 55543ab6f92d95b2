//! This node's public key, as an annotation of its object: the others learn it from there.

use super::{Complaints, MANAGER, Refusal, why};
use crate::render::KEY_ANNOTATION;
use crate::run::Metrics;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use netd_schema::PublicKey;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where the key is, and whose it is.
#[derive(Clone, Debug)]
pub struct KeyOf {
    /// The node, as the cluster calls it.
    pub node: String,
    /// A file with its public key, as `netd wireguard pubkey` prints it.
    pub file: PathBuf,
}

/// A key is 44 characters; what is longer is something else.
const FILE_BYTES_MAX: u64 = 64;

/// The bits of a file's mode that let its group and others read it.
const OTHERS_READ: u32 = 0o044;

/// How often the annotation is written although the key is the same: somebody may have taken it away.
const AGAIN: Duration = Duration::from_secs(600);

/// Writes the key whenever it is another one.
pub(super) async fn keep(key: KeyOf, client: kube::Client, every: Duration, metrics: Arc<Metrics>) {
    let api = Api::<Node>::all(client);
    let mut complaints = Complaints::new(metrics);
    let mut written: Option<(String, Instant)> = None;
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        let done = match read(&key.file) {
            Ok(now) => {
                let is_written = |(before, at): &(String, Instant)| *before == now && at.elapsed() < AGAIN;
                match written.as_ref().is_some_and(is_written) {
                    true => continue,
                    false => {
                        write(&api, &key.node, &now).await.map(|()| written = Some((now, Instant::now())))
                    }
                }
            }
            Err(why) => Err(why),
        };
        complaints.hear("the node's public key", done);
    }
}

/// The key. What is no key is not shown: it may be a secret that somebody took for one.
fn read(path: &Path) -> Result<String, Refusal> {
    let failed = |error: io::Error| format!("read {}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    // A private key looks like a public one, and nobody but its owner may read its file.
    if file.metadata().map_err(failed)?.permissions().mode() & OTHERS_READ == 0 {
        return Err(format!(
            "{} can be read by its owner alone, as private keys are: it is not published",
            path.display()
        ));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    match text.trim().parse::<PublicKey>() {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(_) => Err(format!("{} holds no public key", path.display())),
    }
}

/// The annotation alone, and not over what somebody else has written there.
async fn write(api: &Api<Node>, node: &str, key: &str) -> Result<(), Refusal> {
    let annotated = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node, "annotations": { KEY_ANNOTATION: key } },
    });
    match api.patch(node, &PatchParams::apply(MANAGER), &Patch::Apply(&annotated)).await {
        Ok(_) => {
            tracing::info!(node, "the node has its public key");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Err(format!(
            "somebody else has written the annotation {KEY_ANNOTATION} of node {node}, with another key: it is left as it is"
        )),
        Err(error) => Err(why(&error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_may_hold_a_private_key_is_neither_published_nor_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let give = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        assert_eq!(give(&format!("{key}\n"), 0o644).unwrap(), key);
        assert!(give(key, 0o600).unwrap_err().contains("owner alone"));
        let why = give("c2VjcmV0", 0o644).unwrap_err();
        assert!(why.ends_with("holds no public key"), "{why}");
    }
}
