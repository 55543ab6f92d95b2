//! An rtnetlink connection: dumps that are whole or not at all, single changes, and announcements.
//!
//! rtnetlink's `execute()` is not used: it hides `NLM_F_DUMP_INTR`, and takes a connection that broke for one that
//! has no more to say. Whoever waits for an answer moves the bytes meanwhile, so there is no task behind a connection
//! and an announcement that nobody takes stays in the kernel's queue, which is bounded.

use super::bulk::grow_receive_buffer;
use super::sieve::Sieve;
use super::{Answer, DUMP_ATTEMPTS, DUMP_PAUSE, Request, SILENCE_MAX, kept_changing};
use futures_util::stream::{BoxStream, Stream, StreamExt, pending};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};
use rustix::io::Errno;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Everything that is announced about what netd reads.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// How often the kernel is asked for a sign of life when announcements push its answers out of the queue.
const SETTLE_ATTEMPTS: u32 = 10;

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// What a message carries.
pub type Payload = NetlinkPayload<RouteNetlinkMessage>;

/// A connection to the network namespace of the thread that opened it, on the runtime that it was opened on.
pub struct Connection {
    driver: rtnetlink::proto::Connection<RouteNetlinkMessage, Sieve>,
    handle: Handle,
    unasked: BoxStream<'static, (Message, SocketAddr)>,
}

enum Event {
    Unasked(Payload),
    Answer(Message),
}

impl Connection {
    /// Opens a connection for requests.
    ///
    /// # Errors
    ///
    /// The system call's.
    pub fn open() -> io::Result<Self> {
        let (mut driver, handle, unasked) = rtnetlink::new_connection_with_socket::<Sieve>()?;
        // The end of a dump says whether it failed half-way; without it silence could be either.
        driver.set_forward_done(true);
        driver.set_forward_ack(true);
        Ok(Self { driver, handle, unasked: unasked.boxed() })
    }

    /// Opens a connection that hears announcements, of which `queue_bytes` may wait before some are lost.
    ///
    /// # Errors
    ///
    /// The system call's.
    pub fn announced(queue_bytes: usize) -> io::Result<Self> {
        let (mut driver, handle, unasked) =
            rtnetlink::new_multicast_connection_with_socket::<Sieve>(&GROUPS)?;
        driver.set_forward_ack(true);
        let socket = driver.socket_mut().socket_mut();
        grow_receive_buffer(socket, queue_bytes);
        // Next-hop objects came with Linux 5.3.
        let _ = socket.add_membership(MulticastGroup::Nexthop as u32);
        Ok(Self { driver, handle, unasked: unasked.boxed() })
    }

    /// Reads a table: `each` gets every message of a dump that was not interrupted.
    ///
    /// What was collected is thrown away and the dump started again when the table changed meanwhile.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or that the table kept changing. After an error the connection is not used again.
    pub async fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        each: impl Fn(&RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for attempt in 1..=DUMP_ATTEMPTS {
            if let Some(found) = self.dump_once(request, &each).await? {
                return Ok(found);
            }
            tokio::time::sleep(DUMP_PAUSE * attempt).await;
        }
        Err(kept_changing())
    }

    /// `None` if the table changed meanwhile.
    async fn dump_once<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        each: impl Fn(&RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Option<Vec<T>>> {
        let payload = NetlinkPayload::InnerMessage(request.clone());
        let mut answers = pin!(self.send(payload, NLM_F_DUMP)?);
        let (mut found, mut whole) = (Vec::new(), true);
        loop {
            let answer = match self.event(answers.as_mut()).await? {
                Event::Answer(answer) => answer,
                Event::Unasked(NetlinkPayload::Overrun(_)) => return Err(Errno::NOBUFS.into()),
                Event::Unasked(_) => continue,
            };
            whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found.extend(each(&message)),
                NetlinkPayload::Done(done) => match done.code {
                    0 => return Ok(whole.then_some(found)),
                    code => return Err(io::Error::from_raw_os_error(code.wrapping_abs())),
                },
                NetlinkPayload::Error(refusal) => return Err(refusal.to_io()),
                _ => {}
            }
        }
    }

