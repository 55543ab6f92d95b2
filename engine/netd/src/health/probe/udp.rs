//! A datagram, and what comes back.

use super::{Aim, Failure, bad, socket};
use socket2::{Protocol, SockAddr, Type};
use tokio::net::UdpSocket;

/// The longest answer that is looked at; what is longer is cut off.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends, and waits for an answer for as long as the caller does. A refusal arrives as an error of the socket.
pub(super) async fn ask(aim: &Aim, send: &[u8], expect: Option<&[u8]>) -> Result<(), Failure> {
    let socket = socket(aim, Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&SockAddr::from(aim.to)).map_err(|error| bad(&error))?;
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| bad(&error))?;
    socket.send(send).await.map_err(|error| bad(&error))?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let length = socket.recv(&mut answer).await.map_err(|error| bad(&error))?;
    let answer = answer.get(..length).unwrap_or_default();
    match expect {
        Some(expected) if !contains(answer, expected) => {
            Err(Failure::Bad("the answer does not contain what is expected".into()))
        }
        Some(_) | None => Ok(()),
    }
}

fn contains(answer: &[u8], expected: &[u8]) -> bool {
    expected.is_empty() || answer.windows(expected.len()).any(|part| part == expected)
}
