//! netd's WireGuard devices: found by their alias, made in the kernel or by a program, set up.

use super::{DeviceSpec, KeyOf};
use crate::facts::Facts;
use crate::target::Target;
use crate::wireguard::{Devices, Mesh, Own, Shared, Sort, Trouble, next_file, own_key, said};
use async_trait::async_trait;
use netd_core::{Action, Key, Observation, Outcome, Spec, Step};
use netd_schema::{Config, WireguardDevice};
use netd_wireguard::{Change, Device, read};
use std::path::PathBuf;
use std::sync::Arc;

/// What an operator is told of a device that a program has.
const OF_A_PROGRAM: &str = "wireguard-go encrypts, because this kernel has no WireGuard: it is slower";

/// The target of devices.
pub struct DeviceTarget {
    devices: Shared,
    /// What was said while somebody else read the devices.
    late: Option<Config>,
}

impl DeviceTarget {
    /// The target that works with these devices.
    #[must_use]
    pub fn new(devices: Shared) -> Self {
        Self { devices, late: None }
    }
}

#[async_trait]
impl Target for DeviceTarget {
    fn aim(&mut self, in_force: &Config) {
        // The page of numbers is read at any time.
        self.late = match self.devices.try_lock() {
            Ok(mut devices) => {
                devices.aim(in_force);
                None
            }
            Err(_) => {
                let (wireguard, nodes) = (in_force.wireguard.clone(), in_force.nodes.clone());
                Some(Config { wireguard, nodes, ..Config::default() })
            }
        };
    }

    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let mut devices = self.devices.lock().await;
        if let Some(in_force) = self.late.take() {
            devices.aim(&in_force);
        }
        let mut observation = Observation::default();
        let in_force = devices.in_force();
        let mesh = in_force.as_deref().and_then(|config| Mesh::of(config, facts).ok().flatten());
        if mesh.is_none() {
            devices.give_up_starting();
        }
        let own = devices.own(facts)?;
        let lanes = mesh.as_ref().map(Mesh::lanes).unwrap_or_default();
        for link in lanes.iter().filter_map(|lane| facts.link_named(&lane.interface)) {
            if own.iter().all(|own| own.link.index != link.index) && !devices.is_unfinished(link) {
                let kind = if link.kind.is_empty() { "physical" } else { &link.kind };
                let holder = format!("a {kind} device that netd did not make");
                observation.foreign.insert(Key::new(&link.name), holder);
            }
        }
        for Own { link, sort, device } in own {
            let (key, is_next) = match &mesh {
                Some(mesh) => which(&devices, mesh, &device),
                None => (KeyOf::Other("unknown".to_owned()), false),
            };
            let spec = DeviceSpec {
                interface: link.name,
                device: match sort {
                    Sort::Kernel => WireguardDevice::Kernel,
                    Sort::Userspace => WireguardDevice::Userspace,
                },
                port: device.port,
                mark: device.mark,
                mtu: link.mtu,
                up: link.up,
                key,
                may_be_next: is_next,
            };
            let is_chosen =
                mesh.as_ref().is_some_and(|mesh| mesh.settings.device == WireguardDevice::Userspace);
            if sort == Sort::Userspace && !is_chosen {
                observation.notes.insert(spec.key(), OF_A_PROGRAM.to_owned());
            }
            observation.owned.insert(spec.key(), Arc::new(spec));
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut devices = self.devices.lock().await;
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(match make(&mut devices, step).await {
                Ok(()) => Outcome::Applied,
                Err(Trouble::Anothers(who)) => Outcome::Conflict(who),
                Err(Trouble::Unsupported) => Outcome::Failed("this kernel has no WireGuard".into()),
                Err(Trouble::Failed(why)) => Outcome::Failed(why),
            });
        }
        outcomes
    }
}

/// Which key a device has, by the files, and whether it is in the second one.
fn which(devices: &Devices, mesh: &Mesh<'_>, device: &Device) -> (KeyOf, bool) {
    let Some(has) = device.public_key else { return (KeyOf::Other("none".to_owned()), false) };
    let named = mesh.settings.key_file.clone();
    let path = devices.key_file(named.as_ref());
    let first = read(&path).map(|key| key.public());
    let is_next = || read(&next_file(&path)).is_ok_and(|key| key.public() == has);
    match first {
        Ok(key) if key == has => (KeyOf::File(named, Some(has)), false),
        _ if is_next() => (KeyOf::File(named, Some(has)), true),
        Ok(_) => (KeyOf::Other(format!("that of {}", has.fingerprint())), false),
        Err(error) => (KeyOf::Other(said(&error)), false),
    }
}

