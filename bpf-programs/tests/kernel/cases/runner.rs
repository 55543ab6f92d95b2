//! Runs the cases: the program and the model are both asked, and both have to say what the case says.

use std::collections::BTreeMap;

use netd_bpf::abi::FrontendKey;
use netd_bpf::{Capacity, Verdict};

use super::{Case, Told, groups, hall, pools, services, vips};
use crate::bed::{Bed, CAPACITY, hex, in_own_world, now_ns};
use crate::reference::{Count, Counts, FlowId, Model, Record, Settings};

#[test]
fn the_model_says_what_every_case_says() {
    let mut model = Model { services: services(), vips: vips(), pools: pools(), ..Model::default() };
    let mut failures = Vec::new();
    for (group, cases) in groups() {
        for case in cases {
            let name = format!("{group}: {}", case.sentence);
            failures.extend(
                run_model(&mut model, &case).into_iter().map(|failure| format!("{name}\n    {failure}")),
            );
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_case_comes_true() {
    let mut by_settings: BTreeMap<String, Vec<(String, Case)>> = BTreeMap::new();
    for (group, cases) in groups() {
        for case in cases {
            let name = format!("{group}: {}", case.sentence);
            by_settings.entry(format!("{:?}", case.settings)).or_default().push((name, case));
        }
    }
    let mut failures = Vec::new();
    for cases in by_settings.values() {
        in_own_world(|root| {
            let mut bed = hall_of(root, cases[0].1.settings);
            for (name, case) in cases {
                failures
                    .extend(run(&mut bed, case).into_iter().map(|failure| format!("{name}\n    {failure}")));
            }
        });
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// A bed with the tables of all cases.
pub fn hall_of(root: &std::path::Path, settings: Settings) -> Bed {
    let room = Capacity { frontends_v4: 256, frontends_v6: 256, ring_lines: 8192, ..CAPACITY };
    let mut bed = Bed::with(root, settings, &room);
    for service in services() {
        bed.add(service);
    }
    vips().into_iter().for_each(|vip| bed.add_vip(vip));
    pools().into_iter().for_each(|pool| bed.add_pool(pool));
    bed
}

/// What is not as the case says, of the program and of the model.
fn run(bed: &mut Bed, case: &Case) -> Vec<String> {
    bed.forget_flows();
    for (id, record) in records(&bed.model, case) {
        bed.record(id, record);
    }
    for packet in &case.before {
        let frame = packet.bytes();
        let out = bed.datapath.run(&frame).unwrap();
        bed.model.now_ns = now_ns();
        bed.model.run(&frame, &out.1);
    }
    let before = counts(bed);
    let frame = case.packet.bytes();
    let ran = bed.datapath.run(&frame).unwrap();
    bed.model.now_ns = now_ns();
    let modelled = bed.model.run(&frame, &ran.1);
    let after = counts(bed);
    let mut failures = differences(case, "program", &ran, counted_between(before.0, after.0));
    failures.extend(differences(case, "model", &modelled, counted_between(before.1, after.1)));
    if failures.is_empty() {
        failures.extend(bed.differences());
    }
    if !failures.is_empty() {
        failures.push(format!("in  {}", hex(&frame)));
        // What one case has done wrong is not held against the next one.
        agree_again(bed);
    }
    failures
}

/// The same of the model alone.
fn run_model(model: &mut Model, case: &Case) -> Vec<String> {
    (model.settings, model.now_ns) = (case.settings, now_ns());
    model.flows = records(model, case).into_iter().collect();
    let answers = case.allowed();
    for packet in &case.before {
        model.run(&packet.bytes(), &[]);
    }
    let before = sum(model.counts.values());
    let said = model.run(&case.packet.bytes(), &answers[0].1);
    differences(case, "model", &said, counted_between(before, sum(model.counts.values())))
}

fn differences(case: &Case, who: &str, said: &(Verdict, Vec<u8>), counted: Vec<Count>) -> Vec<String> {
    let mut failures = Vec::new();
    let allowed = case.allowed();
    if !allowed.contains(said) {
        let (verdict, out) = &allowed[0];
        failures.push(format!("{who}: {:?}, not {verdict:?}{}", said.0, difference(&said.1, out)));
    }
    let mut expected = case.counted.clone();
    expected.sort_unstable();
    if counted != expected {
        failures.push(format!("{who}: counts {counted:?}, not {expected:?}"));
    }
    failures
}

/// The records that are there before a case.
fn records(model: &Model, case: &Case) -> Vec<(FlowId, Record)> {
    let of = |told: &Told| {
        let port = case.packet.frontend_port().expect("the case says which frontend it is about");
        let (client, protocol) = case.packet.flow.unwrap_or((case.packet.source, case.packet.protocol()));
        let key = FrontendKey { address: case.packet.destination, port, protocol };
        let service = model.services.iter().find(|service| service.key == key).expect("a frontend");
        let counter = service.backends[usize::from(told.index)].counter;
        let seen_ns = now_ns().saturating_sub(told.seconds_ago * 1_000_000_000);
        let id = FlowId { client, client_port: told.client_port, to: key };
        (id, Record { counter, index: told.index.into(), seen_ns })
    };
    case.records.iter().map(of).collect()
}

/// The sums over all services: the program's and the model's.
fn counts(bed: &mut Bed) -> (Counts, Counts) {
    let of = |service| Counts(bytemuck::cast(bed.maps().service_counter(service).unwrap()));
    let counted: Vec<Counts> = (0..CAPACITY.services).map(of).collect();
    (sum(counted.iter()), sum(bed.model.counts.values()))
}

fn sum<'a>(all: impl Iterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    for counts in all {
        for (word, add) in sum.0.iter_mut().zip(counts.0) {
            *word += add;
        }
    }
    sum
}

fn counted_between(before: Counts, after: Counts) -> Vec<Count> {
    let all = Count::ALL.into_iter();
    all.flat_map(|count| {
        let times = after.0[count as usize] - before.0[count as usize];
        std::iter::repeat_n(count, times as usize)
    })
    .collect()
}

fn agree_again(bed: &mut Bed) {
    for service in 0..CAPACITY.services {
        let counted = bytemuck::cast(bed.maps().service_counter(service).unwrap());
        bed.model.counts.insert(service, Counts(counted));
    }
    let counters: Vec<u32> = bed.model.services.iter().flat_map(|s| &s.backends).map(|b| b.counter).collect();
    for index in counters {
        let (sent, new) = (bed.maps().counter(index).unwrap(), bed.maps().new_flows(index).unwrap());
        bed.model.sent.insert(index, sent);
        bed.model.new_flows.insert(index, new);
    }
}

/// Where two frames differ, and what they are there.
fn difference(said: &[u8], expected: &[u8]) -> String {
    if said == expected {
        return String::new();
    }
    let at = said.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(said.len().min(expected.len()));
    format!("; from byte {at} on\n    is  {}\n    not {}", hex(said), hex(expected))
}

#[test]
fn every_service_of_the_hall_is_one_of_a_kind() {
    let keys: std::collections::BTreeSet<_> = hall::services().iter().map(|service| service.key).collect();
    assert_eq!(keys.len(), hall::services().len());
}
