//! What a health check sends, and what it takes for a good answer.

use super::word::{Refused, Word, word_schema};
use crate::diagnostic::quote;
use schemars::{Schema, json_schema};
use std::net::IpAddr;
use std::ops::RangeInclusive;

word_schema!(HttpPath, HostName, StatusRange, Payload);

/// The target of an HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct HttpPath(pub(crate) String);

/// A request line stays in one packet.
const PATH_BYTES_MAX: usize = 1_024;

impl Word for HttpPath {
    const WHAT: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, Refused> {
        if !text.starts_with('/') {
            return Err(Refused {
                why: "must begin with `/`".to_owned(),
                help: (!text.contains("://")).then(|| format!("write {}", quote(&format!("/{text}")))),
            });
        }
        if let Some(other) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            let other = quote(&other.to_string());
            return Err(Refused {
                why: format!("{other} is not allowed in a path"),
                help: Some("write it as `%` and its bytes in two hexadecimal digits each".to_owned()),
            });
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(Refused::because(format!("{} bytes; at most {PATH_BYTES_MAX}", text.len())));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "a path, with its query if there is one",
            "pattern": format!("^/[!-\"$-~]{{0,{}}}$", PATH_BYTES_MAX - 1),
        })
    }
}

/// A host in HTTP and TLS: a name or an address, without a port.
#[derive(Clone, Debug)]
pub(crate) struct HostName(pub(crate) String);

/// The limit of a DNS name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

impl Word for HostName {
    const WHAT: &'static str = "the name of a host";

    fn parse(text: &str) -> Result<Self, Refused> {
        if text.is_empty() || text.len() > HOST_BYTES_MAX {
            return Err(Refused::because(format!("{} bytes; must be 1 to {HOST_BYTES_MAX}", text.len())));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match text.chars().find(|c| !allowed(*c)) {
            Some(other) if text.parse::<IpAddr>().is_err() => Err(Refused::because(format!(
                "{} is not allowed; only letters, digits, `-`, `.`, `_`, or an address",
                quote(&other.to_string())
            ))),
            _ => Ok(Self(text.to_owned())),
        }
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "the name of a host, or an address",
            "pattern": format!("^[A-Za-z0-9._:-]{{1,{HOST_BYTES_MAX}}}$"),
        })
    }
}

/// One HTTP status or a range of them.
#[derive(Clone, Debug)]
pub(crate) struct StatusRange(pub(crate) RangeInclusive<u16>);

/// RFC 9110, section 15.
const STATUSES: RangeInclusive<u16> = 100..=599;

impl Word for StatusRange {
    const WHAT: &'static str = "an HTTP status, or a range of them";

    fn parse(text: &str) -> Result<Self, Refused> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| -> Result<u16, Refused> {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|status| digits && STATUSES.contains(status)).ok_or_else(|| {
                Refused::because("must be a status from 100 to 599, or two of them: `301`, `200-299`")
            })
        };
        let (from, to) = (status(from)?, status(to)?);
        if from > to {
            return Err(Refused {
                why: "the range is empty: it ends before it begins".to_owned(),
                help: Some(format!("write `{to}-{from}`")),
            });
        }
        Ok(Self(from..=to))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "a status from 100 to 599, or a range such as 200-299",
            "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$",
        })
    }
}

/// The payload of a UDP datagram.
#[derive(Clone, Debug)]
pub(crate) struct Payload(pub(crate) String);

/// What passes every path in one piece, with any tunnel around it.
const PAYLOAD_BYTES_MAX: usize = 512;

impl Word for Payload {
    const WHAT: &'static str = "the content of a datagram";

    fn parse(text: &str) -> Result<Self, Refused> {
        if text.is_empty() {
            return Err(Refused::because("must not be empty"));
        }
        if text.len() > PAYLOAD_BYTES_MAX {
            return Err(Refused::because(format!("{} bytes; at most {PAYLOAD_BYTES_MAX}", text.len())));
        }
        Ok(Self(text.to_owned()))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": format!("1 to {PAYLOAD_BYTES_MAX} bytes"),
            "minLength": 1,
            "maxLength": PAYLOAD_BYTES_MAX,
        })
    }
}
