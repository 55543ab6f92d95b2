//! A request of HTTP/1.1, and the status of its answer.

use super::{Aim, Failure, bad, connect, tls};
use crate::health::check::HttpQuestion;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// So that the backend's log says who asked.
const AGENT: &str = concat!("netd/", env!("CARGO_PKG_VERSION"), " (health check)");

/// Asks, and looks at nothing but the status. The body is not read.
pub(super) async fn ask(aim: &Aim, question: &HttpQuestion) -> Result<(), Failure> {
    let request = request(question, aim.to)?;
    let stream = connect(aim).await?;
    let status = if question.is_tls {
        let stream = tls::wrap(stream, question.host.as_deref(), aim.to.ip()).await?;
        status_of(stream, request).await?
    } else {
        status_of(stream, request).await?
    };
    judge(status, &question.status)
}

fn judge(status: StatusCode, good: &[(u16, u16)]) -> Result<(), Failure> {
    let status = status.as_u16();
    if good.iter().any(|&(first, last)| (first..=last).contains(&status)) {
        return Ok(());
    }
    let range = |&(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let wanted: Vec<String> = good.iter().map(range).collect();
    Err(Failure::Bad(format!("status {status}, wanted {}", wanted.join(","))))
}

fn request(question: &HttpQuestion, to: SocketAddr) -> Result<Request<Empty<Bytes>>, Failure> {
    let usual_port = if question.is_tls { 443 } else { 80 };
    let host = match &question.host {
        Some(host) => host.clone(),
        None if to.port() == usual_port && to.is_ipv6() => format!("[{}]", to.ip()),
        None if to.port() == usual_port => to.ip().to_string(),
        None => to.to_string(),
    };
    let request = Request::get(question.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close");
    let wrong = |error| Failure::Hindered(format!("the request cannot be written: {error}"));
    request.body(Empty::new()).map_err(wrong)
}

async fn status_of(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<StatusCode, Failure> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| because(&error))?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may end in the moment in which the answer is there.
        _ = &mut connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(|error| because(&error))
}

fn because(error: &hyper::Error) -> Failure {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>()
            && error.raw_os_error().is_some()
        {
            return bad(error);
        }
        cause = inner.source();
    }
    Failure::Bad(match error.is_parse() {
        true => "the answer is not HTTP".into(),
        false if error.is_canceled() || error.is_incomplete_message() => {
            "the connection ended before the answer".into()
        }
        false => error.to_string(),
    })
}
