//! netd's neighbours in the kernel: found in the facts, changed one by one.

use super::{NeighbourSpec, is_anothers};
use crate::facts::{Facts, Link, Neighbour, links, neighbours, same_device};
use crate::kinds::route::PROTOCOL;
use crate::netlink::{Answer, Connection, Request};
use crate::target::Target;
use async_trait::async_trait;
use netd_core::{Action, Observation, Outcome, Step};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteProtocol, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What an operator is told about an entry that is kept only as long as the kernel happens to remember it.
const NOT_MANAGED: &str = "this kernel does not keep it resolved by itself (Linux 5.16 does); netd asks again when it \
                           is lost";

/// The first kernel that keeps neighbours resolved by itself.
const MANAGES_SINCE: (u32, u32) = (5, 16);

/// The target of neighbours: the kernel's neighbour tables.
pub struct NeighbourTarget {
    /// Away while changes are under way; made anew when they were cancelled.
    connection: Option<Connection>,
    keeping: Keeping,
}

impl Default for NeighbourTarget {
    fn default() -> Self {
        let system = rustix::system::uname();
        Self { connection: None, keeping: Keeping::of(&system.release().to_string_lossy()) }
    }
}

/// Who keeps a neighbour resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// The kernel, once it was told to.
    Kernel,
    /// The kernel only while there is traffic; an entry is good as long as it is valid.
    Traffic,
}

impl Keeping {
    /// What a kernel of this release does: `6.1.0-18-amd64`.
    fn of(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) < MANAGES_SINCE => Self::Traffic,
            _ => Self::Kernel,
        }
    }
}

#[async_trait]
impl Target for NeighbourTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        Ok(observe(facts, self.keeping))
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let jobs: Vec<Job> = steps.iter().map(Job::new).collect();
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open().map_err(|error| format!("open netlink: {error}")),
        };
        let done = match connection {
            Ok(connection) => run(connection, &jobs).await,
            Err(reason) => Err(reason),
        };
        match done {
            Ok((outcomes, connection)) => {
                self.connection = connection;
                outcomes
            }
            Err(reason) => vec![Outcome::Failed(reason); jobs.len()],
        }
    }
}

fn observe(facts: &Facts, keeping: Keeping) -> Observation {
    let mut observation = Observation::default();
    for (&(ifindex, address), neighbour) in &facts.neighbours {
        if neighbour.protocol != PROTOCOL || neighbour.permanent {
            continue;
        }
        let Some(link) = facts.links.get(&ifindex) else { continue };
        let kept = match keeping {
            Keeping::Kernel => neighbour.managed,
            Keeping::Traffic => neighbour.valid,
        };
        let spec = NeighbourSpec { address, device: link.name.clone(), ifindex, kept };
        if keeping == Keeping::Traffic {
            observation.notes.insert(spec.key(), NOT_MANAGED.into());
        }
        observation.owned.insert(spec.key(), Arc::new(spec));
    }
    observation
}

/// One step, with its spec's type back.
enum Job {
    Ask(NeighbourSpec),
    Delete(NeighbourSpec),
    /// A spec of another kind: a mistake of the caller.
    Unknown,
}

impl Job {
    fn new(step: &Step) -> Self {
        let typed = |spec: &Arc<dyn netd_core::Spec>| spec.as_any().downcast_ref::<NeighbourSpec>().cloned();
        let job = match &step.action {
            Action::Create { to } | Action::Update { to, .. } => typed(to).map(Self::Ask),
            Action::Delete { from } => typed(from).map(Self::Delete),
        };
        job.unwrap_or(Self::Unknown)
    }

