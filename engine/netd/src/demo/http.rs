//! As much of HTTP/1.1 as the demo's client and servers speak: GET with and without keep-alive (RFC 9112).

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No head or body of the demo is larger.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

/// Answers the requests of one connection with a name, until the client has had enough.
pub(super) async fn serve(mut stream: TcpStream, name: &str) -> anyhow::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = read_head(&mut stream, &mut buffer).await? else { return Ok(()) };
        let close = head.to_ascii_lowercase().contains("\r\nconnection: close");
        let length = name.len() + 1;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{name}\n"
        );
        stream.write_all(answer.as_bytes()).await?;
        if close {
            return Ok(stream.shutdown().await?);
        }
    }
}

/// Sends one request and returns the body of the answer, without its line end.
pub(super) async fn ask(stream: &mut TcpStream, after: After) -> anyhow::Result<String> {
    let connection = match after {
        After::Keep => "keep-alive",
        After::Close => "close",
    };
    let request = format!("GET / HTTP/1.1\r\nHost: web.example\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("send a request")?;
    let mut buffer = Vec::new();
    let head = read_head(stream, &mut buffer).await.context("read an answer")?;
    let head = head.context("the connection was closed instead of an answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "the answer is {:?}", head.lines().next().unwrap_or_default());
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.context("the answer has no length")?.parse()?;
    ensure!(length <= MESSAGE_BYTES_MAX, "the answer is too long: {length} bytes");
    while buffer.len() < length {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the answer was cut off");
    }
    Ok(String::from_utf8(buffer)?.trim_end().to_owned())
}

/// Reads up to the empty line; what follows it stays in the buffer. `None` if the other side closed before it began.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Option<String>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8(head)?));
        }
        ensure!(buffer.len() <= MESSAGE_BYTES_MAX, "the head is too long");
        match stream.read_buf(buffer).await? {
            0 if buffer.is_empty() => return Ok(None),
            0 => bail!("the head was cut off"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn a_kept_connection_is_asked_twice_and_closed_when_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0, "one").await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(ask(&mut stream, After::Keep).await.unwrap(), "one");
        assert_eq!(ask(&mut stream, After::Close).await.unwrap(), "one");
        let error = ask(&mut stream, After::Close).await.unwrap_err();
        assert!(!error.to_string().is_empty());
        server.await.unwrap().unwrap();
    }
}
