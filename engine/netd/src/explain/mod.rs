//! What becomes of one packet, and why, step by step: the load balancer, then egress policies and masquerading.
//!
//! [`offline`] answers from the file alone. `loaded` reads the maps, runs the load balancer's program on the packet and says
//! so if the program did anything else than the maps promise. `translation` goes by the maps of the programs that
//! translate.

mod counted;
mod flow_hash;
mod frame;
mod ingress;
mod loaded;
pub mod offline;
mod packet;
mod parse;
mod promise;
mod size;
mod translation;
mod wire;

pub use flow_hash::{flow_hash, outer_source};
pub use loaded::explain as loaded;
pub use packet::{Complaint, Kind, Packet, TcpFlags};
pub use parse::PacketError;

use crate::egress::{OwnerReport, Rule};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes to a backend, in a tunnel.
    Forward,
    /// It is dropped.
    Drop,
    /// It is dropped and the client is told.
    Reject,
    /// It is a ping, and answered.
    Answer,
    /// It goes on with another address: a pod's with the one that it leaves with, an answer with the pod's.
    Translate,
    /// It goes to the gateway of its egress policy.
    Steer,
    /// It is left to the kernel as it came.
    Pass,
}

impl Verdict {
    /// The word of `--json` and of the text.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Answer => "answer",
            Self::Translate => "translate",
            Self::Steer => "steer",
            Self::Pass => "pass",
        }
    }
}

/// Where an explanation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The file alone.
    File,
    /// The loaded program and its maps.
    Program,
}

/// The answer. What the packet did not get to is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The packet as it was understood.
    pub packet: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, in one clause.
    pub reason: String,
    /// Where the answer comes from.
    pub evidence: Evidence,
    /// The service.
    pub service: Option<String>,
    /// Its frontend: `192.0.2.10:80/tcp`.
    pub frontend: Option<String>,
    /// The flow's hash.
    #[serde(serialize_with = "hexadecimal")]
    pub flow_hash: Option<u32>,
    /// The slots of the service's table.
    pub table_size: Option<u32>,
    /// The flow's slot.
    pub slot: Option<u32>,
    /// The backend, and the port that the packet has when it gets there.
    pub backend: Option<SocketAddr>,
    /// The source of the tunnel's header; `None` offline where it is an address that only the node knows.
    pub outer_source: Option<IpAddr>,
    /// The destination of the tunnel's header.
    pub outer_destination: Option<IpAddr>,
    /// The device by which it leaves; `None` offline.
    pub device: Option<String>,
    /// The egress policy that has it.
    pub policy: Option<String>,
    /// The gateway's address, where it is sent to another node.
    pub gateway: Option<IpAddr>,
    /// What its source becomes; `None` also where the flow is new, and its port not chosen yet.
    pub leaves_as: Option<SocketAddr>,
    /// The pod that an answer goes to.
    pub pod: Option<SocketAddr>,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// What the maps of the translating programs say of it.
    #[serde(skip)]
    pub rule: Option<Rule>,
    /// Whether no policy can have it: it is the node's own, or for an address that answers to pods come to.
    #[serde(skip)]
    pub is_exempt: bool,
    /// Where the program did something else than its maps promise; empty unless something is broken.
    pub disagreements: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is decided: `frontend`, `hash`, `backend`, …
    pub what: &'static str,
    /// How it was decided, in one clause.
    pub how: String,
}

impl Explanation {
    /// An answer that has not got anywhere yet.
    #[must_use]
    pub fn new(packet: &Packet, evidence: Evidence) -> Self {
        Self {
            packet: packet.to_string(),
            verdict: Verdict::Pass,
            reason: String::new(),
            evidence,
            service: None,
            frontend: None,
            flow_hash: None,
            table_size: None,
            slot: None,
            backend: None,
            outer_source: None,
            outer_destination: None,
            device: None,
            policy: None,
            gateway: None,
            leaves_as: None,
            pod: None,
            steps: Vec::new(),
            rule: None,
            is_exempt: false,
            disagreements: Vec::new(),
        }
    }

    /// Whether it leaves this node if it is a pod's: the load balancer leaves it alone, and nothing exempts it.
    #[must_use]
    pub fn may_have_policy(&self, packet: &Packet) -> bool {
        let is_of_flow = !matches!(packet.kind, Kind::Error { .. });
        let is_left_alone =
            self.frontend.is_none() && self.service.is_none() && self.verdict == Verdict::Pass;
        is_of_flow && !self.is_exempt && (self.rule.is_some() || is_left_alone)
    }

    /// Names the egress policy that has the packet by the file in force, and says where the programs know something else.
    pub fn tell_policy(&mut self, owner: Result<Option<OwnerReport>, String>) {
        let owner = match owner {
            Ok(Some(owner)) => owner,
            Ok(None) if self.rule.is_some_and(|rule| rule != Rule::Pass) => {
                self.disagreements.push("no egress policy of the file in force has it".into());
                return;
            }
            Ok(None) => return,
            Err(why) => return self.step("policy", format!("it is not known which one has it: {why}")),
        };
        let OwnerReport { policy, source, destination, rule } = owner;
        let at = self.steps.iter().position(|step| step.what == "egress").unwrap_or(self.steps.len());
        let gateway = match (&policy.gateway, policy.is_here) {
            (Some(node), true) => format!("{node}, this node: {}", policy.why),
            (Some(node), false) => format!("{node}: {}", policy.why),
            (None, _) => format!("none: {}", policy.why),
        };
        let how = format!("{}, from {source} to {destination}", policy.name);
        self.steps.insert(at, Step { what: "gateway", how: gateway });
        self.steps.insert(at, Step { what: "policy", how });
        if self.rule.unwrap_or(Rule::Pass) != rule {
            let known = self.rule.map_or("nothing of it".to_owned(), |rule| format!("`{rule}`"));
            self.disagreements
                .push(format!("by the file in force it is `{rule}`; the programs know {known}"));
        } else if let (Some(why), Verdict::Drop) = (policy.trouble, self.verdict) {
            self.reason = why;
        }
        self.policy = Some(policy.name);
    }

    /// Begins with the steps of who looked at the packet before.
    #[must_use]
    pub fn after(mut self, earlier: Self) -> Self {
        self.steps.splice(0..0, earlier.steps);
        self
    }

    /// Adds a step.
    pub fn step(&mut self, what: &'static str, how: impl Into<String>) {
        self.steps.push(Step { what, how: how.into() });
    }

    /// Ends with a verdict.
    #[must_use]
    pub fn ends(mut self, verdict: Verdict, reason: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.reason = reason.into();
        self
    }

    /// The answer as text: the steps below each other, the verdict last.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.steps.iter().map(|step| step.what.len()).max().unwrap_or(0).max("verdict".len());
        let mut text = format!("{}\n", self.packet);
        for step in &self.steps {
            text.push_str(&format!("  {:width$}  {}\n", step.what, step.how));
        }
        text.push_str(&format!("  {:width$}  {}: {}\n", "verdict", self.verdict.word(), self.reason));
        for disagreement in &self.disagreements {
            text.push_str(&format!("  {:width$}  {disagreement}\n", "BUT"));
        }
        text
    }
}

fn hexadecimal<S: serde::Serializer>(hash: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    match hash {
        Some(hash) => serializer.serialize_str(&format!("{hash:08x}")),
        None => serializer.serialize_none(),
    }
}
