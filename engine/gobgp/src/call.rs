//! One call with its deadline, and what its failure means.

use crate::endpoint::innermost;
use crate::error::Error;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Response, Status, Streaming};

/// How long one call may take. A daemon answers within milliseconds, a busy machine takes longer; a pass of netd that
/// meets a hung daemon waits this long once, and routes and the load balancer wait with it.
pub const CALL_MAX: Duration = Duration::from_secs(2);

/// How long the first entry of a list of routes may take: the daemon makes the whole list, about 30,000 routes a
/// second, before it sends any of it.
pub(crate) const LISTING_MAX: Duration = Duration::from_secs(20);

/// No more of a daemon's words than this goes into a status or a log.
const WORDS_MAX: usize = 300;

/// Waits for the answer of a call.
pub(crate) async fn answered<T>(
    call: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    within(CALL_MAX, call, answer).await
}

/// As [`answered`], with a limit of the caller's.
pub(crate) async fn within<T>(
    limit: Duration,
    call: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure(call, &status)),
        Err(_) => Err(Error::Hung { call, limit }),
    }
}

/// The next message of a stream, if there is one.
pub(crate) async fn next<T>(
    limit: Duration,
    call: &'static str,
    stream: &mut Streaming<T>,
) -> Result<Option<T>, Error> {
    match timeout(limit, stream.message()).await {
        Ok(message) => message.map_err(|status| failure(call, &status)),
        Err(_) => Err(Error::Hung { call, limit }),
    }
}

/// All messages of a short stream.
pub(crate) async fn all<T>(call: &'static str, mut stream: Streaming<T>) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    while let Some(message) = next(CALL_MAX, call, &mut stream).await? {
        found.push(message);
    }
    Ok(found)
}

/// What a status means. The daemon itself says everything with code Unknown; other codes come from the connection.
pub(crate) fn failure(call: &'static str, status: &Status) -> Error {
    let words = words(status);
    match status.code() {
        Code::Unavailable | Code::Internal | Code::Cancelled => Error::Gone { call, reason: words },
        _ if std::error::Error::source(status).is_some() => Error::Gone { call, reason: words },
        _ => Error::Refused { call, reason: words },
    }
}

/// What a status says, fit for a line of a log.
pub(crate) fn words(status: &Status) -> String {
    let text = match std::error::Error::source(status) {
        Some(source) => innermost(source),
        None => status.message().to_owned(),
    };
    let mut clean: String =
        text.chars().take(WORDS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.is_empty() {
        clean = format!("{:?}", status.code());
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x20_words_of_the_daemon_are_one_line_of_bounded_length() {
        let status = Status::new(Code::Unknown, format!("a\nb\u{1b}[31m{}", "x".repeat(1000)));
        let said = words(&status);
        assert!(said.starts_with("a b [31mxxx"), "{said}");
        assert_eq!(said.chars().count(), WORDS_MAX);
        assert_eq!(words(&Status::new(Code::Aborted, "")), "Aborted");
    }
}
