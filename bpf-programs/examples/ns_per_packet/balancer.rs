//! netd's load balancer, with maps filled for a measurement.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use aya::programs::{ProgramFd, ProgramInfo, SchedClassifier};
use netd_bpf::abi::{
    self, AFFINITY, Backend, CAREFUL, Frontend, FrontendKey, GUE, IN_USE, KEEP_FLOWS, OTHER_FAMILY, PoolKey,
    RANDOM, READY, SOURCE_ALLOWED, SOURCES, SOURCES_LISTED, Settings, Source, SourceKey, UNKNOWN_DROP,
    WINDOW_OPEN,
};
use netd_bpf::{Capacity, Datapath};

use crate::Outcome;
use crate::packets::{FIRST_VIP, Kind, PORT, address};

/// What the measured services do beyond the plain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    Plain,
    /// The services that are not measured do everything; the measured one, the first, is plain.
    OthersDoAll,
    /// The backends listen on another port.
    BackendPort,
    /// The outer source has bits of the client's hash.
    OuterSource,
    /// One slot of so many has changed, and the window is open.
    Window(u32),
    Sources,
    Affinity,
    Random,
    Gue,
    OtherFamily,
    /// Outer DSCP and ECN are as configured.
    OuterTos,
    /// There are pools of addresses.
    Pools,
}

/// What the maps are filled with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    pub services: u32,
    pub backends: u32,
    /// Of each ring.
    pub slots: u32,
    pub feature: Feature,
    pub kind: Kind,
    /// Where packets leave; the device that they come in by makes it XDP_TX.
    pub device: u32,
}

impl Scene {
    fn has(&self, service: u32) -> Feature {
        match self.feature {
            Feature::OthersDoAll if service > 0 => {
                [Feature::Window(1), Feature::Sources, Feature::Affinity, Feature::Random, Feature::Gue]
                    [service as usize % 5]
            }
            Feature::OthersDoAll => Feature::Plain,
            feature => feature,
        }
    }
}

/// A filled load balancer.
pub struct Balancer {
    pub datapath: Datapath,
    pub program: ProgramFd,
    pub scene: Scene,
    _held: SchedClassifier,
    pin: std::path::PathBuf,
}

impl Balancer {
    pub fn filled(root: &Path, scene: Scene) -> Outcome<Self> {
        let mut datapath = Datapath::create(root, &capacity(&scene), &settings(&scene))?;
        fill(&mut datapath, &scene)?;
        let pin = root.join(format!("g{}/program", datapath.number()));
        // Only the descriptor is wanted, and opening an XDP program asks for a type that aya does not export.
        let held = SchedClassifier::from_pin(&pin)?;
        let program = held.fd()?.try_clone()?;
        Ok(Self { datapath, program, scene, _held: held, pin })
    }

    /// The verifier's instructions, and the bytes before and after compilation for this processor.
    pub fn sizes(&self) -> Outcome<[u32; 3]> {
        let info = ProgramInfo::from_pin(&self.pin)?;
        Ok([
            info.verified_instruction_count().ok_or("the kernel does not count")?,
            info.size_translated().ok_or("the kernel does not say the size")?,
            info.size_jitted(),
        ])
    }
}

fn capacity(scene: &Scene) -> Capacity {
    // Two rings and two blocks for each service: of both families, or the previous ones.
    Capacity {
        frontends_v4: scene.services,
        frontends_v6: scene.services,
        ring_lines: 2 * abi::ring_lines(scene.slots, false) * scene.services,
        backend_lines: scene.backends * scene.services,
        counters: scene.backends * scene.services,
        services: scene.services,
        flows: 524_288,
        fragments: 1,
        sources: scene.services,
        pools: 1,
    }
}

fn settings(scene: &Scene) -> Settings {
    Settings {
        // What is too big is answered each time.
        icmp_errors_per_second: u32::MAX,
        has_pools: u8::from(scene.feature == Feature::Pools),
        outer_dscp: if scene.feature == Feature::OuterTos { 10 } else { abi::COPY },
        copies_ecn: u8::from(scene.feature != Feature::OuterTos),
        ..Settings::default()
    }
}

