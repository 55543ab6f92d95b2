//! Machines that take very many connections: on each, a server that answers every message with the machine's number.
//!
//! `backends 1=/run/netns/A 2=/run/netns/B 80 443`: in each of these namespaces, on each of these ports. It says
//! `ready` when all of them listen, and runs until it is killed. A process of its own, because connections have two
//! ends, and a process may not have files enough for both.

use anyhow::{Context as _, Result};
use netd_integration_tests::crowd::{MESSAGE_BYTES, prepare_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{Ipv6Addr, TcpListener};
use std::os::fd::AsFd as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Connections that wait to be accepted. Thousands come at once.
const BACKLOG: i32 = 4096;

fn main() -> Result<()> {
    prepare_process()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (machines, ports): (Vec<String>, Vec<String>) =
            std::env::args().skip(1).partition(|word| word.contains('='));
        for machine in &machines {
            let (number, namespace) = machine.split_once('=').context("a number and a namespace")?;
            let number = number.parse()?;
            for port in &ports {
                let socket = listen(namespace, port.parse()?)?;
                tokio::spawn(accept(tokio::net::TcpListener::from_std(socket)?, number));
            }
        }
        println!("ready");
        std::future::pending().await
    })
}

/// A socket of this namespace, for both families and whatever address of the machine.
fn listen(namespace: &str, port: u16) -> Result<TcpListener> {
    let inside = || -> Result<TcpListener> {
        let file = File::open(namespace)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        let socket = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let made = std::thread::scope(|scope| scope.spawn(inside).join());
    made.ok().context("a panic")?.with_context(|| format!("listen in {namespace}"))
}

async fn accept(socket: tokio::net::TcpListener, number: u8) {
    // A connection that was reset before it was accepted is an error here.
    loop {
        if let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(answer(stream, number));
        }
    }
}

/// Until the client goes, or the connection breaks.
async fn answer(mut stream: TcpStream, number: u8) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE_BYTES];
    let mut reply = [number; 1 + MESSAGE_BYTES];
    loop {
        stream.read_exact(&mut message).await?;
        reply[1..].copy_from_slice(&message);
        stream.write_all(&reply).await?;
    }
}
