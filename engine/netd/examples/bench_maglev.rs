//! Measures how long a Maglev table takes: netd's builder beside two others that give the same table, in turns on one
//! thread, and the tables of many services on all processors.
//!
//! The two are written anew after what is known of others: one finds each next slot with a division, as Katran does,
//! in 64 bits because 32 are too few for large tables; one writes every backend's whole order of slots down first, as
//! Cilium does.
//!
//! ```text
//! cargo run --release -p netd --example bench_maglev
//! ```

use netd::kinds::service::maglev::{Member, Request, by_name, murmur3, table, tables};
use netd_bpf::abi::{LINE_BYTES, ring_lines};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// The murmur seed of Cilium's default.
const SEED: u32 = 0x24b7_ef82;

/// Orders of slots with more entries than this take gigabytes.
const ORDERS_MAX: u64 = 100_000_000;

fn main() {
    println!("One table, one thread, median ms; the ratios are netd's time to that of the other.\n");
    println!("|     slots | backends |   netd | divided | ratio | written down | ratio |");
    println!("|----------:|---------:|-------:|--------:|------:|-------------:|------:|");
    for (slots, rounds) in [(16_381, 15), (65_537, 9), (1_048_573, 5)] {
        for backends in [10, 100, 1000, 5000] {
            one_table(slots, backends, rounds);
        }
    }
    println!("\n1,000 tables, median ms\n");
    println!("| slots | backends | one thread | all processors | ratio |");
    println!("|------:|---------:|-----------:|---------------:|------:|");
    for (slots, backends) in [(2039, 10), (16_381, 100)] {
        many_tables(slots, backends);
    }
    memory();
}

/// What packets read: netd's slots take a byte below 256 backends, else two; the others' are those of arrays of the
/// kernel, which take eight bytes each where they are elements, and four where a whole table is one value.
fn memory() {
    println!("\nBytes of one ring\n");
    println!("|     slots | backends |   netd | one value | elements | share of elements |");
    println!("|----------:|---------:|-------:|----------:|---------:|------------------:|");
    for (slots, backends) in [(2039, 10), (16_381, 100), (65_537, 100), (65_537, 1000)] {
        let own = (ring_lines(slots, backends > 255) as usize * LINE_BYTES) as u32;
        let elements = slots * 8;
        println!(
            "| {slots:>9} | {backends:>8} | {own:>6} | {:>9} | {elements:>8} | {:>17.3} |",
            slots * 4,
            f64::from(own) / f64::from(elements)
        );
    }
}

fn one_table(slots: u32, backends: u16, rounds: usize) {
    let members = members(backends, 0);
    let is_written_down = u64::from(slots) * u64::from(backends) <= ORDERS_MAX && slots < 1_000_000;
    let (mut own, mut divided, mut written) = (Vec::new(), Vec::new(), Vec::new());
    let expected = table(&members, slots, SEED);
    for round in 0..rounds {
        own.push(alone(|| table(&members, slots, SEED), &expected));
        divided.push(alone(|| with_divisions(&members, slots), &expected));
        // It takes seconds where it takes long, and then varies little.
        if is_written_down && (round < 3 || backends <= 100) {
            written.push(alone(|| from_orders(&members, slots), &expected));
        }
    }
    let (own, divided) = (median(own), median(divided));
    let (written, ratio) = match written.is_empty() {
        true => ("–".to_owned(), "–".to_owned()),
        false => {
            let written = median(written);
            (format!("{written:.2}"), format!("{:.3}", own / written))
        }
    };
    println!(
        "| {slots:>9} | {backends:>8} | {own:>6.2} | {divided:>7.2} | {:>5.2} | {written:>12} | {ratio:>5} |",
        own / divided
    );
}

fn many_tables(slots: u32, backends: u16) {
    let requests: Vec<Request> =
        (0..1000).map(|service| Request { members: members(backends, service), slots, seed: SEED }).collect();
    let one_by_one = || -> Vec<Vec<u16>> {
        requests.iter().map(|request| table(&request.members, request.slots, request.seed)).collect()
    };
    let expected = one_by_one();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        alone.push(timed(one_by_one, &expected));
        together.push(timed(|| tables(&requests), &expected));
    }
    let (alone, together) = (median(alone), median(together));
    println!("| {slots:>5} | {backends:>8} | {alone:>10.1} | {together:>14.1} | {:>5.2} |", together / alone);
}

fn members(count: u16, service: u16) -> Vec<Member> {
    let name = |host: u16| {
        format!("[10.{}.{}.{}:{}/TCP,State:active]", host >> 14, host >> 7 & 127, host & 127, service + 1)
    };
    (0..count).map(|host| Member { name: name(host), weight: 100 }).collect()
}

/// Milliseconds that this thread computed: what else runs on the machine hardly matters.
fn alone<T: PartialEq>(make: impl FnOnce() -> T, expected: &T) -> f64 {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
    };
    let began = now();
    let made = make();
    let took = now() - began;
    assert!(made == *expected, "another table");
    took
}

/// In milliseconds; what was made has to be what was expected.
fn timed<T: PartialEq>(make: impl FnOnce() -> T, expected: &T) -> f64 {
    let began = Instant::now();
    let made = make();
    let took: Duration = began.elapsed();
    assert!(made == *expected, "another table");
    took.as_secs_f64() * 1e3
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Offset and skip of each member, sorted by name.
fn walks(members: &[Member], slots: u32) -> Vec<(u16, u64, u64)> {
    let slots = u64::from(slots);
    let walk = |&member: &u16| {
        let (h1, h2) = murmur3(members[usize::from(member)].name.as_bytes(), SEED);
        (member, h1 % slots, h2 % (slots - 1) + 1)
    };
    by_name(members).iter().map(walk).collect()
}

fn with_divisions(members: &[Member], slots: u32) -> Vec<u16> {
    let walks = walks(members, slots);
    let mut next = vec![0u64; walks.len()];
    let mut table = vec![-1i32; slots as usize];
    let mut filled = 0;
    while filled < slots {
        for (&(member, offset, skip), next) in walks.iter().zip(&mut next) {
            loop {
                let slot = ((offset + *next * skip) % u64::from(slots)) as usize;
                *next += 1;
                if table[slot] < 0 {
                    table[slot] = i32::from(member);
                    break;
                }
            }
            filled += 1;
            if filled == slots {
                break;
            }
        }
    }
    table.into_iter().map(|member| member as u16).collect()
}

fn from_orders(members: &[Member], slots: u32) -> Vec<u16> {
    let walks = walks(members, slots);
    let mut orders = vec![0u32; walks.len() * slots as usize];
    for (&(_, offset, skip), order) in walks.iter().zip(orders.chunks_exact_mut(slots as usize)) {
        for (step, slot) in (0u64..).zip(order) {
            *slot = ((offset + step * skip) % u64::from(slots)) as u32;
        }
    }
    let mut next = vec![0usize; walks.len()];
    let mut table = vec![-1i32; slots as usize];
    for turn in 0..slots as usize {
        let at = turn % walks.len();
        let order = &orders[at * slots as usize..];
        while table[order[next[at]] as usize] >= 0 {
            next[at] += 1;
        }
        table[order[next[at]] as usize] = i32::from(walks[at].0);
        next[at] += 1;
    }
    table.into_iter().map(|member| member as u16).collect()
}
