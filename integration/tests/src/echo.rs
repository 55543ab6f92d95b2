//! Traffic through a bed: echo servers on the backends that say which backend they are, and clients that count.

#![allow(clippy::panic, reason = "the scaffolding of tests says what went wrong and stops")]
#![allow(clippy::unwrap_used, reason = "the scaffolding of tests says what went wrong and stops")]

use crate::bed::Bed;
use crate::lab::Namespace;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, SocketType};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Retransmissions come sooner.
const STALL_MAX: Duration = Duration::from_secs(3);

/// Room for what arrives while this process does not get a processor: seconds of packets.
const BUFFER_BYTES: usize = 4 << 20;

/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

/// Between two packets of steady traffic.
const PERIOD: Duration = Duration::from_millis(1);

/// What servers listen on.
#[derive(Clone, Copy, Debug)]
pub enum Port {
    /// TCP: says the number of its backend in one byte, then echoes.
    Tcp(SocketAddr),
    /// UDP: answers with the number of its backend in one byte, then the payload.
    Udp(SocketAddr),
}

/// Servers on all backends of a bed, until dropped.
pub struct Servers {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Servers {
    /// Listens on these on every backend. A backend answers from the address that it was asked at.
    #[must_use]
    pub fn start(bed: &Bed, ports: &[Port]) -> Self {
        Self::on(&bed.backends, ports)
    }

    /// As [`Servers::start`], on these backends.
    #[must_use]
    pub fn on(backends: &[Namespace], ports: &[Port]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        for (backend, number) in backends.iter().zip(1u8..) {
            for &port in ports {
                let _inside = runtime.enter();
                match port {
                    Port::Tcp(address) => {
                        let socket = backend.run(|| TcpListener::bind(address)).unwrap();
                        socket.set_nonblocking(true).unwrap();
                        let socket = tokio::net::TcpListener::from_std(socket).unwrap();
                        runtime.spawn(accept(socket, number));
                    }
                    Port::Udp(address) => {
                        let socket = backend.run(|| udp(address));
                        socket.set_nonblocking(true).unwrap();
                        let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
                        runtime.spawn(answer(socket, number));
                    }
                }
            }
        }
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(socket: tokio::net::TcpListener, number: u8) {
    while let Ok((mut stream, _)) = socket.accept().await {
        tokio::spawn(async move {
            let (mut buffer, mut length) = ([0; 4096], 1);
            buffer[0] = number;
            while stream.write_all(&buffer[..length]).await.is_ok() {
                length = match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => length,
                };
            }
        });
    }
}

async fn answer(socket: tokio::net::UdpSocket, number: u8) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    buffer[0] = number;
    loop {
        // An error here is an earlier answer's, which an ICMP message told about.
        if let Ok((length, from)) = socket.recv_from(&mut buffer[1..]).await {
            let _ = socket.send_to(&buffer[..=length], from).await;
        }
    }
}

fn udp(address: SocketAddr) -> UdpSocket {
    // A process that another test is just starting has a copy of a socket that was closed here.
    let until = Instant::now() + ANSWER_MAX;
    let socket = loop {
        match UdpSocket::bind(address) {
            Ok(socket) => break socket,
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(PERIOD);
            }
            Err(error) => panic!("bind {address}: {error}"),
        }
    };
    set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).unwrap();
    socket
}

fn any(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

impl Bed {
    /// A UDP socket of the client, connected to a VIP; port 0 is any.
    #[must_use]
    pub fn client_udp(&self, from_port: u16, to: SocketAddr) -> UdpSocket {
        let socket = self.client.run(|| udp(SocketAddr::new(any(to), from_port)));
        self.client.run(|| socket.connect(to)).unwrap();
        socket.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        socket
    }

    /// Which backend answers a packet of UDP, if one does within a second.
    #[must_use]
    pub fn ask_udp(&self, to: SocketAddr) -> Option<u8> {
        self.ask_udp_from(0, to)
    }

    /// As [`Bed::ask_udp`], from this port.
    #[must_use]
    pub fn ask_udp_from(&self, from_port: u16, to: SocketAddr) -> Option<u8> {
        let socket = self.client_udp(from_port, to);
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send(b"who?").ok()?;
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).ok()?;
        assert_eq!(&buffer[1..length], b"who?");
        Some(buffer[0])
    }

    /// A TCP connection of the client, and the number of the backend that took it.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<(TcpStream, u8)> {
        let mut stream = self.client.run(|| TcpStream::connect_timeout(&to, ANSWER_MAX))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        let mut number = [0];
        stream.read_exact(&mut number)?;
        Ok((stream, number[0]))
    }

    /// As [`Bed::connect`], from this port of the client.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn connect_from(&self, from_port: u16, to: SocketAddr) -> std::io::Result<(TcpStream, u8)> {
        self.connect_between(SocketAddr::new(any(to), from_port), to)
    }

    /// As [`Bed::connect`], from this address of the client; port 0 is any.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn connect_between(&self, from: SocketAddr, to: SocketAddr) -> std::io::Result<(TcpStream, u8)> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = self.client.run(|| rustix::net::socket(family, SocketType::STREAM, None))?;
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_MAX))?;
        rustix::net::bind(&socket, &from)?;
        rustix::net::connect(&socket, &to)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut number = [0];
        stream.read_exact(&mut number)?;
        Ok((stream, number[0]))
    }

    /// Which backend takes a connection of TCP, and echoes well over it.
    #[must_use]
    pub fn ask_tcp(&self, to: SocketAddr) -> u8 {
        let (mut stream, number) =
            self.connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        echo(&mut stream, &[0x5a; 3000]).unwrap_or_else(|error| panic!("echo from {to}: {error}"));
        number
    }
}

