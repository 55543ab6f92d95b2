//! Who is in the demo's network, and the `ip` commands that make it.

use std::fmt::Write as _;

/// How many backends there are; the file names all but the last at first.
pub(super) const BACKENDS: usize = 4;

pub(super) const CLIENT: &str = "client";
pub(super) const ROUTER: &str = "router";
pub(super) const BALANCER: &str = "lb";

/// The virtual addresses of the service, as in the file.
pub(super) const VIP_V4: &str = "192.0.2.10";
pub(super) const VIP_V6: &str = "2001:db8:100::10";

/// What clients connect to and backends listen on: a backend that answers directly answers from this port, too.
pub(super) const PORT: u16 = 80;

/// The network, as people draw it.
pub(super) const PICTURE: &str = r"
  client             router               lb   netd, XDP on eth0
  198.51.100.2  ---  routes the VIPs ---  10.0.0.11
  2001:db8:c::2      to lb                2001:db8:a::11
                       |
       +---------------+--------------+---------------+
  backend-1       backend-2       backend-3       backend-4
  10.1.0.1        10.1.0.2        10.1.0.3        10.1.0.4
  2001:db8:b::1   2001:db8:b::2   2001:db8:b::3   2001:db8:b::4

  The VIPs are 192.0.2.10 and 2001:db8:100::10, TCP port 80. Each backend has them on its
  loopback device, takes packets out of the tunnel, and answers the client directly.
";

/// Large enough for a full packet with an outer IPv6 header.
const TUNNEL_MTU: u32 = 1540;

/// The router is the last machine: the others' ends of its links are there when it is set up.
pub(super) fn machines() -> impl Iterator<Item = &'static str> {
    [CLIENT, BALANCER].into_iter().chain(backends()).chain([ROUTER])
}

/// The machines behind the load balancer.
pub(super) fn backends() -> impl Iterator<Item = &'static str> {
    ["backend-1", "backend-2", "backend-3", "backend-4"].into_iter().take(BACKENDS)
}

/// The two addresses of a machine that is not the router.
fn addresses(machine: &str) -> (String, String) {
    match machine.strip_prefix("backend-") {
        Some(number) => (format!("10.1.0.{number}"), format!("2001:db8:b::{number}")),
        None if machine == BALANCER => ("10.0.0.11".into(), "2001:db8:a::11".into()),
        None => ("198.51.100.2".into(), "2001:db8:c::2".into()),
    }
}

/// What `ip -batch` has to do in a machine. `namespace_of` gives the name of another machine's namespace.
pub(super) fn commands(machine: &str, namespace_of: impl Fn(&str) -> String) -> String {
    let mut text = String::from("link set lo up\n");
    if machine == ROUTER {
        for other in machines().filter(|other| *other != ROUTER) {
            // Writing into a String cannot fail.
            let _ = write!(text, "{}", router_side(other));
        }
        return text;
    }
    let (v4, v6) = addresses(machine);
    let router = namespace_of(ROUTER);
    let mtu = if machine == CLIENT { 1500 } else { TUNNEL_MTU };
    let _ = write!(
        text,
        "\
link add eth0 mtu {mtu} type veth peer name {machine} mtu {mtu} netns {router}
address add {v4}/32 dev eth0
address add {v6}/128 dev eth0 nodad
link set eth0 up
route add default via 169.254.0.1 dev eth0 onlink src {v4}
route add default via fe80::1 dev eth0 src {v6}
"
    );
    if machine.starts_with("backend-") {
        let _ = write!(text, "address add {VIP_V4}/32 dev lo\naddress add {VIP_V6}/128 dev lo nodad\n");
    }
    text
}

/// The router's end of a link: it is the gateway there, and knows who is behind it.
fn router_side(other: &str) -> String {
    let (v4, v6) = addresses(other);
    let mut text = format!(
        "\
address add 169.254.0.1/32 dev {other}
address add fe80::1/64 dev {other} nodad
link set {other} up
route add {v4}/32 dev {other}
route add {v6}/128 dev {other}
"
    );
    if other == BALANCER {
        let _ = write!(
            text,
            "route add {VIP_V4}/32 via {v4} dev {other} onlink\nroute add {VIP_V6}/128 via {v6} dev {other} onlink\n"
        );
    }
    text
}

/// What is written below /proc/sys in a machine before its devices are there.
pub(super) fn sysctls(machine: &str) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        // Addresses can be used at once: nobody else is here.
        ("net/ipv6/conf/default/accept_dad", "0"),
        // A VIP's packets come from the load balancer and its answers go to the router.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ];
    if machine == ROUTER {
        all.extend([("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_the_network_agree_on_addresses() {
        let file = super::super::edit::FILE;
        for address in [VIP_V4, VIP_V6] {
            assert!(file.contains(&format!("\"{address}\"")), "{address}");
        }
        for backend in backends().take(BACKENDS - 1) {
            let (v4, v6) = addresses(backend);
            assert!(file.contains(&format!("\"{v4}\"")) && file.contains(&format!("\"{v6}\"")), "{backend}");
            assert!(PICTURE.contains(&v4) && PICTURE.contains(&v6), "{backend}");
        }
    }

    #[test]
    fn no_gateway_is_used_before_its_link_exists() {
        let text = commands("backend-1", |other| format!("ns-{other}"));
        let link = text.find("peer name backend-1 mtu 1540 netns ns-router");
        assert!(link.is_some() && link < text.find("route add default"), "{text}");
    }
}
