//! The connection to one life of a daemon, and the recognition of what listens there.

use crate::api::GetBgpRequest;
use crate::api::gobgp_api_client::GobgpApiClient;
use crate::call::{CALL_MAX, failure, words};
use crate::endpoint::Endpoint;
use crate::error::Error;
use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// Where GoBGP 4 answers the question that [`Client::connect`] asks.
const VERSION_4: &str = "/api.GoBgpService/GetBgp";

/// A connection to a daemon. Clones share it; when it is lost, it stays lost.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    api: GobgpApiClient<Channel>,
    endpoint: String,
    pid: Option<u32>,
}

impl Client {
    /// Connects, and makes sure that it is a daemon of version 3 that answers.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`], [`Error::Hung`], [`Error::Version4`], [`Error::NotGobgp`], [`Error::TlsFile`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let (channel, pid) = endpoint.open().await?;
        let api = GobgpApiClient::new(channel.clone());
        let client = Self { channel, api, endpoint: endpoint.to_string(), pid };
        client.recognise().await?;
        Ok(client)
    }

    /// The process that listens on the daemon's unix socket.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Where the daemon is.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn api(&self) -> GobgpApiClient<Channel> {
        self.api.clone()
    }

    async fn recognise(&self) -> Result<(), Error> {
        let call = "say what it is";
        let mut api = self.api();
        let status = match timeout(CALL_MAX, api.get_bgp(GetBgpRequest {})).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => status,
            Err(_) => return Err(Error::Hung { call, limit: CALL_MAX }),
        };
        let endpoint = self.endpoint.clone();
        if status.code() == Code::Unimplemented {
            return Err(match self.answers_as_version_4().await? {
                true => Error::Version4 { endpoint },
                false => Error::NotGobgp { endpoint, reason: words(&status) },
            });
        }
        Err(match failure(call, &status) {
            Error::Gone { reason, .. } | Error::Refused { reason, .. } => {
                Error::NotGobgp { endpoint, reason }
            }
            other => other,
        })
    }

    async fn answers_as_version_4(&self) -> Result<bool, Error> {
        let call = "say whether it is version 4";
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let asking = async {
            grpc.ready().await.ok()?;
            // The request of version 4 is empty as well, and its answer is of no interest.
            let codec = ProstCodec::<(), ()>::default();
            let answer = grpc.unary(Request::new(()), PathAndQuery::from_static(VERSION_4), codec).await;
            Some(answer.map_or_else(|status| status.code() != Code::Unimplemented, |_| true))
        };
        match timeout(CALL_MAX, asking).await {
            Ok(is_version_4) => Ok(is_version_4.unwrap_or(false)),
            Err(_) => Err(Error::Hung { call, limit: CALL_MAX }),
        }
    }
}
