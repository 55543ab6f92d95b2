//! Traffic: a client behind a router, two load balancers that announce the same VIPs to it, and the loss of one of them.

use crate::world::{HOLD, PATIENCE, end_daemon, kill, managed};
use netd_integration_tests::bed::{vip_v4, vip_v6, vips};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::echo::{Port, Servers, echo};
use netd_integration_tests::netd::{Daemon, wait_until};
use netd_integration_tests::pair::{Pair, addresses};
use netd_integration_tests::{Lab, Namespace};
use netd_lab::{Frr, installed};
use rustix::process::Signal;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The number of the VIPs.
const VIP: u8 = 10;

/// Connections of each family: so many that each balancer carries some.
const CONNECTIONS: usize = 24;

/// No retransmission comes later, after some that were lost.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The machines, the router's daemons, and netds with a gobgpd each.
struct World {
    daemons: Vec<Daemon>,
    frr: Frr,
    pair: Pair,
}

impl World {
    /// Both balancers run, and the router reaches the VIPs through both.
    fn new() -> Option<Self> {
        if !installed(&[("gobgpd", "gobgpd"), Frr::PROGRAM, ("zebra", "frr")]) {
            return None;
        }
        let lab = Lab::new()?;
        let pair = Pair::new(&lab);
        let (mut neighbours, mut activate) = (String::new(), "maximum-paths 2\n".to_owned());
        for number in 1..=2 {
            let [(_, own), _] = addresses(number);
            neighbours.push_str(&format!(
                "neighbor {own} remote-as 64512\nneighbor {own} timers 3 9\nneighbor {own} timers connect 1\n\
                 neighbor {own} graceful-restart-helper\n"
            ));
            activate.push_str(&format!("neighbor {own} activate\n"));
        }
        let frr = Frr::routing(&pair.router, &pair.folder().join("frr"), 64513, &neighbours, &activate);
        let mut world = Self { daemons: Vec::new(), frr, pair };
        for (_, site) in &world.pair.balancers {
            site.write(&everybodys_file());
            world.daemons.push(site.start_ok());
        }
        for vip in [format!("{}/32", vip_v4(VIP)), format!("{}/128", vip_v6(VIP))] {
            wait_until("reached through both", PATIENCE, || world.ways(&vip).contains(&2));
        }
        Some(world)
    }

    /// Through how many balancers the router's kernel reaches a VIP: one number for each of its routes.
    fn ways(&self, vip: &str) -> Vec<usize> {
        let family = if vip.contains(':') { "-6" } else { "-4" };
        let routes = self.pair.router.ip(&[family, "-json", "route", "show", vip]);
        let routes: serde_json::Value = serde_json::from_str(&routes).unwrap_or_default();
        let ways = |route: &serde_json::Value| route["nexthops"].as_array().map_or(1, Vec::len);
        routes.as_array().map(|routes| routes.iter().map(ways).collect()).unwrap_or_default()
    }

    /// As when the power fails: the link is dark, and nothing says goodbye.
    fn lose_the_first(&mut self) {
        let (machine, site) = &self.pair.balancers[0];
        let gobgpd = managed(site);
        machine.ip(&["link", "set", "eth0", "down"]);
        self.daemons.remove(0).kill();
        kill(gobgpd, Signal::KILL);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.daemons.clear();
        self.pair.balancers.iter().for_each(|(_, site)| end_daemon(site));
    }
}

/// The same file for both nodes: each has the router at another address.
fn everybodys_file() -> String {
    let mut text = file(&[Service::new("web", VIP).port("tcp", 80, 80).backend(1).backend(2)]);
    for number in 1..=2 {
        let [(_, v4), (_, v6)] = addresses(number);
        text.push_str(&format!("\n[[nodes]]\nname = \"lb-{number}\"\naddresses = [\"{v4}\", \"{v6}\"]\n"));
    }
    text.push_str("\n[bgp]\nasn = 64512\ngobgpd = \"managed\"\n");
    for number in 1..=2 {
        let [(router, _), _] = addresses(number);
        text.push_str(&format!(
            "\n[[bgp.peers]]\nname = \"router-{number}\"\nnodes = [\"lb-{number}\"]\naddress = \"{router}\"\nasn = 64513\n\
             hold = \"{}s\"\nfamilies = [\"ipv4\", \"ipv6\"]\ngraceful_restart = {{ restart = \"120s\" }}\n",
            HOLD.as_secs()
        ));
    }
    text
}

