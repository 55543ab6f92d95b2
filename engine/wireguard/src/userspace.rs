//! Devices of a program, over its socket: lines of `key=value` (the cross-platform interface of WireGuard).

use crate::access::chunks;
use crate::child::is_held_by_program;
use crate::{Access, Change, Device, Error, Peer, PeerChange, Presence, PresharedKey, PrivateKey, PublicKey};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Where programs put their sockets, each named for its device; for all network namespaces together.
const FOLDER: &str = "/var/run/wireguard";

/// A program that has not answered in full after so long has stopped.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// More than a piece of a change is long; in this form of text, an address has as many bytes as in a message.
const QUESTION_BYTES: usize = 64 * 1024;

/// Ten thousand peers with a hundred addresses each would be less.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The devices of programs.
#[derive(Debug, Default)]
pub struct Userspace;

/// Where the program of this device listens.
pub(crate) fn socket(interface: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{interface}.sock"))
}

impl Userspace {
    fn ask(interface: &str, question: &str) -> Result<Zeroizing<String>, Error> {
        let mut stream = match UnixStream::connect(socket(interface)) {
            Ok(stream) => stream,
            Err(error) if is_absence(&error) => return Err(Error::Absent),
            Err(error) => return Err(Error::io("connect to the program's socket")(error)),
        };
        let failed = || Error::io("speak with the program");
        // The device of this name is another namespace's then, or nobody's.
        if !is_held_by_program(&stream, interface).map_err(Error::io("ask who holds the program's socket"))? {
            return Err(Error::Absent);
        }
        let until = Instant::now() + ANSWER_MAX;
        stream.set_write_timeout(Some(ANSWER_MAX)).map_err(failed())?;
        stream.write_all(question.as_bytes()).map_err(failed())?;
        let mut answer = Zeroizing::new(String::with_capacity(64 * 1024));
        let mut bytes = Zeroizing::new(vec![0; 64 * 1024]);
        // It goes on listening for questions, so the empty line is the end.
        while !answer.ends_with("\n\n") {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(failed()(io::ErrorKind::TimedOut.into()));
            }
            stream.set_read_timeout(Some(left)).map_err(failed())?;
            let length = stream.read(&mut bytes).map_err(failed())?;
            let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
            append(&mut answer, text.ok_or_else(|| Error::Undecodable("it is not text".into()))?);
            if length == 0 || answer.len() as u64 > ANSWER_BYTES_MAX {
                return Err(Error::Undecodable("it has no end".into()));
            }
        }
        match answer.lines().rev().find_map(|line| line.strip_prefix("errno=")) {
            Some("0") => Ok(answer),
            Some(errno) => {
                let code = errno.parse::<i32>().unwrap_or_default().wrapping_abs();
                Err(failed()(io::Error::from_raw_os_error(code)))
            }
            None => Err(Error::Undecodable("it has no result".into())),
        }
    }
}

impl Access for Userspace {
    fn read(&mut self, interface: &str) -> Result<Device, Error> {
        parse(&Self::ask(interface, "get=1\n\n")?)
    }

    fn change(&mut self, interface: &str, change: &Change) -> Result<(), Error> {
        let Change { private_key, port, mark, peers } = change;
        if private_key.is_some() || mark.is_some() {
            let mut own = question();
            if let Some(key) = private_key {
                push_hex(&mut own, "private_key", key.reveal());
            }
            if let Some(mark) = mark {
                let _ = writeln!(own, "fwmark={mark}");
            }
            own.push('\n');
            Self::ask(interface, &own)?;
        }
        // After the key: who asks there is answered.
        if let Some(port) = *port {
            // A program leaves its old port before it takes the new one, so the new one is tried first.
            if is_taken(port) {
                return Err(Error::PortInUse(port));
            }
            Self::ask(interface, &format!("set=1\nlisten_port={port}\n\n"))?;
        }
        for chunk in chunks(peers) {
            let mut text = question();
            chunk.iter().for_each(|change| push(&mut text, change));
            text.push('\n');
            Self::ask(interface, &text)?;
        }
        Ok(())
    }
}

/// The beginning of a change, in memory that does not grow: what moves to a larger place leaves itself behind.
fn question() -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(QUESTION_BYTES));
    text.push_str("set=1\n");
    text
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Appends, and leaves nothing behind where the text has to move to a larger place.
fn append(text: &mut Zeroizing<String>, more: &str) {
    if text.len() + more.len() > text.capacity() {
        let mut larger = Zeroizing::new(String::with_capacity((text.len() + more.len()) * 2));
        larger.push_str(text);
        *text = larger;
    }
    text.push_str(more);
}

/// Whether somebody has the UDP port, in either family.
fn is_taken(port: u16) -> bool {
    let in_use = |tried: io::Result<UdpSocket>| {
        tried.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::ADDRINUSE))
    };
    in_use(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
        || in_use(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))
}

fn push_hex(text: &mut String, key: &str, bytes: &[u8; 32]) {
    let _ = write!(text, "{key}=");
    bytes.iter().for_each(|byte| {
        let _ = write!(text, "{byte:02x}");
    });
    text.push('\n');
}

fn push(text: &mut String, change: &PeerChange) {
    push_hex(text, "public_key", change.key().bytes());
    let PeerChange::Set(_, settings) = change else {
        text.push_str("remove=true\n");
        return;
    };
    if settings.presence == Presence::Existing {
        text.push_str("update_only=true\n");
    }
    if let Some(secret) = &settings.preshared_key {
        push_hex(text, "preshared_key", secret.reveal());
    }
    if let Some(endpoint) = settings.endpoint {
        let _ = writeln!(text, "endpoint={endpoint}");
    }
    if let Some(seconds) = settings.keepalive {
        let _ = writeln!(text, "persistent_keepalive_interval={seconds}");
    }
    for prefix in &settings.allowed_ips {
        let _ = writeln!(text, "allowed_ip={prefix}");
    }
}

