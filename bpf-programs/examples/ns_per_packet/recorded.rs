//! What the recorder costs a packet, beside the load balancer that runs while nothing is recorded.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::programs::{ProgramFd, SchedClassifier};
use ipnetwork::IpNetwork;
use netd_bpf::recorder::{ANY_PORT, Capture, Filter, Recorder, Size};

use crate::Outcome;
use crate::balancer::{Balancer, Feature, Scene};
use crate::harness::{self, Traffic};
use crate::packets::{Kind, V4, V6};
use crate::tables::{Bench, LOOPBACK, MANY, USUAL_SLOTS, text};

/// Between two looks at the ring by who takes packets out of it.
const REST: Duration = Duration::from_micros(200);

/// The ring of the daemon, and a capture's share of it.
const SHARE: u32 = 4 << 20;

/// What is recorded: masks of which none matches, or frames of which so many bytes are kept.
const CASES: [(&str, Wanted); 5] = [
    ("1 mask that does not match", Wanted::Nothing { masks: 1 }),
    ("4 masks that do not match", Wanted::Nothing { masks: 4 }),
    ("16 masks that do not match", Wanted::Nothing { masks: 16 }),
    ("every packet, 64 bytes of it", Wanted::Everything { snaplen: 64 }),
    ("every packet, whole", Wanted::Everything { snaplen: 16_384 }),
];

#[derive(Clone, Copy)]
enum Wanted {
    Nothing { masks: u8 },
    Everything { snaplen: u32 },
}

impl Bench {
    pub fn recorder(&self) -> Outcome<()> {
        println!(
            "What the recorder costs: 1 service × 100 backends, {MANY} flows; the ratio is to the load balancer without it.\n"
        );
        println!("| recorded is | packets | without | best | median | middle half | ratio | lost |");
        println!("|---|---|--:|--:|--:|--:|--:|--:|");
        for (name, wanted) in CASES {
            for kind in [V4, V6] {
                self.recorded(name, wanted, kind)?;
            }
        }
        println!();
        Ok(())
    }

    fn recorded(&self, name: &str, wanted: Wanted, kind: Kind) -> Outcome<()> {
        let (slots, feature, device) = (USUAL_SLOTS, Feature::Plain, LOOPBACK);
        let scene = Scene { services: 1, backends: 100, slots, feature, kind, device };
        let root = self.world.root("measured");
        let mut balancer = Balancer::filled(&root, scene)?;
        let mut recorder = balancer.datapath.start_recording(Size::default())?;
        let number = recorder.begin(&capture(wanted, kind)?)?;
        let (_held, recording) = program(&root)?;
        let traffic = Traffic { kind, flows: MANY, services: 1 };
        let measured = while_taken(&mut recorder, || {
            harness::measure(&[&balancer.program, &recording], &traffic, self.rounds)
                .map_err(|error| error.to_string())
        });
        let (costs, _) = measured?;
        let [plain, cost] = costs[..] else { return Err("two programs have two costs".into()) };
        let counts = recorder.counts(number);
        let all = counts.packets + counts.lost_packets;
        println!(
            "| {name} | {} | {:.0} | {} | {:.2} | {:.1} % |",
            kind.name,
            plain.median,
            text(&cost),
            cost.median / plain.median,
            counts.lost_packets as f64 * 100.0 / all.max(1) as f64
        );
        balancer.datapath.stop_recording()?;
        balancer.datapath.retire()?;
        Ok(())
    }
}

/// Does something while another processor takes out of the ring what there is.
fn while_taken<T>(recorder: &mut Recorder, action: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if recorder.poll(usize::MAX, |_, _| ()) == 0 {
                    thread::sleep(REST);
                }
            }
        });
        let done = action();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

/// The program that records. Opening an XDP program asks for a type that aya does not export; only the descriptor is wanted.
fn program(root: &Path) -> Outcome<(SchedClassifier, ProgramFd)> {
    let held = SchedClassifier::from_pin(root.join("recorder/program"))?;
    let program = held.fd()?.try_clone()?;
    Ok((held, program))
}

fn capture(wanted: Wanted, kind: Kind) -> Outcome<Capture> {
    let everything: IpNetwork = if kind.is_ipv4 { "0.0.0.0/0" } else { "::/0" }.parse()?;
    // No packet goes there, and each length is a mask.
    let (nowhere, shortest) = if kind.is_ipv4 { ("198.18.0.0", 16) } else { ("2001:2::", 48) };
    let to = |destination| Filter {
        source: everything,
        destination,
        source_ports: ANY_PORT,
        destination_ports: ANY_PORT,
        protocol: None,
    };
    Ok(match wanted {
        Wanted::Everything { snaplen } => Capture { filters: vec![to(everything)], snaplen, share: SHARE },
        Wanted::Nothing { masks } => {
            let network = |more: u8| IpNetwork::new(nowhere.parse()?, shortest + more).map_err(Into::into);
            let networks = (0..masks).map(network).collect::<Outcome<Vec<_>>>()?;
            Capture { filters: networks.into_iter().map(to).collect(), snaplen: 64, share: SHARE }
        }
    })
}
