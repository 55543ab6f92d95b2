//! Asks one backend one question, in bounded time, and says in a short sentence what was wrong with the answer.

mod echo;
mod http;
mod tls;
mod udp;

use super::check::Question;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// Whom a probe asks, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// What is asked: the backend's own address, or a VIP through the tunnel; the port is 0 for an echo request.
    pub to: SocketAddr,
    /// The source address; `None` leaves it to the kernel.
    pub from: Option<IpAddr>,
    /// The mark of the probe's packets, by which they find the tunnel.
    pub mark: Option<u32>,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer was good.
    Good,
    /// There was none, or not a good one: why, in short.
    Bad(String),
    /// It could not be asked for a reason that is this node's: nothing is known of the backend.
    Hindered(String),
}

/// Asks, and waits for at most `timeout`.
pub async fn ask(aim: &Aim, question: &Question, timeout: Duration) -> Answer {
    let asking = async {
        match question {
            Question::Tcp => connect(aim).await.map(drop),
            Question::Http(question) => http::ask(aim, question).await,
            Question::Udp { send, expect } => udp::ask(aim, send, expect.as_deref()).await,
            Question::Icmp => echo::ask(aim).await,
        }
    };
    match tokio::time::timeout(timeout, asking).await {
        Ok(Ok(())) => Answer::Good,
        Ok(Err(Failure::Bad(why))) => Answer::Bad(why),
        Ok(Err(Failure::Hindered(why))) => Answer::Hindered(why),
        // A datagram that nobody refused may well have been taken.
        Err(_) if matches!(question, Question::Udp { expect: None, .. }) => Answer::Good,
        Err(_) => Answer::Bad(format!("no answer within {timeout:?}")),
    }
}

/// Why a probe did not find what it looked for.
#[derive(Debug)]
enum Failure {
    Bad(String),
    Hindered(String),
}

/// What went wrong on the way to the backend, or there.
fn bad(error: &io::Error) -> Failure {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOBUFS) => {
            Failure::Hindered(words(error))
        }
        _ => Failure::Bad(words(error)),
    }
}

/// The kernel's words, without the number that the standard library adds.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A socket that does not block, marked and bound as the aim says, connected to nothing yet.
fn socket(aim: &Aim, kind: Type, protocol: Option<Protocol>) -> Result<Socket, Failure> {
    let hindered = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| Failure::Hindered(format!("{what}: {}", words(&error)))
    };
    let socket =
        Socket::new(Domain::for_address(aim.to), kind, protocol).map_err(hindered("open a socket"))?;
    socket.set_nonblocking(true).map_err(hindered("open a socket"))?;
    if let Some(mark) = aim.mark {
        socket.set_mark(mark).map_err(hindered("mark the packets"))?;
    }
    if let Some(from) = aim.from {
        let bound = socket.bind(&SockAddr::from(SocketAddr::new(from, 0)));
        bound.map_err(hindered(&format!("send from {from}")))?;
    }
    Ok(socket)
}

/// Opens a connection. It is closed without ceremony: thousands that linger for a minute each would use up the ports.
async fn connect(aim: &Aim) -> Result<TcpStream, Failure> {
    let socket = socket(aim, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO)).map_err(|error| bad(&error))?;
    socket.set_tcp_nodelay(true).map_err(|error| bad(&error))?;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    socket.connect(aim.to).await.map_err(|error| bad(&error))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