fn fill(datapath: &mut Datapath, scene: &Scene) -> Outcome<()> {
    let (slots, lines) = (scene.slots, abi::ring_lines(scene.slots, false));
    let in_no_order = |slot: u32| ((slot.wrapping_mul(2_654_435_761) >> 8) % scene.backends) as u16;
    let ring: Vec<u16> = (0..slots).map(in_no_order).collect();
    let mut frontends = Vec::new();
    let maps = datapath.maps();
    if scene.feature == Feature::Pools {
        let pool = abi::Pool { flags: UNKNOWN_DROP, service: 0 };
        maps.put_pools(&[(PoolKey::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 0)), 24), pool)])?;
    }
    for service in 0..scene.services {
        let feature = scene.has(service);
        let (at, block) = (service * lines, service * scene.backends);
        maps.set_ring(at, &abi::ring_bytes(&ring, false))?;
        let line = |k: u32| line(scene, feature, block + k);
        maps.set_backend_lines(block, &(0..scene.backends).map(line).collect::<Vec<_>>())?;
        let mut frontend = Frontend {
            ring: at,
            slots,
            slots_magic: abi::magic(slots),
            flow_seed: 0x71dc_da46,
            backends: block,
            backend_count: scene.backends,
            service,
            first_counter: block,
            ..Frontend::default()
        };
        do_more(&mut frontend, feature);
        if let Feature::Window(changed) = feature {
            let was = |(slot, &now): (u32, &u16)| {
                if slot.is_multiple_of(changed) { (now + 1) % scene.backends as u16 } else { now }
            };
            let previous: Vec<u16> = (0..).zip(&ring).map(was).collect();
            frontend.previous_ring = (scene.services + service) * lines;
            frontend.previous_slots = slots;
            frontend.previous_magic = abi::magic(slots);
            maps.set_ring(frontend.previous_ring, &abi::ring_bytes(&previous, false))?;
        }
        if feature == Feature::Sources {
            let everybody = address(scene.kind.is_ipv4, 0);
            let bits = if scene.kind.is_ipv4 { 4 } else { 32 };
            let source = Source { verdict: SOURCE_ALLOWED, ..Source::default() };
            maps.put_sources(&[(SourceKey::new(service, everybody, bits), source)])?;
        }
        let address = address(scene.kind.is_ipv4, FIRST_VIP + service);
        frontends.push((FrontendKey { address, port: PORT, protocol: scene.kind.protocol }, frontend));
    }
    maps.put_frontends(&frontends).into_iter().collect::<netd_bpf::Result<()>>()?;
    Ok(())
}

fn do_more(frontend: &mut Frontend, feature: Feature) {
    match feature {
        Feature::Window(_) => frontend.flags |= KEEP_FLOWS | WINDOW_OPEN,
        Feature::Sources => frontend.flags |= CAREFUL | SOURCES | SOURCES_LISTED,
        Feature::Affinity => {
            frontend.flags |= CAREFUL | AFFINITY;
            frontend.affinity_seconds = 3600;
        }
        Feature::Random => frontend.flags |= CAREFUL | RANDOM,
        Feature::Plain
        | Feature::OthersDoAll
        | Feature::BackendPort
        | Feature::OuterSource
        | Feature::Gue
        | Feature::OtherFamily
        | Feature::OuterTos
        | Feature::Pools => {}
    }
}

fn line(scene: &Scene, feature: Feature, counter: u32) -> Backend {
    let mut line = Backend {
        flags: READY | IN_USE,
        destination_mac: [2, 0, 0, 0, 0, 3],
        source_mac: [2, 0, 0, 0, 0, 2],
        ifindex: scene.device,
        counter,
        mtu: scene.kind.mtu,
        ..Backend::default()
    };
    match feature {
        Feature::BackendPort => line.port = 8080_u16.to_be_bytes(),
        Feature::OuterSource => line.source_bits = if scene.kind.is_ipv4 { 16 } else { 32 },
        Feature::Gue => line.flags |= GUE,
        Feature::OtherFamily => line.flags |= OTHER_FAMILY,
        Feature::Plain
        | Feature::OthersDoAll
        | Feature::Window(_)
        | Feature::Sources
        | Feature::Affinity
        | Feature::Random
        | Feature::OuterTos
        | Feature::Pools => {}
    }
    line
}