async fn make(devices: &mut Devices, step: &Step) -> Result<(), Trouble> {
    let typed = |spec: &Arc<dyn Spec>| {
        let spec = spec.as_any().downcast_ref::<DeviceSpec>().cloned();
        spec.ok_or_else(|| Trouble::Failed("this is not a device".to_owned()))
    };
    match &step.action {
        Action::Create { to } => {
            let to = typed(to)?;
            // Without a key there is nothing to make a device for.
            key(devices, &to)?;
            create(devices, &to).await
        }
        Action::Update { from, to } => {
            let (from, to) = (typed(from)?, typed(to)?);
            let is_another = to.device != WireguardDevice::Auto && to.device != from.device;
            if is_another {
                key(devices, &to)?;
                if to.device == WireguardDevice::Kernel {
                    // Else the present one would go for nothing.
                    devices.access(Sort::Kernel).map_err(|error| Trouble::Failed(said(&error)))?;
                }
                devices.delete(&from.interface).await?;
                return create(devices, &to).await;
            }
            configure(devices, &to, sort(from.device)).await
        }
        Action::Delete { from } => Ok(devices.delete(&typed(from)?.interface).await?),
    }
}

/// The private key that the device is to have, and the file that it is to be moved to once it has it.
fn key(devices: &Devices, to: &DeviceSpec) -> Result<(netd_wireguard::PrivateKey, Option<PathBuf>), Trouble> {
    let KeyOf::File(named, listed) = &to.key else {
        return Err(Trouble::Failed("no private key is named".to_owned()));
    };
    let file = devices.key_file(named.as_ref());
    let (key, is_next) = own_key(&file, *listed)?;
    Ok((key, (is_next && !to.may_be_next).then_some(file)))
}

fn sort(device: WireguardDevice) -> Sort {
    match device {
        WireguardDevice::Userspace => Sort::Userspace,
        WireguardDevice::Kernel | WireguardDevice::Auto => Sort::Kernel,
    }
}

async fn create(devices: &mut Devices, to: &DeviceSpec) -> Result<(), Trouble> {
    let made = match to.device {
        WireguardDevice::Kernel => devices.make(&to.interface, Sort::Kernel).await,
        WireguardDevice::Userspace => devices.make(&to.interface, Sort::Userspace).await,
        WireguardDevice::Auto => match devices.make(&to.interface, Sort::Kernel).await {
            Err(Trouble::Unsupported) => devices.make(&to.interface, Sort::Userspace).await,
            other => other,
        },
    };
    configure(devices, to, made?).await
}

/// Gives a device what it lacks, and nothing else: a port that is set anew is a port that is bound anew.
///
/// The mark comes first, whatever becomes of the rest: rules tell by it what goes into the device, and would lead its own
/// packets there.
async fn configure(devices: &mut Devices, to: &DeviceSpec, sort: Sort) -> Result<(), Trouble> {
    let failed = |error: netd_wireguard::Error| Trouble::Failed(said(&error));
    let now = devices.read(&to.interface, sort).map_err(failed)?;
    if now.mark != to.mark {
        let change = Change { mark: Some(to.mark), ..Change::default() };
        devices.change(&to.interface, sort, &change).map_err(failed)?;
    }
    let (key, moving) = key(devices, to)?;
    let change = Change {
        private_key: (now.public_key != Some(key.public())).then_some(key),
        port: (now.port != to.port).then_some(to.port),
        mark: None,
        peers: Vec::new(),
    };
    devices.change(&to.interface, sort, &change).map_err(failed)?;
    devices.set_up(&to.interface, to.mtu, to.port).await?;
    if let Some(file) = moving {
        let next = next_file(&file);
        std::fs::rename(&next, &file)
            .map_err(|error| format!("move {} to its place: {error}", next.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::Devices;
    use tokio::sync::Mutex;

    #[tokio::test]
    async fn a_file_that_comes_into_force_while_numbers_are_read_is_not_missed() {
        let devices = Devices::new("a", "/nowhere".into(), "/nowhere".into());
        let devices = Arc::new(Mutex::new(devices));
        let mut target = DeviceTarget::new(Arc::clone(&devices));
        let reading = devices.lock().await;
        target.aim(&Config::default());
        drop(reading);
        let observed = target.observe(&Facts::default()).await;
        assert!(observed.is_ok() && devices.lock().await.in_force().is_some());
    }
}