    /// What to send when the entry is `now`, or what comes of the job without sending anything.
    fn request(
        &self,
        now: &BTreeMap<(u32, IpAddr), Neighbour>,
        links: &BTreeMap<u32, Link>,
    ) -> Result<Request, Outcome> {
        if let Self::Ask(spec) = self {
            same_device(links, spec.ifindex, &spec.device).map_err(Outcome::Failed)?;
        }
        match self {
            // Asking would take the fixed MAC, or the mark, from an entry that somebody made meanwhile.
            Self::Ask(spec) => match now.get(&(spec.ifindex, spec.address)) {
                Some(neighbour) if is_anothers(neighbour) => {
                    Err(Outcome::Conflict("an entry that somebody else looks after".into()))
                }
                Some(_) => Ok(asking(spec, NLM_F_CREATE)),
                None => Ok(asking(spec, NLM_F_CREATE | NLM_F_EXCL)),
            },
            Self::Delete(spec) => match now.get(&(spec.ifindex, spec.address)) {
                Some(neighbour) if neighbour.protocol == PROTOCOL && !neighbour.permanent => {
                    Ok(Request { message: RouteNetlinkMessage::DelNeighbour(message(spec)), flags: 0 })
                }
                // Gone, or no longer ours.
                Some(_) | None => Err(Outcome::Applied),
            },
            Self::Unknown => Err(Outcome::Failed("this is not a neighbour".into())),
        }
    }
}

/// Does the jobs: one outcome each, and the connection unless an answer of the kernel was lost.
async fn run(mut connection: Connection, jobs: &[Job]) -> Result<(Vec<Outcome>, Option<Connection>), String> {
    // The kernel cannot be told to leave an entry alone if it is fixed, so it is looked at as late as possible.
    let now = neighbours(&mut connection).await.map_err(|error| format!("read neighbours: {error}"))?;
    let links = links(&mut connection).await.map_err(|error| format!("read links: {error}"))?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    let mut lost = None;
    for job in jobs {
        let outcome = match (job.request(&now, &links), lost) {
            (Err(outcome), _) => outcome,
            (Ok(_), Some(error)) => judge(job, Answer::Lost(error)),
            (Ok(request), None) => {
                let answer = connection.change(request).await;
                if let Answer::Lost(error) = answer {
                    lost = Some(error);
                }
                judge(job, answer)
            }
        };
        outcomes.push(outcome);
    }
    Ok((outcomes, lost.is_none().then_some(connection)))
}

fn judge(job: &Job, answer: Answer) -> Outcome {
    match (job, answer) {
        (_, Answer::Done) | (Job::Delete(_), Answer::Refused(Errno::NOENT)) => Outcome::Applied,
        (_, Answer::Refused(Errno::EXIST)) => {
            Outcome::Failed("it appeared since it was last looked at".into())
        }
        (_, Answer::Refused(error)) => Outcome::Failed(std::io::Error::from(error).to_string()),
        (_, Answer::Lost(error)) => {
            Outcome::Failed(format!("the kernel's answer was lost: {}", std::io::Error::from(error)))
        }
    }
}

/// Asks the kernel to resolve an entry and to keep it so.
///
/// `NTF_USE` is for kernels before 5.16, which do not know the extended flags and ignore them: it makes them resolve
/// once without touching the entry's state. A newer kernel takes it as part of managing.
fn asking(spec: &NeighbourSpec, flags: u16) -> Request {
    let mut message = message(spec);
    message.header.flags = NeighbourFlags::Use | NeighbourFlags::ExtLearned;
    message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    Request { message: RouteNetlinkMessage::NewNeighbour(message), flags }
}

fn message(spec: &NeighbourSpec) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match spec.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = spec.ifindex;
    message.header.state = NeighbourState::None;
    message.header.kind = RouteType::Unspec;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(spec.address)));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_their_release() {
        for old in ["5.10.0-28-amd64", "5.15.0", "4.19.304"] {
            assert_eq!(Keeping::of(old), Keeping::Traffic, "{old}");
        }
        for new in ["5.16.0", "6.1.0-18-amd64", "6.18.44-fc", "10.0", "unknown"] {
            assert_eq!(Keeping::of(new), Keeping::Kernel, "{new}");
        }
    }
}
