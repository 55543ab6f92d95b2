//! The packet that a person asks about: `tcp 198.51.100.7:4242 > 192.0.2.10:80`.

use etherparse::PacketBuilder;
use netd_schema::Protocol;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Grammar, as error messages show it.
const FORM: &str = "write it like `tcp 198.51.100.7:4242 > 192.0.2.10:80`, `udp [2001:db8::7]:53 > [2001:db8:100::10]:53` or \
                    `tcp 198.51.100.7:4242 > 192.0.2.10:80 syn`";

/// Ethernet addresses that belong to nobody: locally administered.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// The VIP and port that it wants.
    pub destination: SocketAddr,
    /// The TCP flags; ignored for UDP.
    pub flags: TcpFlags,
}

/// Which segment of a TCP connection it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpFlags {
    /// The first of a connection.
    #[default]
    Syn,
    /// One of an established connection.
    Ack,
    /// The end of one.
    Fin,
    /// The abort of one.
    Rst,
}

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
        let wrong = |what: String| PacketError { text: text.escape_debug().to_string(), what };
        let spaced = text.replace('>', " > ").replace("→", " > ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let (protocol, source, destination, rest) = match words.as_slice() {
            [protocol, source, ">", destination, rest @ ..] => (*protocol, *source, *destination, rest),
            _ => return Err(wrong("a protocol, a source, `>` and a destination are needed".into())),
        };
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(wrong(format!("`{other}` is neither tcp nor udp"))),
        };
        let source = socket(source).map_err(wrong)?;
        let destination = socket(destination).map_err(wrong)?;
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(wrong("source and destination are of different families".into()));
        }
        let flags = match (protocol, rest) {
            (_, []) => TcpFlags::default(),
            (Protocol::Tcp, [flag]) => TcpFlags::from_str(flag).map_err(wrong)?,
            (_, [first, ..]) => return Err(wrong(format!("`{first}` at its end is not understood"))),
        };
        Ok(Self { protocol, source, destination, flags })
    }
}

impl FromStr for TcpFlags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "syn" => Ok(Self::Syn),
            "ack" => Ok(Self::Ack),
            "fin" => Ok(Self::Fin),
            "rst" => Ok(Self::Rst),
            other => Err(format!("`{other}` is none of the flags syn, ack, fin, rst")),
        }
    }
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

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol.name(), self.source, self.destination)?;
        match (self.protocol, self.flags) {
            (Protocol::Tcp, TcpFlags::Syn) => f.write_str(" syn"),
            (Protocol::Tcp, TcpFlags::Ack) => f.write_str(" ack"),
            (Protocol::Tcp, TcpFlags::Fin) => f.write_str(" fin"),
            (Protocol::Tcp, TcpFlags::Rst) => f.write_str(" rst"),
            (Protocol::Udp, _) => Ok(()),
        }
    }
}

impl Packet {
    /// Whether it is the first segment of a connection.
    #[must_use]
    pub fn is_syn(&self) -> bool {
        self.protocol == Protocol::Tcp && self.flags == TcpFlags::Syn
    }

    /// The Ethernet frame that carries it, without a payload.
    ///
    /// # Errors
    ///
    /// None for addresses of one family, which [`Packet::from_str`] has made sure of; a sentence otherwise.
    pub fn frame(&self) -> Result<Vec<u8>, String> {
        let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, NODE_MAC);
        let ip = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), 64)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ethernet.ipv6(source.octets(), destination.octets(), 64)
            }
            _ => return Err("source and destination are of different families".into()),
        };
        let mut frame = Vec::new();
        let (from, to) = (self.source.port(), self.destination.port());
        let written = match self.protocol {
            Protocol::Udp => ip.udp(from, to).write(&mut frame, &[]),
            Protocol::Tcp => {
                let tcp = ip.tcp(from, to, 1, 65_535);
                match self.flags {
                    TcpFlags::Syn => tcp.syn().write(&mut frame, &[]),
                    TcpFlags::Ack => tcp.ack(1).write(&mut frame, &[]),
                    TcpFlags::Fin => tcp.fin().ack(1).write(&mut frame, &[]),
                    TcpFlags::Rst => tcp.rst().write(&mut frame, &[]),
                }
            }
        };
        written.map_err(|error| error.to_string())?;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_packet_reads_as_it_is_shown() {
        for text in [
            "tcp 198.51.100.7:4242 > 192.0.2.10:80 syn",
            "tcp [2001:db8::7]:4242 > [2001:db8:100::10]:80 ack",
            "udp 198.51.100.7:4242 > 192.0.2.10:53",
        ] {
            assert_eq!(text.parse::<Packet>().unwrap().to_string(), text);
        }
        let short: Packet = "TCP 10.1.2.3:1>192.0.2.10:80".parse().unwrap();
        assert!(short.is_syn());
    }

    #[test]
    fn a_mistake_says_what_is_wrong_and_how_it_is_written() {
        for (text, what) in [
            ("tcp 10.1.2.3:1 192.0.2.10:80", "a protocol, a source, `>` and a destination are needed"),
            ("icmp 10.1.2.3:1 > 192.0.2.10:80", "`icmp` is neither tcp nor udp"),
            ("tcp 10.1.2.3 > 192.0.2.10:80", "`10.1.2.3` has no port"),
            ("tcp 2001:db8::1 > [2001:db8::2]:80", "an IPv6 address stands in brackets"),
            ("tcp 10.1.2.3:99999 > 192.0.2.10:80", "is not an address with a port"),
            ("tcp 10.1.2.3:1 > [2001:db8::2]:80", "different families"),
            ("tcp 10.1.2.3:1 > 192.0.2.10:80 urg", "`urg` is none of the flags"),
            ("udp 10.1.2.3:1 > 192.0.2.10:80 syn", "`syn` at its end is not understood"),
        ] {
            let error = text.parse::<Packet>().unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("write it like"), "{error}");
        }
    }

    #[test]
    fn the_frame_is_the_packet_with_right_checksums() {
        for text in ["tcp 10.1.2.3:12345 > 192.0.2.10:80", "udp [2001:db8::7]:9 > [2001:db8:100::10]:53"] {
            let packet: Packet = text.parse().unwrap();
            let frame = packet.frame().unwrap();
            let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
            assert!(sliced.transport.is_some() && sliced.net.is_some());
        }
    }
}
