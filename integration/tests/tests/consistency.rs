//! Ten thousand established connections through everything that netd does: changes of other backends, drains, weights,
//! deaths of netd, new programs. No connection whose backend stays breaks, or waits for an answer for more than a second.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_bpf::Datapath;
use netd_integration_tests::bed::{backend_v4, backend_v6, vips};
use netd_integration_tests::crowd::{Backends, Broken, Crowd, Order, STALL, Tally};
use netd_integration_tests::desired::{Service, file_with};
use netd_integration_tests::dice::Dice;
use netd_integration_tests::netd::wait_until;
use netd_integration_tests::{Bed, Lab};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Connections that are there at any time.
const CONNECTIONS: usize = 10_000;

/// Connections to backends themselves, past the load balancer: what they suffer is not its doing.
const BYSTANDERS: usize = 100;

/// How many connections end, and begin anew, with each change.
const RENEWED: usize = 25;

/// These backends of all services stay; they are drained and get weights.
const STAYING: std::ops::RangeInclusive<u8> = 1..=5;

/// These come and go.
const OTHERS: std::ops::RangeInclusive<u8> = 6..=8;

/// One that stays until the end, and is removed to see that the test sees it.
const CONTROL: u8 = 5;

/// Addresses of the client, in each family.
const CLIENTS: u8 = 5;

/// The ports of all services.
const PORTS: [u16; 2] = [80, 443];

/// A ring of this size fills an eighth of the room that netd makes at first.
const LARGE_TABLE: &str = "table_size = 131071";

/// After so many replacements another service with such a ring is there, until there are so many.
const LARGE_EVERY: usize = 5;
const LARGE_MAX: usize = 12;

/// How many times each thing happened.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    changes: usize,
    kills: usize,
    replacements: usize,
}

/// So often: all of it takes two minutes, and NETD_LONG=1 waits for it.
const ALL: Times = Times { changes: 1000, kills: 100, replacements: 200 };

/// Otherwise what fits into this is enough, but at least a fifth of all.
const ENOUGH: Duration = Duration::from_secs(60);

/// Kinds of services.
const SERVICES: [&str; 5] = ["", "", "table_size = 16381", "algorithm = \"random\"", "affinity = \"1h\""];

/// One backend of a service.
#[derive(Clone, Copy)]
struct Backend {
    state: &'static str,
    weight: u64,
}

const FRESH: Backend = Backend { state: "active", weight: 100 };

/// The desired file, change by change.
struct Desired {
    dice: Dice,
    services: Vec<BTreeMap<u8, Backend>>,
    hop_limit: u8,
    large: usize,
}

impl Desired {
    fn new(seed: u64) -> Self {
        let staying: BTreeMap<u8, Backend> = STAYING.map(|number| (number, FRESH)).collect();
        let services = vec![staying; SERVICES.len()];
        Self { dice: Dice::new(seed), services, hop_limit: 64, large: 0 }
    }

    /// Changes one backend of one service.
    fn change(&mut self) {
        let at = self.dice.below(SERVICES.len() as u64) as usize;
        let weight = 1 + self.dice.below(200);
        let services = &mut self.services[at];
        if self.dice.below(2) == 0 {
            let number = pick(&mut self.dice, OTHERS);
            let states = ["active", "active", "terminating", "quarantined", "maintenance"];
            let state = states[self.dice.below(states.len() as u64) as usize];
            match services.contains_key(&number) && self.dice.below(3) > 0 {
                true => services.remove(&number),
                false => services.insert(number, Backend { state, weight }),
            };
            return;
        }
        let number = pick(&mut self.dice, STAYING);
        let active = STAYING.filter(|number| services[number].state == "active").count();
        let backend = services.get_mut(&number).unwrap();
        match (self.dice.below(2), backend.state) {
            (0, "active") if active > 2 => backend.state = "terminating",
            (0, "terminating") => backend.state = "active",
            _ => backend.weight = weight,
        }
    }

    /// Something that needs another program: another constant in it, and now and then larger maps.
    fn replace(&mut self, number: usize) {
        self.hop_limit = 64 + (self.hop_limit + 1) % 64;
        self.large += usize::from(number % LARGE_EVERY == LARGE_EVERY / 2 && self.large < LARGE_MAX);
    }

