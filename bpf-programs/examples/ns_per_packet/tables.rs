//! The tables: what is measured, and how it is printed.

use aya::programs::ProgramFd;
use netd_bpf::Datapath;
use netd_bpf::abi::{TCP, UDP};

use crate::balancer::{Balancer, Feature, Scene};
use crate::harness::{self, Cost, Traffic};
use crate::packets::{Kind, V4, V4_BIG, V4_PASS, V4_SYN, V4_UDP, V6, V6_BIG, V6_PASS, V6_SYN, V6_UDP};
use crate::peers::{self, Peers};
use crate::world::World;
use crate::{Outcome, live};

/// The loopback device, by which test runs say that packets come in.
pub const LOOPBACK: u32 = 1;

/// Services, backends of each, slots of each ring, and what is measured there: kind, flows.
type Case = (u32, u32, u32, &'static [(Kind, u32)]);

/// What a hundred backends get where the table is as large as others have it by default.
pub const USUAL_SLOTS: u32 = 16_381;
/// What `table_size = "auto"` gives to a hundred backends, and to two.
const AUTO_SLOTS: u32 = 32_749;
const LEAST_SLOTS: u32 = 2039;

pub const MANY: u32 = 131_072;

const CASES: [Case; 5] = [
    (
        1,
        100,
        USUAL_SLOTS,
        &[
            (V4, 1),
            (V4, 16_384),
            (V4, MANY),
            (V4, 1_048_576),
            (V4_SYN, MANY),
            (V4_UDP, 1),
            (V4_UDP, MANY),
            (V6, 1),
            (V6, MANY),
            (V6_SYN, MANY),
            (V6_UDP, 1),
            (V6_UDP, MANY),
            (V4_PASS, MANY),
            (V6_PASS, MANY),
            (V4_BIG, MANY),
            (V6_BIG, MANY),
        ],
    ),
    (
        100,
        100,
        USUAL_SLOTS,
        &[(V4, 1), (V4, MANY), (V4_SYN, MANY), (V4_UDP, MANY), (V6, MANY), (V6_UDP, MANY)],
    ),
    (1000, 100, USUAL_SLOTS, &[(V4, 1), (V4, MANY), (V4, 2_097_152), (V4_SYN, MANY), (V6, MANY)]),
    (1000, 100, AUTO_SLOTS, &[(V4, MANY)]),
    (
        10_000,
        2,
        LEAST_SLOTS,
        &[
            (V4, 1),
            (V4, MANY),
            (V4_SYN, MANY),
            (V4_UDP, MANY),
            (V6, MANY),
            (V6_UDP, MANY),
            (V4_PASS, MANY),
            (V6_PASS, MANY),
        ],
    ),
];

const FEATURES: [(&str, Feature); 13] = [
    ("nothing, beside 99 services that do everything", Feature::OthersDoAll),
    ("another port at the backend", Feature::BackendPort),
    ("outer source from a prefix", Feature::OuterSource),
    ("outer DSCP and ECN of its own", Feature::OuterTos),
    ("pools of addresses", Feature::Pools),
    ("window open, 1 slot of 100 changed", Feature::Window(100)),
    ("window open, every slot changed", Feature::Window(1)),
    ("backends of the other family", Feature::OtherFamily),
    ("GUE", Feature::Gue),
    ("source ranges", Feature::Sources),
    ("random", Feature::Random),
    ("affinity", Feature::Affinity),
    ("nothing", Feature::Plain),
];

const LIVE: [(u32, u32, Kind, u32); 8] = [
    (1, 100, V4, 1),
    (1, 100, V4, MANY),
    (1, 100, V4_UDP, MANY),
    (1, 100, V6, MANY),
    (100, 100, V4, 1),
    (100, 100, V4, MANY),
    (1000, 100, V4, MANY),
    (10_000, 2, V4, MANY),
];

pub struct Bench {
    pub world: World,
    pub rounds: usize,
}

impl Bench {
    pub fn packets(&self) -> Outcome<()> {
        println!(
            "Nanoseconds for a packet above an empty program, {} turns; ratios of the medians.\n",
            self.rounds
        );
        println!(
            "| services × backends | slots | packets | flows | best | median | middle half | LRU and ring | ratio | table and routes | ratio |"
        );
        println!("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|");
        let mut around = Vec::new();
        for case in CASES {
            for protocol in [TCP, UDP] {
                around.extend(self.case(&case, protocol)?);
            }
        }
        around.sort_by(f64::total_cmp);
        println!(
            "\nThe empty program with what is around it: {:.0} to {:.0}, median {:.0}.\n",
            around[0],
            around[around.len() - 1],
            around[around.len() / 2]
        );
        Ok(())
    }

    /// The lines of one protocol. Maps are filled anew where the family changes or the path gets shorter.
    fn case(&self, &(services, backends, slots, cases): &Case, protocol: u8) -> Outcome<Vec<f64>> {
        let mut around = Vec::new();
        let mut made: Option<(Balancer, Option<Peers>)> = None;
        for &(kind, flows) in cases.iter().filter(|(kind, _)| kind.protocol == protocol) {
            let scene = Scene { services, backends, slots, feature: Feature::Plain, kind, device: LOOPBACK };
            let fits = |of: &Kind| of.is_ipv4 == kind.is_ipv4 && of.mtu == kind.mtu;
            let (balancer, peers) = match made.take() {
                Some(made) if fits(&made.0.scene.kind) => made,
                other => {
                    drop(other);
                    (self.filled(scene)?, self.peers(&scene)?)
                }
            };
            around.push(self.row(&scene, flows, &balancer, peers.as_ref())?);
            made = Some((balancer, peers));
        }
        Ok(around)
    }

    /// None where there is nothing to compare: they know no ICMP.
    fn peers(&self, scene: &Scene) -> Outcome<Option<Peers>> {
        let are_wanted = scene.services <= peers::SERVICES_MAX && !scene.kind.is_too_big();
        are_wanted.then(|| Peers::filled(scene, self.world.far)).transpose()
    }

    fn filled(&self, scene: Scene) -> Outcome<Balancer> {
        let root = self.world.root("measured");
        let balancer = Balancer::filled(&root, scene)?;
        balancer.datapath.retire_others()?;
        Ok(balancer)
    }

    /// Prints a line; what the empty program took.
    fn row(&self, scene: &Scene, flows: u32, balancer: &Balancer, peers: Option<&Peers>) -> Outcome<f64> {
        let traffic = Traffic { kind: scene.kind, flows, services: scene.services };
        let mut programs = vec![&balancer.program];
        programs.extend(peers.iter().flat_map(|peers| [&peers.lru_and_ring, &peers.table_and_routes]));
        let (costs, empty) = harness::measure(&programs, &traffic, self.rounds)?;
        let own = costs[0];
        let beside = |at: usize| match costs.get(at) {
            Some(other) => format!("{:.0} | {:.2}", other.median, own.median / other.median),
            None => "– | –".to_owned(),
        };
        println!(
            "| {} × {} | {} | {} | {flows} | {} | {} | {} |",
            scene.services,
            scene.backends,
            scene.slots,
            scene.kind.name,
            text(&own),
            beside(1),
            beside(2)
        );
        Ok(empty.median)
    }

    pub fn features(&self) -> Outcome<()> {
        println!(
            "What a feature costs: 1 service × 100 backends, {MANY} flows; the ratio is to a service that does nothing more.\n"
        );
        println!("| the service does | packets | plain median | best | median | middle half | ratio |");
        println!("|---|---|--:|--:|--:|--:|--:|");
        for (name, feature) in FEATURES {
            // Pools are asked about what is for no VIP.
            let kinds = if feature == Feature::Pools { [V4, V4_PASS, V6_PASS] } else { [V4, V6, V4_UDP] };
            for kind in kinds {
                let services = if feature == Feature::OthersDoAll { 100 } else { 1 };
                let scene =
                    Scene { services, backends: 100, slots: USUAL_SLOTS, feature, kind, device: LOOPBACK };
                let plain = Scene { services: 1, feature: Feature::Plain, ..scene };
                let measured = Balancer::filled(&self.world.root("measured"), scene)?;
                let plain = Balancer::filled(&self.world.root("plain"), plain)?;
                let traffic = Traffic { kind, flows: MANY, services: 1 };
                let (costs, _) =
                    harness::measure(&[&plain.program, &measured.program], &traffic, self.rounds)?;
                let [plain_cost, cost] = costs[..] else { return Err("two programs have two costs".into()) };
                println!(
                    "| {name} | {} | {:.0} | {} | {:.2} |",
                    kind.name,
                    plain_cost.median,
                    text(&cost),
                    cost.median / plain_cost.median
                );
                measured.datapath.retire()?;
                plain.datapath.retire()?;
            }
        }
        println!();
        Ok(())
    }

    pub fn live(&self) -> Outcome<()> {
        println!(
            "Live frames through a pair of devices: generator, balancer and sink on one CPU, millions of packets a second.\n"
        );
        println!(
            "| services × backends | packets | flows | empty | netd | share of empty | arrived | LRU and ring | table and routes |"
        );
        println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
        for (services, backends, kind, flows) in LIVE {
            let slots = if backends < 100 { LEAST_SLOTS } else { USUAL_SLOTS };
            let scene =
                Scene { services, backends, slots, feature: Feature::Plain, kind, device: self.world.far };
            let balancer = self.filled(scene)?;
            let peers = self.peers(&scene)?;
            let mut programs: Vec<&ProgramFd> = vec![&balancer.program];
            programs.extend(peers.iter().flat_map(|peers| [&peers.lru_and_ring, &peers.table_and_routes]));
            let traffic = Traffic { kind, flows, services };
            let rates = live::measure(&self.world, &programs, &traffic, self.rounds)?;
            let (empty, own) = (rates[0], rates[1]);
            let beside =
                |at: usize| rates.get(at).map_or("–".to_owned(), |rate| format!("{:.2}", rate.median));
            println!(
                "| {services} × {backends} | {} | {flows} | {:.2} | {:.2} | {:.2} | {:.1} % | {} | {} |",
                kind.name,
                empty.median,
                own.median,
                own.median / empty.median,
                own.arrived * 100.0,
                beside(2),
                beside(3)
            );
        }
        println!();
        Ok(())
    }

    pub fn size(&self) -> Outcome<()> {
        println!(
            "| settings | instructions that the verifier processed | bytes | compiled for this processor |"
        );
        println!("|---|--:|--:|--:|");
        for (name, feature) in [
            ("default", Feature::Plain),
            ("pools", Feature::Pools),
            ("outer DSCP and ECN", Feature::OuterTos),
        ] {
            let scene =
                Scene { services: 1, backends: 1, slots: LEAST_SLOTS, feature, kind: V4, device: LOOPBACK };
            let [verified, bytes, compiled] = self.filled(scene)?.sizes()?;
            println!("| {name} | {verified} | {bytes} | {compiled} |");
        }
        Datapath::retire_all(&self.world.root("measured"))?;
        Ok(())
    }
}

pub fn text(cost: &Cost) -> String {
    format!("{:.0} | {:.0} | {:.0}–{:.0}", cost.best, cost.median, cost.low, cost.high)
}