fn connect(client: &Namespace, to: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = client.run(|| TcpStream::connect_timeout(&to, ANSWER_MAX))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    // The server says which backend it is.
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

/// Packets that have come in by a balancer's device.
fn received(machine: &Namespace) -> u64 {
    let links = machine.ip(&["-json", "-s", "link", "show", "eth0"]);
    let links: serde_json::Value = serde_json::from_str(&links).unwrap();
    links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

#[test]
fn b8_connections_do_not_notice_that_every_gobgpd_is_killed() {
    let Some(mut world) = World::new() else { return };
    let ports: Vec<Port> = vips(VIP).map(|vip| Port::Tcp(SocketAddr::new(vip, 80))).into();
    let _servers = Servers::on(&world.pair.backends, &ports);
    let sessions = |world: &World| -> Vec<Option<u64>> {
        (1..=2).map(|number| world.frr.sessions(&addresses(number)[0].1)).collect()
    };
    let before = sessions(&world);
    for (_, site) in &world.pair.balancers {
        kill(managed(site), Signal::KILL);
    }
    wait_until("sessions anew", PATIENCE, || {
        for vip in vips(VIP) {
            assert_eq!(world.ways(&vip.to_string()), [2], "the router has dropped a route");
            let mut stream = connect(&world.pair.client, SocketAddr::new(vip, 80)).unwrap();
            echo(&mut stream, &[7; 300]).unwrap();
        }
        sessions(&world).iter().zip(&before).all(|(now, before)| now > before)
    });
    for (_, site) in &world.pair.balancers {
        site.wait_ok();
    }
    world.daemons.drain(..).for_each(Daemon::stop);
}

#[test]
fn b15_connections_through_two_balancers_outlive_the_sudden_loss_of_one() {
    let Some(mut world) = World::new() else { return };
    let ports: Vec<Port> = vips(VIP).map(|vip| Port::Tcp(SocketAddr::new(vip, 80))).into();
    let _servers = Servers::on(&world.pair.backends, &ports);
    let before: Vec<u64> = world.pair.balancers.iter().map(|(machine, _)| received(machine)).collect();
    let mut connections = Vec::new();
    for vip in vips(VIP) {
        for _ in 0..CONNECTIONS {
            connections.push(connect(&world.pair.client, SocketAddr::new(vip, 80)).unwrap());
        }
    }
    for stream in &mut connections {
        echo(stream, &[7; 300]).unwrap();
    }
    for ((machine, site), before) in world.pair.balancers.iter().zip(before) {
        assert!(received(machine) > before + 20, "{} carries nothing", site.node());
    }

    let begin = Instant::now();
    world.lose_the_first();
    for vip in [format!("{}/32", vip_v4(VIP)), format!("{}/128", vip_v6(VIP))] {
        wait_until("reached through one", PATIENCE, || world.ways(&vip) == [1]);
    }
    eprintln!("the router has gone over to the other balancer after {:?}", begin.elapsed());
    // Retransmissions bring what was lost meanwhile; the other balancer chooses the same backends.
    for stream in &mut connections {
        echo(stream, &[8; 300]).unwrap();
    }
    for vip in vips(VIP) {
        for _ in 0..CONNECTIONS {
            let mut stream = connect(&world.pair.client, SocketAddr::new(vip, 80)).unwrap();
            echo(&mut stream, &[9; 300]).unwrap();
        }
    }
    assert!(world.frr.is_established(&addresses(2)[0].1));
    world.daemons.remove(0).stop();
}