/// Sends something and waits for it to come back.
///
/// # Errors
///
/// When it does not, within two seconds.
pub fn echo(stream: &mut TcpStream, payload: &[u8]) -> std::io::Result<()> {
    stream.write_all(payload)?;
    let mut back = vec![0; payload.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, payload);
    Ok(())
}

/// Sends this many bytes and reads them back at the same time; how long that took.
///
/// # Errors
///
/// When nothing comes for three seconds.
pub fn exchange(mut stream: &TcpStream, bytes: usize) -> std::io::Result<Duration> {
    let began = Instant::now();
    stream.set_read_timeout(Some(STALL_MAX))?;
    stream.set_write_timeout(Some(STALL_MAX))?;
    let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let mut back = vec![0; bytes];
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (&*stream).write_all(&sent));
        let read = stream.read_exact(&mut back);
        writer.join().unwrap().and(read)
    })?;
    assert!(back == sent, "what came back is not what was sent");
    Ok(began.elapsed())
}

/// One flow of numbered packets, one per millisecond, each of which a backend has to answer.
pub struct Flow {
    to: SocketAddr,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<Vec<u32>>,
}

/// What became of a flow.
#[derive(Debug)]
pub struct Tally {
    /// Where it went.
    pub to: SocketAddr,
    /// Packets sent.
    pub sent: u32,
    /// The numbers of those that were not answered.
    pub lost: Vec<u32>,
}

impl Flow {
    /// Begins.
    #[must_use]
    pub fn start(bed: &Bed, to: SocketAddr) -> Self {
        let socket = Arc::new(bed.client_udp(0, to));
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (sending, receiving) = (Arc::clone(&socket), socket);
        let (stopped, ended) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = std::thread::spawn(move || send(&sending, &stopped));
        let receiver = std::thread::spawn(move || receive(&receiving, &ended));
        Self { to, stop, sender, receiver }
    }

    /// Ends, and counts.
    #[must_use]
    pub fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        let answered = self.receiver.join().unwrap();
        let mut missing = vec![true; sent as usize];
        for number in answered {
            missing[number as usize] = false;
        }
        let lost = (0..sent).filter(|&number| missing[number as usize]).collect();
        Tally { to: self.to, sent, lost }
    }
}

impl Tally {
    /// Panics unless every packet was answered.
    pub fn assert_whole(&self) {
        let Self { to, sent, lost } = self;
        assert!(*sent > 0 && lost.is_empty(), "{to}: {} of {sent} lost: {lost:?}", lost.len());
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> u32 {
    let mut number = 0u32;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // A refusal belongs to an earlier packet, which is missing then.
        let _ = socket.send(&number.to_be_bytes());
        number += 1;
        // A thread that was kept waiting does not catch up by a burst.
        next = (next + PERIOD).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    number
}

/// Until nothing has come for as long as an answer may take, after the end.
fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Vec<u32> {
    let mut answered = Vec::new();
    let mut last = Instant::now();
    loop {
        let mut buffer = [0; 16];
        match socket.recv(&mut buffer) {
            Ok(5) => {
                answered.push(u32::from_be_bytes(buffer[1..5].try_into().unwrap()));
                last = Instant::now();
            }
            Ok(length) => panic!("an answer of {length} bytes"),
            Err(_) if stop.load(Ordering::Relaxed) && last.elapsed() > Duration::from_millis(700) => {
                return answered;
            }
            Err(_) => {}
        }
    }
}