    fn text(&self) -> String {
        let mut services: Vec<Service> = (0..SERVICES.len())
            .map(|at| Service::new(&name(at), vip(at)).port("tcp", PORTS[0], PORTS[0]))
            .collect();
        services[0] = services[0].clone().port("tcp", PORTS[1], PORTS[1]);
        for (service, backends) in services.iter_mut().zip(&self.services) {
            for (&number, Backend { state, weight }) in backends {
                let keys = format!("state = \"{state}\", weight = {weight}");
                *service = service.clone().backend_with(number.into(), &keys);
            }
        }
        let large = (0..self.large)
            .map(|at| Service::new(&name(100 + at), vip(10 + at)).port("udp", 53, 53).backend(1));
        services.extend(large);
        let settings = format!("devices = [\"eth0\"]\nhop_limit = {}", self.hop_limit);
        let mut text = file_with(&settings, &services);
        for (at, keys) in SERVICES.iter().enumerate() {
            let name = format!("name = \"{}\"", name(at));
            text = text.replace(&name, &format!("{name}\n{keys}"));
        }
        for at in 0..self.large {
            let name = format!("name = \"{}\"", name(100 + at));
            text = text.replace(&name, &format!("{name}\n{LARGE_TABLE}"));
        }
        text
    }
}

fn pick(dice: &mut Dice, range: std::ops::RangeInclusive<u8>) -> u8 {
    range.start() + dice.below(range.len() as u64) as u8
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

fn vip(service: usize) -> u8 {
    10 + u8::try_from(service).unwrap()
}

/// Where the connections go.
fn services() -> Vec<SocketAddr> {
    let first = vips(vip(0)).map(|ip| SocketAddr::new(ip, PORTS[1]));
    let all = (0..SERVICES.len()).flat_map(|at| vips(vip(at))).map(|ip| SocketAddr::new(ip, PORTS[0]));
    all.chain(first).collect()
}

/// Addresses of the client, besides those that a bed gives it.
fn clients() -> Vec<IpAddr> {
    let v4 = (0..CLIENTS).map(|k| Ipv4Addr::new(10, 1, 2, 100 + k).into());
    let v6 = (0..CLIENTS).map(|k| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, k.into()).into());
    v4.chain(v6).collect()
}

fn add_clients(bed: &Bed) {
    for address in clients() {
        let bits = if address.is_ipv4() { 24 } else { 64 };
        let prefix = format!("{address}/{bits}");
        let words = ["addr", "add", &prefix, "dev", "eth0", "nodad"];
        bed.client.ip(&words[..if address.is_ipv4() { 5 } else { 6 }]);
    }
    bed.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
}

/// netd, and what is done to it.
struct Ordeal<'a> {
    bed: &'a Bed,
    desired: Desired,
    dice: Dice,
    orders: mpsc::UnboundedSender<Order>,
    done: Times,
}

impl Ordeal<'_> {
    /// Everything in turn, evenly mixed.
    fn go(&mut self) {
        let (began, is_long) = (Instant::now(), std::env::var_os("NETD_LONG").is_some());
        let mut netd = self.bed.start_ok();
        while self.done.changes < ALL.changes {
            if !is_long && self.done.changes >= ALL.changes / 5 && began.elapsed() > ENOUGH {
                break;
            }
            self.desired.change();
            self.done.changes += 1;
            let changes = self.done.changes;
            let is_due = |done: usize, of: usize| done * ALL.changes < of * changes;
            if is_due(self.done.replacements, ALL.replacements) {
                self.desired.replace(self.done.replacements);
                self.done.replacements += 1;
            }
            self.bed.write(&self.desired.text());
            let _ = self.orders.send(Order::Renew(RENEWED));
            if is_due(self.done.kills, ALL.kills) {
                self.done.kills += 1;
                std::thread::sleep(Duration::from_millis(self.dice.below(120)));
                netd.kill();
                netd = self.bed.spawn();
            }
            self.bed.wait_ok();
        }
        netd.stop();
    }

    fn tell(&self) -> Tally {
        let (to, from) = std::sync::mpsc::channel();
        self.orders.send(Order::Tell(to)).unwrap();
        from.recv().unwrap()
    }
}

fn generation(bed: &Bed) -> usize {
    Datapath::open(&bed.bpf_dir()).unwrap().unwrap().number() as usize
}

