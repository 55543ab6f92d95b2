//! Where a daemon is, which ways to it are safe, and the one connection to it.

use crate::call::CALL_MAX;
use crate::error::Error;
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

/// How long a silent TCP connection is before the kernel asks whether the other side is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(10);

/// A key or a certificate is a few KiB.
const TLS_FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system; who may use it is a matter of its directory.
    Unix(PathBuf),
    /// Plain TCP on this machine.
    Loopback(SocketAddr),
    /// TLS, to anywhere.
    Https {
        /// Host name or address, and port.
        authority: String,
        /// What is trusted, and shown.
        tls: Tls,
    },
}

/// The files of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authority whose certificates are trusted, in PEM.
    pub ca: PathBuf,
    /// netd's own certificate and its key, in PEM, where the daemon's side asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Endpoint {
    /// Reads `unix:///path`, `http://127.0.0.1:50051` or `https://host:port`.
    ///
    /// # Errors
    ///
    /// [`Error::Endpoint`]: another form, plain HTTP to another machine, HTTPS without `tls`, or `tls` without HTTPS.
    pub fn parse(text: &str, tls: Option<Tls>) -> Result<Self, Error> {
        let refuse = |reason| Error::Endpoint { address: text.to_owned(), reason };
        if let Some(authority) = text.strip_prefix("https://") {
            let tls = tls.ok_or_else(|| refuse("https needs to know which authority to trust"))?;
            return match authority.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
                Some((host, Ok(1..))) if !host.is_empty() && !authority.contains('/') => {
                    Ok(Self::Https { authority: authority.to_owned(), tls })
                }
                _ => Err(refuse("https://HOST:PORT is expected")),
            };
        }
        if tls.is_some() {
            return Err(refuse("TLS goes with https:// only"));
        }
        if let Some(path) = text.strip_prefix("unix://") {
            return match Path::new(path).is_absolute() {
                true => Ok(Self::Unix(path.into())),
                false => Err(refuse("the path of a socket begins with a slash: unix:///run/gobgpd.sock")),
            };
        }
        let Some(authority) = text.strip_prefix("http://") else {
            return Err(refuse("unix:///PATH, http://127.0.0.1:PORT or https://HOST:PORT is expected"));
        };
        match authority.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(_) => Err(refuse("plain http, without authentication, is for loopback only; use https")),
            Err(_) => Err(refuse("http://127.0.0.1:PORT or http://[::1]:PORT is expected")),
        }
    }

    /// Opens the connection, and says who holds the other end if that can be known.
    pub(crate) async fn open(&self) -> Result<(Channel, Option<u32>), Error> {
        match self {
            Self::Unix(path) => {
                let stream = self.in_time(UnixStream::connect(path)).await?;
                let pid = stream.peer_cred().ok().and_then(|cred| cred.pid());
                let pid = pid.and_then(|pid| u32::try_from(pid).ok());
                Ok((self.channel(plain("http://gobgpd"), stream).await?, pid))
            }
            Self::Loopback(address) => {
                let stream = self.in_time(TcpStream::connect(address)).await?;
                Ok((self.channel(plain("http://gobgpd"), stream).await?, None))
            }
            Self::Https { authority, tls } => {
                let endpoint = self.secured(authority, tls).await?;
                let stream = self.in_time(TcpStream::connect(authority.as_str())).await?;
                let socket = rustix::net::sockopt::set_socket_keepalive(&stream, true)
                    .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(&stream, TCP_KEEPALIVE));
                if let Err(error) = socket {
                    tracing::debug!(%error, "TCP keepalive cannot be set");
                }
                Ok((self.channel(endpoint, stream).await?, None))
            }
        }
    }

    async fn secured(&self, authority: &str, tls: &Tls) -> Result<tonic::transport::Endpoint, Error> {
        let reason = "its host cannot be part of an address";
        let refused = |_| Error::Endpoint { address: self.to_string(), reason };
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&tls.ca).await?));
        if let Some((certificate, key)) = &tls.identity {
            config = config.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
        }
        tonic::transport::Endpoint::from_shared(format!("https://{authority}"))
            .map_err(refused)?
            .tls_config(config)
            .map_err(|error| self.absent(&error))
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
        match timeout(CALL_MAX, connecting).await {
            Ok(done) => done.map_err(|error| self.absent(&error)),
            Err(_) => Err(Error::Hung { call: "connecting", limit: CALL_MAX }),
        }
    }

    /// HTTP/2 over one stream; when it ends, the channel is of no more use.
    async fn channel<S>(&self, endpoint: tonic::transport::Endpoint, stream: S) -> Result<Channel, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut once = Some(stream);
        let connector = tower::service_fn(move |_| -> Ready<io::Result<TokioIo<S>>> {
            ready(once.take().map(TokioIo::new).ok_or_else(|| io::Error::other("the connection has ended")))
        });
        match timeout(CALL_MAX, endpoint.connect_with_connector(connector)).await {
            Ok(done) => done.map_err(|error| self.absent(&error)),
            Err(_) => Err(Error::Hung { call: "connecting", limit: CALL_MAX }),
        }
    }

    fn absent(&self, error: &dyn std::error::Error) -> Error {
        Error::Absent { endpoint: self.to_string(), reason: innermost(error) }
    }
}

