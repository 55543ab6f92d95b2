//! The kernel's devices, over generic netlink.
//!
//! A socket of its own, which blocks: the kernel answers at once, and whether a dump is whole has to be seen.

mod message;

use crate::access::chunks;
use crate::{Access, Change, Device, Error};
use message::{add, setting, wipe};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};
use std::io;
use std::time::Duration;
use zeroize::Zeroizing;

/// The kernel answers at once; a socket that stays silent this long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How often a dump is started again because the device changed under it.
const DUMP_ATTEMPTS: u32 = 10;

/// A name, a private key and a mark.
const OWN_ATTRIBUTES: usize = 3;

/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;

/// The devices of the network namespace in which it was made.
pub struct Kernel {
    socket: Socket,
    family: u16,
    sequence: u32,
}

/// What answers say: nothing that was asked for was there, or all of it, or it changed meanwhile.
enum Dumped {
    Whole,
    Torn,
}

impl Kernel {
    /// Opens a way to the kernel.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where it has no WireGuard, nor a module of it.
    pub fn open() -> Result<Self, Error> {
        let failed = || Error::io("open generic netlink");
        let mut socket = Socket::new(NETLINK_GENERIC).map_err(failed())?;
        socket.bind_auto().map_err(failed())?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SILENCE_MAX))
            .map_err(|errno| failed()(errno.into()))?;
        let mut kernel = Self { socket, family: 0, sequence: 0 };
        kernel.find_family()?;
        Ok(kernel)
    }

    /// Asks by which number WireGuard is spoken to: a module that is loaded again has another one.
    fn find_family(&mut self) -> Result<(), Error> {
        let nlas = vec![GenlCtrlAttrs::FamilyName("wireguard".to_owned())];
        let question = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas });
        let mut family = None;
        let asked = self.ask(question, NLM_F_ACK, |answer: GenlMessage<GenlCtrl>| {
            let id = |it: &GenlCtrlAttrs| if let GenlCtrlAttrs::FamilyId(id) = it { Some(*id) } else { None };
            family = answer.payload.nlas.iter().find_map(id).or(family);
        });
        match (asked, family) {
            (Ok(_), Some(family)) => {
                self.family = family;
                Ok(())
            }
            (Ok(_), None) => Err(Error::Unsupported),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Err(Error::Unsupported),
            (Err(error), _) => Err(Error::io("ask the kernel for WireGuard")(error)),
        }
    }

    /// Sends one request, and shows each answer up to the last.
    fn ask<T>(
        &mut self,
        question: GenlMessage<T>,
        flags: u16,
        mut show: impl FnMut(GenlMessage<T>),
    ) -> io::Result<Dumped>
    where
        GenlMessage<T>: NetlinkSerializable + NetlinkDeserializable<Error: std::fmt::Display>,
        NetlinkPayload<GenlMessage<T>>: From<GenlMessage<T>>,
        T: Secretive,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        // Either way, keys may be in it.
        let mut bytes = Zeroizing::new(vec![0; message.buffer_len()]);
        message.serialize(&mut bytes);
        if let NetlinkPayload::InnerMessage(question) = &mut message.payload {
            question.payload.wipe();
        }
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut buffer = Zeroizing::new(vec![0; RECEIVE_BYTES]);
        let mut dumped = Dumped::Whole;
        loop {
            let length = match rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Err(Errno::INTR) => continue,
                other => other?.1,
            };
            let mut rest = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            while !rest.is_empty() {
                let answer = NetlinkMessage::<GenlMessage<T>>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                let own = usize::try_from(answer.header.length).unwrap_or(usize::MAX).max(1);
                rest = rest.get(own.next_multiple_of(4)..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                if answer.header.flags & NLM_F_DUMP_INTR != 0 {
                    dumped = Dumped::Torn;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => show(message),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(dumped),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code == 0 => return Ok(dumped),
                    NetlinkPayload::Done(done) => {
                        return Err(io::Error::from_raw_os_error(done.code.wrapping_abs()));
                    }
                    _ => {}
                }
            }
        }
    }

    fn message(
        &self,
        cmd: WireguardCmd,
        attributes: Vec<WireguardAttribute>,
    ) -> GenlMessage<WireguardMessage> {
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        message.set_resolved_family_id(self.family);
        message
    }

    fn set(&mut self, attributes: Vec<WireguardAttribute>) -> io::Result<()> {
        let message = self.message(WireguardCmd::SetDevice, attributes);
        self.ask(message, NLM_F_ACK, |_| {}).map(|_| ())
    }
}

/// A message whose memory is wiped before it is given back.
trait Secretive {
    /// Forgets the keys in it.
    fn wipe(&mut self);
}

impl Secretive for WireguardMessage {
    fn wipe(&mut self) {
        wipe(&mut self.attributes);
    }
}

impl Secretive for GenlCtrl {
    fn wipe(&mut self) {}
}

/// What an error number of the kernel's means.
fn meaning(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| match Errno::from_io_error(&error) {
        // No such link, or one of another sort.
        Some(Errno::NODEV | Errno::OPNOTSUPP) => Error::Absent,
        _ => Error::io(what)(error),
    }
}

impl Access for Kernel {
    fn read(&mut self, interface: &str) -> Result<Device, Error> {
        self.find_family()?;
        for _ in 0..DUMP_ATTEMPTS {
            let mut device = Device::default();
            let name = vec![WireguardAttribute::IfName(interface.to_owned())];
            let question = self.message(WireguardCmd::GetDevice, name);
            let dumped = self.ask(question, NLM_F_DUMP, |mut answer| {
                add(&mut device, &answer.payload.attributes);
                answer.payload.wipe();
            });
            if let Dumped::Whole = dumped.map_err(meaning("read the device"))? {
                return Ok(device);
            }
        }
        Err(Error::io("read the device")(io::ErrorKind::Interrupted.into()))
    }

    fn change(&mut self, interface: &str, change: &Change) -> Result<(), Error> {
        let Change { private_key, port, mark, peers } = change;
        self.find_family()?;
        // As many as there are: a vector that grows leaves what it held behind.
        let mut own = Vec::with_capacity(OWN_ATTRIBUTES);
        own.push(WireguardAttribute::IfName(interface.to_owned()));
        own.extend(private_key.as_ref().map(|key| WireguardAttribute::PrivateKey(*key.reveal())));
        own.extend(mark.map(WireguardAttribute::Fwmark));
        if own.len() > 1 {
            self.set(own).map_err(meaning("set up the device"))?;
        }
        // The port by itself: where somebody else has it, nothing else is lost. And after the key: who asks there is
        // answered.
        if let Some(port) = *port {
            let port_of =
                vec![WireguardAttribute::IfName(interface.to_owned()), WireguardAttribute::ListenPort(port)];
            self.set(port_of).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => Error::PortInUse(port),
                _ => meaning("set the port")(error),
            })?;
        }
        for chunk in chunks(peers) {
            let peers = WireguardAttribute::Peers(chunk.iter().map(setting).collect());
            let change = vec![WireguardAttribute::IfName(interface.to_owned()), peers];
            self.set(change).map_err(meaning("change the peers"))?;
        }
        Ok(())
    }
}
