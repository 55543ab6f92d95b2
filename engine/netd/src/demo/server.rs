//! A web server on each backend, which answers with the backend's name.

use anyhow::Context as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::http;
use super::topology::{self, PORT};
use super::world::World;

/// Connections that wait to be accepted: more than the client ever opens at once.
const BACKLOG: u32 = 256;

/// The servers; they run until this is dropped.
pub(super) struct Servers {
    stop: watch::Sender<bool>,
    threads: Vec<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Servers {
    pub(super) fn start(world: &World) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut servers = Self { stop, threads: Vec::new() };
        let (tell, listening) = std::sync::mpsc::channel();
        for name in topology::backends() {
            let (stopped, tell) = (stopped.clone(), tell.clone());
            let thread = world.enter(name, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(serve(name, stopped, tell))
            })?;
            servers.threads.push(thread);
        }
        drop(tell);
        for _ in topology::backends() {
            listening.recv().context("a web server did not start")??;
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            // Why it ended does not matter any more.
            let _ = thread.join();
        }
    }
}

async fn serve(
    name: &'static str,
    mut stopped: watch::Receiver<bool>,
    listening: std::sync::mpsc::Sender<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let sockets =
        listen(Ipv4Addr::UNSPECIFIED.into()).and_then(|v4| Ok((v4, listen(Ipv6Addr::UNSPECIFIED.into())?)));
    let (v4, v6) = match sockets {
        Ok(sockets) => sockets,
        Err(error) => {
            let _ = listening.send(Err(error.context(format!("listen on {name}"))));
            return Ok(());
        }
    };
    let _ = listening.send(Ok(()));
    loop {
        let stream = tokio::select! {
            accepted = v4.accept() => accepted,
            accepted = v6.accept() => accepted,
            _ = stopped.changed() => return Ok(()),
        };
        // A client that is gone before it is accepted counts its own failure.
        if let Ok((stream, _)) = stream {
            tokio::spawn(async move { http::serve(stream, name).await });
        }
    }
}

fn listen(address: std::net::IpAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { v6_only()? };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, PORT))?;
    Ok(socket.listen(BACKLOG)?)
}

/// A socket that leaves the port of the other family free.
fn v6_only() -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v6()?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    Ok(socket)
}
