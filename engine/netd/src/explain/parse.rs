//! Reads the packet that a person asks about.

use super::packet::{Complaint, Kind, Packet, TcpFlags};
use netd_schema::Protocol;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Grammar, as error messages show it.
const FORM: &str = "write it like `tcp 198.51.100.7:4242 > 192.0.2.10:80`, `udp [2001:db8::7]:53 > [2001:db8:100::10]:53`, \
                    `tcp 198.51.100.7:4242 > 192.0.2.10:80 ack length 1500`, `udp 198.51.100.7:53 > 192.0.2.10:53 first-fragment \
                    id 7`, `icmp 198.51.100.7 > 192.0.2.10` or \
                    `icmp 203.0.113.1 > 192.0.2.10 too-big tcp 192.0.2.10:80 > 198.51.100.7:4242`";

/// The longest packet that the kernel runs a program on in one piece lies a little above.
const LENGTH_MAX: u16 = 3400;

/// What is wrong with the text of a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a packet: {what}; {FORM}")]
pub struct PacketError {
    text: String,
    what: String,
}

impl FromStr for Packet {
    type Err = PacketError;

    fn from_str(text: &str) -> Result<Self, PacketError> {
        let spaced = text.replace(['>', '→'], " > ").to_ascii_lowercase();
        let words: Vec<&str> = spaced.split_whitespace().collect();
        parsed(&words).map_err(|what| PacketError { text: text.escape_debug().to_string(), what })
    }
}

fn parsed(words: &[&str]) -> Result<Packet, String> {
    let [protocol, source, ">", destination, rest @ ..] = words else {
        return Err("a protocol, a source, `>` and a destination are needed".into());
    };
    match *protocol {
        "icmp" | "icmpv6" => icmp(source, destination, rest),
        _ => {
            let mut packet = flow(protocol, source, destination)?;
            options(&mut packet, rest)?;
            Ok(packet)
        }
    }
}

fn flow(protocol: &str, source: &str, destination: &str) -> Result<Packet, String> {
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(format!("`{other}` is neither tcp nor udp nor icmp")),
    };
    between(protocol, Kind::Whole, socket(source)?, socket(destination)?)
}

fn between(
    protocol: Protocol,
    kind: Kind,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<Packet, String> {
    if source.is_ipv4() != destination.is_ipv4() {
        return Err("source and destination are of different families".into());
    }
    let flags = TcpFlags::default();
    Ok(Packet { protocol, source, destination, flags, kind, length: None, lacks_df: false })
}

/// A ping; or an error, behind which stands the packet that it is about.
fn icmp(source: &str, destination: &str, rest: &[&str]) -> Result<Packet, String> {
    let (from, vip) = (address(source)?, address(destination)?);
    let ping = between(Protocol::Udp, Kind::Ping, SocketAddr::new(from, 0), SocketAddr::new(vip, 0))?;
    let complaint = |word: &&str| Complaint::ALL.into_iter().find(|complaint| complaint.word() == *word);
    let Some((complaint, about)) =
        rest.split_first().and_then(|(word, about)| Some((complaint(word)?, about)))
    else {
        let mut ping = ping;
        options(&mut ping, rest)?;
        return Ok(ping);
    };
    let [protocol, sender, ">", client] = about else {
        return Err(format!("behind `{}` belongs the packet that it is about", complaint.word()));
    };
    let about = flow(protocol, sender, client)?;
    if about.source.ip() != vip {
        return Err(format!("the packet that it is about has to come from {vip}"));
    }
    let kind = Kind::Error { from, complaint };
    Ok(Packet { kind, source: about.destination, destination: about.source, ..about })
}

fn options(packet: &mut Packet, words: &[&str]) -> Result<(), String> {
    let mut words = words.iter();
    let mut id = None;
    while let Some(&word) = words.next() {
        match word {
            "length" => packet.length = Some(number(word, words.next(), LENGTH_MAX.into())? as u16),
            "no-df" if packet.destination.is_ipv4() => packet.lacks_df = true,
            "no-df" => return Err("IPv6 has no DF".into()),
            "first-fragment" if packet.kind == Kind::Whole => packet.kind = Kind::FirstFragment(0),
            "later-fragment" if packet.kind == Kind::Whole => packet.kind = Kind::LaterFragment(0),
            "id" => {
                let largest = if packet.destination.is_ipv4() { u16::MAX.into() } else { u32::MAX };
                id = Some(number(word, words.next(), largest)?);
            }
            other if packet.protocol == Protocol::Tcp => {
                let flag = TcpFlags::ALL.into_iter().find(|flag| flag.word() == other);
                packet.flags = flag.ok_or_else(|| {
                    format!(
                        "`{other}` is none of the flags syn, ack, fin, rst, and no other word that is known"
                    )
                })?;
            }
            other => return Err(format!("`{other}` at its end is not understood")),
        }
    }
    match (&mut packet.kind, id) {
        (Kind::FirstFragment(own) | Kind::LaterFragment(own), id) => *own = id.unwrap_or(1),
        (_, Some(_)) => return Err("only fragments have an `id`".into()),
        (_, None) => {}
    }
    let least = packet.least_length();
    match packet.length {
        Some(length) if length < least => Err(format!("its headers alone take {least} bytes")),
        _ => Ok(()),
    }
}

fn number(word: &str, text: Option<&&str>, largest: u32) -> Result<u32, String> {
    let wrong = || format!("behind `{word}` belongs a number up to {largest}");
    let number = text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    if number <= largest { Ok(number) } else { Err(wrong()) }
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok(socket);
    }
    Err(match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("`{text}` has no port: an IPv6 address stands in brackets before it"),
        Ok(IpAddr::V4(_)) => format!("`{text}` has no port"),
        Err(_) => format!("`{text}` is not an address with a port"),
    })
}

