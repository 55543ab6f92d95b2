//! Frames on a real device.
#![allow(unsafe_code, reason = "packet sockets")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A packet socket on a device of the calling thread's namespace.
pub struct RawSocket(OwnedFd);

impl RawSocket {
    pub fn new(ifindex: u32) -> Self {
        let every = u16::to_be(libc::ETH_P_ALL as u16);
        // SAFETY: no addresses; the descriptor is new.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(every)) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: an address of zeros is one.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = every;
        address.sll_ifindex = ifindex as i32;
        let length = size_of_val(&address) as u32;
        // SAFETY: the address is as long as said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(std::time::Duration::from_secs(5)),
        )
        .unwrap();
        Self(socket)
    }

    pub fn send(&self, frame: &[u8]) {
        rustix::net::send(&self.0, frame, rustix::net::SendFlags::empty()).unwrap();
    }

    /// The first frame that is wanted; whatever else the kernel sends or gets is passed over.
    pub fn receive_until(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let mut buffer = [0; 4096];
            let (_, length) =
                rustix::net::recv(&self.0, &mut buffer, rustix::net::RecvFlags::empty()).unwrap();
            if wanted(&buffer[..length]) {
                return buffer[..length].to_vec();
            }
        }
    }
}