#[test]
fn established_connections_outlast_changes_of_others_deaths_of_netd_and_new_programs() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 8);
    add_clients(&bed);
    let _backends = Backends::start(env!("CARGO_BIN_EXE_backends"), &bed, &PORTS);
    let desired = Desired::new(1);
    bed.write(&desired.text());
    bed.start_ok().stop();
    let bystanders: Vec<SocketAddr> = STAYING
        .flat_map(|k| [IpAddr::from(backend_v4(k.into())), backend_v6(k.into()).into()])
        .map(|ip| SocketAddr::new(ip, PORTS[0]))
        .collect();
    let (orders, taken) = mpsc::unbounded_channel();
    let (orders_past, taken_past) = mpsc::unbounded_channel();
    std::thread::scope(|scope| {
        let crowd = Crowd { count: CONNECTIONS, from: clients(), to: services() };
        let past = Crowd { count: BYSTANDERS, from: clients(), to: bystanders };
        let bed = &bed;
        scope.spawn(move || bed.client.run_async(|| crowd.run(taken)));
        scope.spawn(move || bed.client.run_async(|| past.run(taken_past)));
        let mut ordeal = Ordeal { bed, desired, dice: Dice::new(2), orders, done: Times::default() };
        wait_until("connected", Duration::from_secs(60), || ordeal.tell().alive.len() == CONNECTIONS);
        let (before, began) = (ordeal.tell(), Instant::now());
        ordeal.go();
        let after = ordeal.tell();
        let (to, from) = std::sync::mpsc::channel();
        orders_past.send(Order::Tell(to)).unwrap();
        let bystanders = from.recv().unwrap();
        drop(orders_past);
        eprintln!("{:?} in {:?}, generation {}", ordeal.done, began.elapsed(), generation(bed));
        report("balanced", &after);
        report("past the balancer", &bystanders);
        assert!(generation(bed) > ordeal.done.replacements, "programs were not replaced as often");
        judge(&before, &after);
        control(&ordeal);
    });
}

fn stays(backend: u8) -> bool {
    STAYING.contains(&backend)
}

fn report(who: &str, tally: &Tally) {
    let Tally { alive, unborn, stillborn, answers, broken, stalls, longest, paused } = tally;
    eprintln!(
        "{who}: {} alive, {unborn} unborn, {} stillborn, {answers} answers, {} broken, {} stalls, \
         longest wait {longest:?}, paused for {paused:?}",
        alive.len(),
        stillborn.len(),
        broken.len(),
        stalls.len(),
    );
}

fn judge(before: &Tally, after: &Tally) {
    assert!(before.alive.iter().all(|&backend| stays(backend)), "others were not there at first");
    let lost: Vec<&Broken> = after.broken.iter().filter(|broken| stays(broken.backend)).collect();
    assert!(
        lost.is_empty(),
        "{} connections of backends that stay broke: {:?}",
        lost.len(),
        &lost[..lost.len().min(9)]
    );
    let stalls: Vec<_> = after.stalls.iter().filter(|(_, backend, _)| stays(*backend)).collect();
    assert!(
        stalls.is_empty(),
        "{} stalls of more than {STALL:?}: {:?}",
        stalls.len(),
        &stalls[..stalls.len().min(9)]
    );
    assert!(
        after.broken.iter().any(|broken| !stays(broken.backend)),
        "no connection of another was there to break"
    );
    let each = after.answers / CONNECTIONS as u64;
    assert!(each >= 5, "each connection was used {each} times");
}

/// A backend that goes takes its connections along, and only those: so this test would have seen it.
fn control(ordeal: &Ordeal<'_>) {
    let before = ordeal.tell();
    let of_control = |tally: &Tally| tally.alive.iter().filter(|&&backend| backend == CONTROL).count();
    assert!(of_control(&before) > CONNECTIONS / 50, "{} connections to see break", of_control(&before));
    let mut services = ordeal.desired.services.clone();
    for backends in &mut services {
        backends.remove(&CONTROL);
    }
    let desired = Desired { dice: Dice::new(3), services, ..ordeal.desired };
    ordeal.bed.write(&desired.text());
    ordeal.bed.apply();
    // One in a thousand may only fall silent: where it went, the other end of an older connection of the same ports is
    // left, and does not reset it.
    let few = of_control(&before) / 100;
    wait_until("broken", Duration::from_secs(60), || of_control(&ordeal.tell()) <= few);
    let after = ordeal.tell();
    let others = |tally: &Tally| {
        tally.broken.iter().filter(|broken| stays(broken.backend) && broken.backend != CONTROL).count()
    };
    assert_eq!(others(&after), others(&before));
}