fn address(text: &str) -> Result<IpAddr, String> {
    let wrong = |_| match text.parse::<SocketAddr>() {
        Ok(_) => format!("`{text}` has a port, which ICMP does not"),
        Err(_) => format!("`{text}` is not an address"),
    };
    text.parse::<IpAddr>().map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_packet_reads_as_it_is_shown() {
        for text in [
            "tcp 198.51.100.7:4242 > 192.0.2.10:80 syn",
            "tcp [2001:db8::7]:4242 > [2001:db8:100::10]:80 ack length 1500",
            "udp 198.51.100.7:4242 > 192.0.2.10:53",
            "udp 198.51.100.7:4242 > 192.0.2.10:53 length 1500 no-df",
            "tcp 198.51.100.7:4242 > 192.0.2.10:80 ack first-fragment id 7",
            "udp [2001:db8::7]:53 > [2001:db8:100::10]:53 later-fragment id 70000 length 1200",
            "icmp 198.51.100.7 > 192.0.2.10",
            "icmp 2001:db8::7 > 2001:db8:100::10 length 100",
            "icmp 203.0.113.1 > 192.0.2.10 too-big tcp 192.0.2.10:80 > 198.51.100.7:4242",
        ] {
            assert_eq!(text.parse::<Packet>().unwrap().to_string(), text);
        }
        let short: Packet = "TCP 10.1.2.3:1>192.0.2.10:80".parse().unwrap();
        assert!(short.is_syn());
        let fragment: Packet = "udp 10.1.2.3:1 > 192.0.2.10:53 later-fragment".parse().unwrap();
        assert_eq!(fragment.kind, Kind::LaterFragment(1));
        assert!(!fragment.is_syn() && !fragment.is_refused_aloud() && !fragment.shows_its_client());
    }

    #[test]
    fn an_error_is_about_the_flow_turned_around() {
        let text = "icmp 203.0.113.1 > 192.0.2.10 expired udp 192.0.2.10:53 > 198.51.100.7:4242";
        let packet: Packet = text.parse().unwrap();
        assert_eq!(packet.source, "198.51.100.7:4242".parse().unwrap());
        assert_eq!(packet.destination, "192.0.2.10:53".parse().unwrap());
        assert_eq!(packet.sender().to_string(), "203.0.113.1");
    }

    #[test]
    fn a_mistake_says_what_is_wrong_and_how_it_is_written() {
        for (text, what) in [
            ("tcp 10.1.2.3:1 192.0.2.10:80", "a protocol, a source, `>` and a destination are needed"),
            ("sctp 10.1.2.3:1 > 192.0.2.10:80", "`sctp` is neither tcp nor udp nor icmp"),
            ("tcp 10.1.2.3 > 192.0.2.10:80", "`10.1.2.3` has no port"),
            ("tcp 2001:db8::1 > [2001:db8::2]:80", "an IPv6 address stands in brackets"),
            ("tcp 10.1.2.3:99999 > 192.0.2.10:80", "is not an address with a port"),
            ("tcp 10.1.2.3:1 > [2001:db8::2]:80", "different families"),
            ("tcp 10.1.2.3:1 > 192.0.2.10:80 urg", "`urg` is none of the flags"),
            ("udp 10.1.2.3:1 > 192.0.2.10:80 syn", "`syn` at its end is not understood"),
            ("udp 10.1.2.3:1 > 192.0.2.10:80 length", "behind `length` belongs a number up to 3400"),
            ("udp 10.1.2.3:1 > 192.0.2.10:80 length 9000", "behind `length` belongs a number up to 3400"),
            ("tcp 10.1.2.3:1 > 192.0.2.10:80 length 39", "its headers alone take 40 bytes"),
            ("udp 10.1.2.3:1 > 192.0.2.10:80 id 7", "only fragments have an `id`"),
            ("udp 10.1.2.3:1 > 192.0.2.10:80 later-fragment id 70000", "a number up to 65535"),
            ("udp [2001:db8::1]:1 > [2001:db8::2]:80 no-df", "IPv6 has no DF"),
            ("icmp 10.1.2.3:1 > 192.0.2.10", "`10.1.2.3:1` has a port, which ICMP does not"),
            ("icmp 10.1.2.3 > nowhere", "`nowhere` is not an address"),
            ("icmp 10.1.2.3 > 2001:db8::2", "different families"),
            ("icmp 10.1.2.3 > 192.0.2.10 first-fragment", "`first-fragment` at its end is not understood"),
            ("icmp 10.1.2.3 > 192.0.2.10 too-big", "behind `too-big` belongs the packet that it is about"),
            (
                "icmp 10.1.2.3 > 192.0.2.10 too-big tcp 192.0.2.11:80 > 10.1.2.3:1",
                "the packet that it is about has to come from 192.0.2.10",
            ),
        ] {
            let error = text.parse::<Packet>().unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("write it like"), "{error}");
        }
    }
}
