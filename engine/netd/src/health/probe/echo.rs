//! An echo request of ICMP (RFC 792) or ICMPv6 (RFC 4443), and its reply.

use super::{Aim, Failure, bad, socket};
use crate::clock;
use socket2::{Protocol, SockAddr, Socket, Type};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::UdpSocket;

const HEADER_BYTES: usize = 8;
const TOKEN_BYTES: usize = 16;

/// The types of request and reply.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// Sends a request and waits for the reply that carries the same token.
pub(super) async fn ask(aim: &Aim) -> Result<(), Failure> {
    let socket = open(aim)?;
    socket.connect(&SockAddr::from(aim.to)).map_err(|error| bad(&error))?;
    // Both kinds of sockets send and receive datagrams, which is all that this does with them.
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| bad(&error))?;
    let (request_type, reply_type) = if aim.to.is_ipv4() { V4 } else { V6 };
    let token = token();
    let request = request(request_type, &token);
    socket.send(&request).await.map_err(|error| bad(&error))?;
    let mut buffer = [0; 512];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| bad(&error))?;
        let message = message(buffer.get(..length).unwrap_or_default());
        if message.first() == Some(&reply_type) && message.get(HEADER_BYTES..) == Some(&token) {
            return Ok(());
        }
    }
}

/// A ping socket, which needs no capability where the sysctl `ping_group_range` admits netd's group; else a raw one,
/// which needs CAP_NET_RAW.
fn open(aim: &Aim) -> Result<Socket, Failure> {
    let protocol = if aim.to.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    match socket(aim, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok(socket),
        Err(_) => socket(aim, Type::RAW, Some(protocol)).map_err(|failure| match failure {
            Failure::Hindered(why) => {
                Failure::Hindered(format!("{why} (an echo request needs CAP_NET_RAW or ping_group_range)"))
            }
            other => other,
        }),
    }
}

/// The kernel writes the identifier of a ping socket, and the checksum but for that of a raw one of IPv4.
fn request(request_type: u8, token: &[u8; TOKEN_BYTES]) -> Vec<u8> {
    let mut request = vec![request_type, 0, 0, 0];
    request.extend(identifier().to_be_bytes());
    request.extend([0, 1]);
    request.extend(token);
    let checksum = checksum(&request);
    request.splice(2..4, checksum.to_be_bytes());
    request
}

fn identifier() -> u16 {
    u16::try_from(std::process::id() & 0xffff).unwrap_or_default()
}

/// A raw socket of IPv4 gives the IP header, too.
fn message(received: &[u8]) -> &[u8] {
    match received.first() {
        Some(first) if first >> 4 == 4 => received.get(usize::from(first & 15) * 4..).unwrap_or_default(),
        Some(_) | None => received,
    }
}

/// Tells replies to this request from all others.
fn token() -> [u8; TOKEN_BYTES] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let time = u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX);
    let mut token = [0; TOKEN_BYTES];
    for (to, from) in token.iter_mut().zip(
        time.to_be_bytes().into_iter().chain(number.to_be_bytes()).chain(std::process::id().to_be_bytes()),
    ) {
        *to = from;
    }
    token
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_its_checksum_sums_to_zero() {
        let request = request(V4.0, &token());
        assert_eq!((request.len(), checksum(&request)), (HEADER_BYTES + TOKEN_BYTES, 0));
    }

    #[test]
    fn the_ip_header_of_a_raw_socket_is_passed_over() {
        let mut packet = vec![0x46; 24];
        packet.extend([0, 0, 7]);
        assert_eq!(message(&packet), [0, 0, 7]);
        assert_eq!(message(&[129, 0, 7]), [129, 0, 7]);
        assert_eq!(message(&[0x4f, 1]), [0u8; 0]);
    }

    #[test]
    fn no_two_tokens_are_the_same() {
        assert_ne!(token(), token());
    }
}