    /// Makes one change. After a lost answer the connection is not used again.
    pub async fn change(&mut self, request: Request) -> Answer {
        let lost = |error: &io::Error| Answer::Lost(Errno::from_io_error(error).unwrap_or(Errno::IO));
        let payload = NetlinkPayload::InnerMessage(request.message);
        let mut answers = match self.send(payload, request.flags | NLM_F_ACK) {
            Ok(answers) => pin!(answers),
            Err(error) => return lost(&error),
        };
        loop {
            match self.event(answers.as_mut()).await {
                Ok(Event::Answer(Message { payload: NetlinkPayload::Error(answer), .. })) => {
                    return match answer.raw_code().wrapping_abs() {
                        0 => Answer::Done,
                        code => Answer::Refused(Errno::from_raw_os_error(code)),
                    };
                }
                Ok(Event::Unasked(NetlinkPayload::Overrun(_))) => return Answer::Lost(Errno::NOBUFS),
                Ok(Event::Answer(_) | Event::Unasked(_)) => {}
                Err(error) => return lost(&error),
            }
        }
    }

    /// Waits for the next announcement.
    ///
    /// # Errors
    ///
    /// When the connection broke.
    pub async fn heard(&mut self) -> io::Result<Payload> {
        let mut answers = pin!(pending());
        loop {
            let event = poll_fn(|cx| self.poll_event(cx, answers.as_mut())).await?;
            if let Event::Unasked(payload) = event {
                return Ok(payload);
            }
        }
    }

    /// Gives `each` all announcements of what happened before the call.
    ///
    /// The kernel is asked to acknowledge a message that says nothing: what it announced before is before the answer
    /// in the queue.
    ///
    /// # Errors
    ///
    /// When the connection broke.
    pub async fn heard_so_far(&mut self, mut each: impl FnMut(Payload)) -> io::Result<()> {
        for _ in 0..SETTLE_ATTEMPTS {
            let mut answers = pin!(self.send(NetlinkPayload::Noop, NLM_F_ACK)?);
            loop {
                match self.event(answers.as_mut()).await? {
                    Event::Answer(_) => return Ok(()),
                    Event::Unasked(payload) => {
                        let overrun = matches!(payload, NetlinkPayload::Overrun(_));
                        each(payload);
                        // The answer may be among what was lost.
                        if overrun {
                            break;
                        }
                    }
                }
            }
        }
        // It overran each time. Whoever heard that takes nothing for granted.
        Ok(())
    }

    fn send(&mut self, payload: Payload, flags: u16) -> io::Result<impl Stream<Item = Message> + use<>> {
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        self.handle.request(NetlinkMessage::new(header, payload)).map_err(|_| broken())
    }

    async fn event(&mut self, mut answers: Pin<&mut impl Stream<Item = Message>>) -> io::Result<Event> {
        let event = poll_fn(|cx| self.poll_event(cx, answers.as_mut()));
        match tokio::time::timeout(SILENCE_MAX, event).await {
            Ok(event) => event,
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// What came, after moving bytes if nothing did; first what nobody asked for, as the kernel sent it first.
    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        mut answers: Pin<&mut impl Stream<Item = Message>>,
    ) -> Poll<io::Result<Event>> {
        for moved in [false, true] {
            if moved && Pin::new(&mut self.driver).poll(cx).is_ready() {
                return Poll::Ready(Err(broken()));
            }
            if let Poll::Ready(Some((message, _from))) = self.unasked.poll_next_unpin(cx) {
                return Poll::Ready(Ok(Event::Unasked(message.payload)));
            }
            match answers.as_mut().poll_next(cx) {
                Poll::Ready(Some(answer)) => return Poll::Ready(Ok(Event::Answer(answer))),
                Poll::Ready(None) => return Poll::Ready(Err(broken())),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the netlink socket broke")
}
