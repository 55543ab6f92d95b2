//! netd's neighbours in the kernel: found in the facts, changed in batches.

use super::{NeighbourSpec, is_anothers};
use crate::facts::{Facts, Link, Neighbour, links, neighbours, same_device};
use crate::kinds::route::PROTOCOL;
use crate::netlink::{Answer, Channel, Request};
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
    channel: Option<Channel>,
    keeping: Keeping,
}

impl Default for NeighbourTarget {
    fn default() -> Self {
        let system = rustix::system::uname();
        Self { channel: None, keeping: Keeping::of(&system.release().to_string_lossy()) }
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
        let count = jobs.len();
        let channel = self.channel.take();
        let work = tokio::task::spawn_blocking(move || {
            let mut channel = match channel {
                Some(channel) => channel,
                None => Channel::open().map_err(|error| format!("open netlink: {error}"))?,
            };
            let (outcomes, lost) = run(&mut channel, &jobs)?;
            // After a lost answer a late one could still arrive: such a socket is not used again.
            Ok((outcomes, (!lost).then_some(channel)))
        });
        let failed = |reason: String| vec![Outcome::Failed(reason); count];
        match work.await {
            Ok(Ok((outcomes, channel))) => {
                self.channel = channel;
                outcomes
            }
            Ok(Err(reason)) => failed(reason),
            Err(error) => failed(format!("changing neighbours ended early: {error}")),
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

/// Does the jobs: one outcome each, and whether an answer of the kernel was lost.
fn run(channel: &mut Channel, jobs: &[Job]) -> Result<(Vec<Outcome>, bool), String> {
    // The kernel cannot be told to leave an entry alone if it is fixed, so it is looked at as late as possible.
    let now = neighbours(channel).map_err(|error| format!("read neighbours: {error}"))?;
    let links = links(channel).map_err(|error| format!("read links: {error}"))?;
    let mut requests = Vec::with_capacity(jobs.len());
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(jobs.len());
    for job in jobs {
        match job.request(&now, &links) {
            Ok(request) => {
                requests.push(request);
                outcomes.push(None);
            }
            Err(outcome) => outcomes.push(Some(outcome)),
        }
    }
    let mut answers = channel.change(&requests).into_iter();
    let mut lost = false;
    let mut judged = |job: &Job| {
        let answer = answers.next();
        lost |= matches!(answer, Some(Answer::Lost(_)));
        judge(job, answer)
    };
    let outcomes = jobs.iter().zip(outcomes).map(|(job, done)| done.unwrap_or_else(|| judged(job))).collect();
    Ok((outcomes, lost))
}

fn judge(job: &Job, answer: Option<Answer>) -> Outcome {
    match (job, answer) {
        (_, Some(Answer::Done)) | (Job::Delete(_), Some(Answer::Refused(Errno::NOENT))) => Outcome::Applied,
        (_, Some(Answer::Refused(Errno::EXIST))) => {
            Outcome::Failed("it appeared since it was last looked at".into())
        }
        (_, Some(Answer::Refused(error))) => Outcome::Failed(std::io::Error::from(error).to_string()),
        (_, Some(Answer::Lost(error))) => {
            Outcome::Failed(format!("the kernel's answer was lost: {}", std::io::Error::from(error)))
        }
        (_, None) => Outcome::Failed("the kernel did not answer".into()),
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
