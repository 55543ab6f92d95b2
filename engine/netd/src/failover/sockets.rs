//! The sockets by which nodes ask each other: at most one of each family.

use rustix::net::sockopt;
use std::io;
use std::net::SocketAddr;
use tokio::net::UdpSocket;

/// A gateway of a thousand nodes is asked and answered by all of them at about the same time: two thousand datagrams, for
/// each of which the kernel counts about two KiB.
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;

/// By family, IPv4 first: a socket, once its address is there.
#[derive(Debug, Default)]
pub(super) struct Sockets([Option<UdpSocket>; 2]);

impl Sockets {
    /// Opens what is not open, the node's addresses may come later than netd; why that cannot be done, if so.
    pub(super) fn open(&mut self, listens: &[SocketAddr]) -> Option<String> {
        let mut hindrance = None;
        for address in listens {
            let [v4, v6] = &mut self.0;
            let socket = if address.is_ipv4() { v4 } else { v6 };
            if socket.is_none() {
                match bind(*address) {
                    Ok(bound) => *socket = Some(bound),
                    Err(error) => hindrance = Some(format!("listen at {address}: {error}")),
                }
            }
        }
        hindrance
    }

    /// What does not fit the socket's queue is lost, as on any network.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr) {
        let [v4, v6] = &self.0;
        if let Some(socket) = if to.is_ipv4() { v4 } else { v6 } {
            let _ = socket.try_send_to(bytes, to);
        }
    }

    /// Returns when something has come.
    pub(super) async fn readable(&self) {
        let [v4, v6] = &self.0;
        tokio::select! {
            () = readable(v4.as_ref()) => {}
            () = readable(v6.as_ref()) => {}
        }
    }

    /// What has come, at most `most` datagrams of each family, into this buffer one after the other.
    pub(super) fn take(&self, most: usize, buffer: &mut [u8], mut each: impl FnMut(&[u8], SocketAddr)) {
        for socket in self.0.iter().flatten() {
            for _ in 0..most {
                let Ok((length, from)) = socket.try_recv_from(buffer) else { break };
                each(buffer.get(..length).unwrap_or_default(), from);
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let forced = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BYTES);
    if let Err(error) = forced.or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BYTES)) {
        tracing::debug!(%error, %address, "the queue of the socket is as long as usual");
    }
    UdpSocket::from_std(socket)
}

/// Never, without a socket.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error is found by reading.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn the_questions_and_answers_of_a_thousand_nodes_find_room() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (to, sender) = (socket.local_addr().unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        if sockopt::socket_recv_buffer_size(&socket).unwrap() < RECEIVE_BYTES {
            eprintln!("skipped: this needs CAP_NET_ADMIN");
            return;
        }
        for _ in 0..2_000 {
            sender.send_to(&[7; 400], to).unwrap();
        }
        let (sockets, mut count) = (Sockets([Some(socket), None]), 0);
        sockets.readable().await;
        sockets.take(3_000, &mut [0; 1024], |_, _| count += 1);
        assert_eq!(count, 2_000);
    }
}
