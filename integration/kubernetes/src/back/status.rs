//! Addresses that services have, in their status: only of services that are in the file, and never over what another
//! program has written there.

use super::daemon::{Given, ask};
use super::said::{Said, Wanted};
use super::{MANAGER, Refusal, why};
use crate::note::Note;
use crate::objects::{Key, Kind};
use crate::run::Metrics;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long what netd said of a file is believed: what it waits for may come without another file.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// When a status that the server did not take is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(300);

/// What its status has to say, which is nothing for one that is not in the file, or that waits for an address; `None` where
/// nobody knows yet.
fn wanted(service: &Wanted, given: Option<&Given>) -> Option<BTreeSet<IpAddr>> {
    let mut addresses = BTreeSet::new();
    let waits = |given: &Given| service.tables.iter().any(|table| given.waiting.contains_key(&table.table));
    if service.tables.is_empty() || given.is_some_and(waits) {
        return Some(addresses);
    }
    for table in &service.tables {
        match table.is_pooled {
            true => addresses.extend(given?.addresses.get(&table.table)?),
            false => addresses.extend(&table.vips),
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// Brings each status to what it has to say.
pub(super) struct Statuses {
    socket: PathBuf,
    client: kube::Client,
    metrics: Arc<Metrics>,
    /// What netd said last, and when.
    given: Option<(Given, Instant)>,
    /// What was tried for each service that has something else in its status, as far as one has heard.
    tried: BTreeMap<Key, Try>,
}

/// What was tried.
struct Try {
    addresses: BTreeSet<IpAddr>,
    /// What the status had then: the same is not tried again soon.
    had: BTreeSet<String>,
    /// Why the server did not take it.
    refusal: Option<Refusal>,
    again: Instant,
}

impl Statuses {
    pub(super) fn new(socket: PathBuf, client: kube::Client, metrics: Arc<Metrics>) -> Self {
        Self { socket, client, metrics, given: None, tried: BTreeMap::new() }
    }

    /// Writes what differs.
    pub(super) async fn pass(&mut self, said: &Said) -> Result<(), Refusal> {
        self.tried.retain(|key, _| said.services.contains_key(key));
        let is_pooled = |service: &Wanted| service.tables.iter().any(|table| table.is_pooled);
        // A netd that does not answer keeps nobody's own addresses out of their status.
        let asked = match said.services.values().any(is_pooled) {
            true => self.ask(said).await,
            false => Ok(()),
        };
        let given = self.given.as_ref().map(|(given, _)| given).filter(|given| given.sha256 == said.sha256);
        let differing: Vec<(&Key, &Wanted, BTreeSet<IpAddr>)> = said
            .services
            .iter()
            .filter_map(|(key, service)| {
                let addresses = wanted(service, given)?;
                let texts: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
                (texts != service.has).then_some((key, service, addresses))
            })
            .collect();
        for (key, service, addresses) in differing {
            let is_tried = |tried: &Try| {
                tried.addresses == addresses && tried.had == service.has && tried.again > Instant::now()
            };
            if self.tried.get(key).is_some_and(is_tried) {
                continue;
            }
            let refusal = self.write(key, service, &addresses).await?;
            let again = Instant::now() + TRY_AGAIN;
            self.tried.insert(key.clone(), Try { addresses, had: service.has.clone(), refusal, again });
        }
        asked
    }

    /// What is said about services besides what the file says: why they have no address, or not in their status.
    pub(super) fn notes(&self, said: &Said) -> Vec<Note> {
        let mut notes = Vec::new();
        let given = self.given.as_ref().map(|(given, _)| given).filter(|given| given.sha256 == said.sha256);
        for (key, service) in &said.services {
            let tables = service.tables.iter().map(|table| &table.table);
            let waiting = tables.filter_map(|table| given?.waiting.get(table)).flatten();
            let refused = self.tried.get(key).and_then(|tried| tried.refusal.as_ref());
            let object = Kind::Service.object(key);
            notes.extend(
                waiting.chain(refused).map(|text| Note { object: object.clone(), text: text.clone() }),
            );
        }
        notes
    }

    async fn ask(&mut self, said: &Said) -> Result<(), Refusal> {
        let is_known =
            |(given, at): &(Given, Instant)| given.sha256 == said.sha256 && at.elapsed() < ASK_AGAIN;
        if !self.given.as_ref().is_some_and(is_known) {
            self.given = ask(&self.socket).await?.map(|given| (given, Instant::now()));
        }
        Ok(())
    }

    /// Writes one; why the server does not take it, if it does not.
    async fn write(
        &self,
        key: &Key,
        service: &Wanted,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Option<Refusal>, Refusal> {
        let ingress: Vec<_> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        // Without any, what was written by this manager goes, and what others have written stays.
        let said = match ingress.is_empty() {
            true => json!({}),
            false => json!({ "loadBalancer": { "ingress": ingress } }),
        };
        let status = json!({
            "apiVersion": "v1",
            "kind": "Service",
            // Another service of the same name would have another one.
            "metadata": { "name": key.name, "namespace": key.namespace, "uid": service.uid },
            "status": said,
        });
        let api = Api::<Service>::namespaced(self.client.clone(), &key.namespace);
        let done = api.patch_status(&key.name, &PatchParams::apply(MANAGER), &Patch::Apply(&status)).await;
        let object = Kind::Service.object(key);
        let refusal = match done {
            Ok(_) => {
                self.metrics.status_written();
                tracing::info!(%object, ?addresses, "its status has its addresses");
                return Ok(None);
            }
            Err(kube::Error::Api(status)) => match status.code {
                404 => return Ok(None),
                409 => "its status is left as it is: another program has written addresses there".to_owned(),
                401 | 429 => return Err(why(&kube::Error::Api(status))),
                // Whatever keeps the server from taking this one, a webhook that is gone too, says nothing about the others.
                _ => format!(
                    "its status is left as it is: the server does not take its addresses: {}",
                    crate::note::plain(&status.message)
                ),
            },
            Err(error) => return Err(why(&error)),
        };
        tracing::warn!(%object, ?addresses, "{refusal}");
        Ok(Some(refusal))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Balanced;
    use crate::note::ObjectRef;

    fn table(name: &str, vips: &[&str], is_pooled: bool) -> Balanced {
        let object = ObjectRef { kind: "Service", namespace: "shop".to_owned(), name: "web".to_owned() };
        let vips = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        Balanced { table: name.to_owned(), object, vips, is_pooled }
    }

    fn texts(tables: Vec<Balanced>, given: Option<&Given>) -> Option<Vec<String>> {
        let service = Wanted { tables, ..Wanted::default() };
        wanted(&service, given).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn addresses_of_a_pool_are_those_that_netd_gave_to_all_of_its_tables() {
        let mut given = Given::default();
        let tables = || vec![table("shop.web", &["192.0.2.9"], true), table("shop.web.443-tcp", &[], true)];
        assert_eq!(texts(tables(), None), None, "netd does not answer");
        given.addresses.insert("shop.web".to_owned(), ["192.0.2.1".parse().unwrap()].into());
        assert_eq!(texts(tables(), Some(&given)), None, "one has none yet");
        given.addresses.insert("shop.web.443-tcp".to_owned(), ["192.0.2.1".parse().unwrap()].into());
        assert_eq!(texts(tables(), Some(&given)), Some(vec!["192.0.2.1".to_owned()]));
    }

    #[test]
    fn addresses_that_the_file_names_need_no_netd() {
        let tables =
            vec![table("shop.web", &["192.0.2.9"], false), table("shop.web.ipv6", &["2001:db8::9"], false)];
        assert_eq!(texts(tables, None), Some(vec!["192.0.2.9".to_owned(), "2001:db8::9".to_owned()]));
    }
}