fn plain(uri: &'static str) -> tonic::transport::Endpoint {
    tonic::transport::Endpoint::from_static(uri)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Loopback(address) => write!(f, "http://{address}"),
            Self::Https { authority, tls: _ } => write!(f, "https://{authority}"),
        }
    }
}

/// The last of the causes: what wraps it says only that it failed.
pub(crate) fn innermost(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::TlsFile { path: path.display().to_string(), source };
    let about = tokio::fs::metadata(path).await.map_err(failed)?;
    if !about.is_file() || about.len() > TLS_FILE_BYTES_MAX {
        return Err(failed(io::Error::other("not a file of at most 1 MiB")));
    }
    tokio::fs::read(path).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn refusal(text: &str, tls: Option<Tls>) -> String {
        Endpoint::parse(text, tls).unwrap_err().to_string()
    }

    #[test]
    fn the_three_ways_to_a_daemon_are_read() {
        let unix = Endpoint::parse("unix:///run/gobgpd.sock", None).unwrap();
        assert_eq!(unix, Endpoint::Unix("/run/gobgpd.sock".into()));
        for text in ["http://127.0.0.1:50051", "http://[::1]:50051"] {
            assert_eq!(Endpoint::parse(text, None).unwrap().to_string(), text);
        }
        let tls = Tls { ca: "/etc/ca.pem".into(), identity: None };
        let https = Endpoint::parse("https://bgp.example:50051", Some(tls.clone())).unwrap();
        assert_eq!(https, Endpoint::Https { authority: "bgp.example:50051".into(), tls });
    }

    #[test]
    fn b13_plain_http_to_another_machine_is_refused() {
        let expected = "\"http://10.0.0.1:50051\" is no address of a gobgpd: plain http, without authentication, is \
                        for loopback only; use https";
        assert_eq!(refusal("http://10.0.0.1:50051", None), expected);
        assert!(refusal("http://gobgpd:50051", None).contains("http://127.0.0.1:PORT"));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_expected() {
        for text in ["127.0.0.1:50051", "", "ftp://127.0.0.1:1", "http://127.0.0.1"] {
            assert!(refusal(text, None).contains("is expected"), "{text}");
        }
        assert!(refusal("unix://run/gobgpd.sock", None).contains("begins with a slash"));
        assert!(refusal("https://bgp.example:50051", None).contains("authority to trust"));
        assert!(refusal("unix:///run/gobgpd.sock", Some(Tls::default())).contains("https:// only"));
        for text in ["https://bgp.example", "https://:1", "https://a:0", "https://a:1/x"] {
            assert!(refusal(text, Some(Tls::default())).contains("https://HOST:PORT"), "{text}");
        }
    }
}