fn parse(text: &str) -> Result<Device, Error> {
    let mut device = Device::default();
    let mut current = None;
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let bad = || Error::Undecodable(format!("{key} is none"));
        match (key, current.and_then(|key| device.peers.get_mut(&key))) {
            ("public_key", _) => {
                let key = PublicKey::from_bytes(*hex(value).ok_or_else(bad)?);
                device.peers.insert(key, Peer::default());
                current = Some(key);
            }
            ("private_key", None) => {
                let key = PrivateKey::from_bytes(*hex(value).ok_or_else(bad)?);
                device.public_key = (*key.reveal() != [0; 32]).then(|| key.public());
            }
            ("listen_port", None) => device.port = value.parse().map_err(|_| bad())?,
            ("fwmark", None) => device.mark = value.parse().map_err(|_| bad())?,
            (_, Some(peer)) => take(peer, key, value).ok_or_else(bad)?,
            (_, None) => {}
        }
    }
    Ok(device)
}

/// `None` if the value is none of the key's.
fn take(peer: &mut Peer, key: &str, value: &str) -> Option<()> {
    match key {
        "preshared_key" => peer.preshared_key = PresharedKey::from_bytes(*hex(value)?),
        "endpoint" => peer.endpoint = Some(endpoint(value)?),
        "persistent_keepalive_interval" => peer.keepalive = value.parse().ok()?,
        "allowed_ip" => {
            peer.allowed_ips.insert(value.parse().ok()?);
        }
        "rx_bytes" => peer.received = value.parse().ok()?,
        "tx_bytes" => peer.sent = value.parse().ok()?,
        "last_handshake_time_sec" => {
            let seconds: u64 = value.parse().ok()?;
            peer.last_handshake = (seconds > 0).then(|| Duration::from_secs(seconds));
        }
        _ => {}
    }
    Some(())
}

/// An address and a port; the zone that a link-local address has is left out, wireguard-go says it by a device's name.
fn endpoint(text: &str) -> Option<SocketAddr> {
    match (text.split_once('%'), text.rsplit_once("]:")) {
        (Some((address, _)), Some((_, port))) => format!("{address}]:{port}").parse().ok(),
        _ => text.parse().ok(),
    }
}

fn hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Settings;

    fn hex_of(bytes: &[u8; 32]) -> String {
        let mut text = String::new();
        push_hex(&mut text, "", bytes);
        text.trim_matches(['=', '\n']).to_owned()
    }

    #[test]
    fn a_device_is_read_and_its_private_key_is_kept_nowhere() {
        let text = format!(
            "private_key={}\nlisten_port=51871\nfwmark=3584\npublic_key={}\npreshared_key={}\n\
             protocol_version=1\nendpoint=[2001:db8::2]:51871\nlast_handshake_time_sec=7\n\
             last_handshake_time_nsec=5\ntx_bytes=38512\nrx_bytes=2224\npersistent_keepalive_interval=25\n\
             allowed_ip=10.2.0.0/16\nallowed_ip=fd00::/64\nerrno=0\n\n",
            hex_of(&crate::key::decode("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=").unwrap()),
            "03".repeat(32),
            "00".repeat(32),
        );
        let device = parse(&text).unwrap();
        assert_eq!((device.port, device.mark), (51871, 0xe00));
        assert_eq!(device.public_key.unwrap().to_base64(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        let peer = &device.peers[&PublicKey::from_bytes([3; 32])];
        assert_eq!(peer.endpoint, Some("[2001:db8::2]:51871".parse().unwrap()));
        assert_eq!((peer.keepalive, peer.sent, peer.received), (25, 38512, 2224));
        assert_eq!((peer.last_handshake, &peer.preshared_key), (Some(Duration::from_secs(7)), &None));
        assert_eq!(peer.allowed_ips.len(), 2);
    }

    #[test]
    fn a_peer_that_speaks_from_a_link_local_address_leaves_the_device_readable() {
        let key = "03".repeat(32);
        for (said, read) in [
            ("[fe80::1%eth0]:51871", "[fe80::1]:51871"),
            ("[fe80::1%3]:51871", "[fe80::1]:51871"),
            ("[fe80::1]:1", "[fe80::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let device = parse(&format!("public_key={key}\nendpoint={said}\nerrno=0\n\n")).unwrap();
            let peer = &device.peers[&PublicKey::from_bytes([3; 32])];
            assert_eq!(peer.endpoint, Some(read.parse().unwrap()), "{said}");
        }
        for said in ["%]:1", "[::1", "[fe80::1%eth0]", ""] {
            assert!(parse(&format!("public_key={key}\nendpoint={said}\n")).is_err(), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_never_an_empty_device() {
        for text in ["listen_port=70000\n", "private_key=zz\n", "public_key=\n", "fwmark=-1\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_says_only_what_changes() {
        let key = PublicKey::from_bytes([0xab; 32]);
        let mut text = String::new();
        let settings = Settings {
            allowed_ips: vec!["10.2.0.0/16".parse().unwrap()],
            ..Settings::of(Presence::Existing)
        };
        push(&mut text, &PeerChange::Set(key, settings));
        push(&mut text, &PeerChange::Remove(key));
        let hex = "ab".repeat(32);
        let expected = format!(
            "public_key={hex}\nupdate_only=true\nallowed_ip=10.2.0.0/16\npublic_key={hex}\nremove=true\n"
        );
        assert_eq!(text, expected);
    }
}
