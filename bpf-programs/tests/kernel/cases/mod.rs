//! Named cases: a sentence, the packet in layers, the verdict, the packet out, and what is counted. The program and the
//! model both have to say what the case says; a case asks neither.

use netd_bpf::Verdict;

mod balancing;
mod bytes;
mod changes;
mod choosing;
mod fragments;
pub mod hall;
mod icmp_errors;
pub mod layers;
mod lengths;
mod martians;
mod outer;
mod ping;
mod rejects;
mod runner;
mod tags;
mod too_big;
mod unknown;

use crate::reference::{Count, Settings};
use layers::Layers;
use outer::Outer;

use hall::{pools, services, vips};
pub use runner::hall_of;

/// As many as the cases have to be, at least.
const CASES_MIN: usize = 300;

/// One case.
pub struct Case {
    sentence: String,
    packet: Layers,
    /// Packets that come before it.
    before: Vec<Layers>,
    records: Vec<Told>,
    settings: Settings,
    expected: Expected,
    counted: Vec<Count>,
}

/// A flow record that is there before the packet.
struct Told {
    client_port: u16,
    index: u16,
    seconds_ago: u64,
}

enum Expected {
    Passed,
    Dropped,
    /// To the backend; `holding` what, if not the packet itself.
    Sent {
        backend: u16,
        holding: Option<Box<Layers>>,
        changes: Vec<fn(&mut Outer)>,
    },
    /// To any of the backends, unchanged.
    SentToOneOf(Vec<u16>),
    Answered(Box<Layers>),
}

/// A case, to be completed with what has to happen.
pub fn case(sentence: impl Into<String>, packet: Layers) -> Case {
    Case {
        sentence: sentence.into(),
        packet,
        before: Vec::new(),
        records: Vec::new(),
        settings: Settings::default(),
        expected: Expected::Passed,
        counted: Vec::new(),
    }
}

impl Case {
    fn after(mut self, packet: Layers) -> Self {
        self.before.push(packet);
        self
    }

    /// A record of the packet's client: of its flow, or with port 0 of the client itself.
    fn recorded(mut self, client_port: u16, index: u16, seconds_ago: u64) -> Self {
        self.records.push(Told { client_port, index, seconds_ago });
        self
    }

    fn under(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    fn passes(self) -> Self {
        Self { expected: Expected::Passed, ..self }
    }

    fn dropped(self, count: Count) -> Self {
        Self { expected: Expected::Dropped, ..self }.counts(count)
    }

    fn sent_to(self, backend: u16) -> Self {
        Self { expected: Expected::Sent { backend, holding: None, changes: Vec::new() }, ..self }
    }

    fn sent_to_one_of(self, backends: &[u16]) -> Self {
        Self { expected: Expected::SentToOneOf(backends.to_vec()), ..self }
    }

    /// What is inside, if it is not what came.
    fn holding(mut self, inside: Layers) -> Self {
        if let Expected::Sent { holding, .. } = &mut self.expected {
            *holding = Some(Box::new(inside));
        }
        self
    }

    /// How the outer headers differ from the usual ones.
    fn outer(mut self, change: fn(&mut Outer)) -> Self {
        if let Expected::Sent { changes, .. } = &mut self.expected {
            changes.push(change);
        }
        self
    }

    fn answered(self, answer: Layers) -> Self {
        Self { expected: Expected::Answered(Box::new(answer)), ..self }
    }

    fn counts(mut self, count: Count) -> Self {
        self.counted.push(count);
        self
    }

    /// The verdict, and the frame out; of several that are allowed, each.
    fn allowed(&self) -> Vec<(Verdict, Vec<u8>)> {
        match &self.expected {
            Expected::Passed => vec![(Verdict::Pass, self.packet.bytes())],
            Expected::Dropped => vec![(Verdict::Drop, self.packet.bytes())],
            Expected::Answered(answer) => vec![(Verdict::Transmit, answer.bytes())],
            Expected::Sent { backend, holding, changes } => {
                let mut outer = Outer::usual(&self.packet, *backend);
                for change in changes {
                    change(&mut outer);
                }
                vec![outer.around(holding.as_deref().unwrap_or(&self.packet))]
            }
            Expected::SentToOneOf(backends) => {
                let frame = |backend: &u16| Outer::usual(&self.packet, *backend).around(&self.packet);
                backends.iter().map(frame).collect()
            }
        }
    }
}

/// All cases, with the names of their groups.
fn groups() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("balancing", balancing::cases()),
        ("changes", changes::cases()),
        ("choosing", choosing::cases()),
        ("fragments", fragments::cases()),
        ("icmp errors", icmp_errors::cases()),
        ("lengths", lengths::cases()),
        ("martians", martians::cases()),
        ("ping", ping::cases()),
        ("rejects", rejects::cases()),
        ("tags", tags::cases()),
        ("too big", too_big::cases()),
        ("unknown", unknown::cases()),
    ]
}

#[test]
fn there_are_as_many_cases_as_promised_and_no_two_have_the_same_name() {
    let all: Vec<String> = groups()
        .into_iter()
        .flat_map(|(group, cases)| cases.into_iter().map(move |case| format!("{group}: {}", case.sentence)))
        .collect();
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    let twice: Vec<&&String> =
        distinct.iter().filter(|name| all.iter().filter(|other| other == *name).count() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(all.len() >= CASES_MIN, "only {} cases", all.len());
    println!("{} cases", all.len());
}
