//! Follows the flows that remain on a backend that drains, until they have ended.

use super::place::Place;
use crate::api::Client;
use crate::cli::say;
use crate::clock;
use crate::commands::duration::words;
use crate::kinds::service::KeptFlows;
use anyhow::Context as _;
use netd_schema::Service;
use std::time::{Duration, Instant};

/// Between two looks at the flows.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What has not changed is said again after this long, so that it is seen that somebody waits.
const SAY_AGAIN: Duration = Duration::from_secs(15);

/// Whose flows are followed.
pub(super) struct Remain<'a> {
    pub(super) client: &'a Client,
    pub(super) service: &'a Service,
    pub(super) place: Place,
    /// A flow that sent nothing for so long has ended.
    pub(super) idle: Duration,
}

/// What is left at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    flows: usize,
    silent: usize,
    last_seen_ms: Option<u64>,
}

impl Remain<'_> {
    /// Says what remains, once or until nothing does. Whether it ended as it should: without a time to wait it does.
    ///
    /// A flow is recorded with its next packet, so nothing is known about the end before `idle` has gone by.
    pub(super) async fn follow(&self, since: Instant, until: Option<Instant>) -> anyhow::Result<bool> {
        let mut said: Option<(usize, Instant)> = None;
        loop {
            let left = self.look().await?;
            let now = clock::now();
            if until.is_some() && left.flows == 0 && now.saturating_duration_since(since) >= self.idle {
                say(&format!("Drained: no packet of its flows for {}.\n", words(self.idle)))?;
                return Ok(true);
            }
            let is_news = said.is_none_or(|(flows, at)| flows != left.flows || now - at >= SAY_AGAIN);
            if is_news {
                say(&format!("{}\n", left.sentence(self.idle)))?;
                said = Some((left.flows, now));
            }
            let Some(until) = until else { return Ok(true) };
            if now >= until {
                say("The time to wait is over; the backend goes on draining.\n")?;
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY.min(until.saturating_duration_since(now))).await;
        }
    }

    async fn look(&self) -> anyhow::Result<Left> {
        let path = format!("/v1/flows?idle_ms={}", self.idle.as_millis());
        let bytes = self.client.get(&path).await?.context("the daemon has just ended")?;
        let kept: Vec<KeptFlows> =
            serde_json::from_slice(&bytes).context("the daemon's answer cannot be read")?;
        let own: Vec<_> = kept
            .iter()
            .filter(|kept| kept.service == self.service.name && self.place.includes(kept.address, kept.port))
            .collect();
        Ok(Left {
            flows: own.iter().map(|kept| kept.flows).sum(),
            silent: own.iter().map(|kept| kept.silent).sum(),
            last_seen_ms: own.iter().map(|kept| kept.last_seen_ms).min(),
        })
    }
}

impl Left {
    fn sentence(self, idle: Duration) -> String {
        let Self { flows, silent, last_seen_ms } = self;
        let seen = last_seen_ms.map(|ms| format!(", last packet {} ago", words(Duration::from_millis(ms))));
        let seen = seen.unwrap_or_default();
        let silent = match silent {
            0 => String::new(),
            silent => format!("; {silent} more silent for over {}", words(idle)),
        };
        match flows {
            0 if last_seen_ms.is_none() => "No flow has sent anything since".into(),
            0 => format!("No flow has sent anything for {}{seen}{silent}", words(idle)),
            1 => format!("1 flow remains{seen}{silent}"),
            flows => format!("{flows} flows remain{seen}{silent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_remains_is_said_in_a_sentence() {
        let left = |flows, silent, last_seen_ms| Left { flows, silent, last_seen_ms }.sentence(MINUTE);
        assert_eq!(left(0, 0, None), "No flow has sent anything since");
        assert_eq!(left(12, 0, Some(3400)), "12 flows remain, last packet 3s ago");
        assert_eq!(left(1, 4, Some(400)), "1 flow remains, last packet 0s ago; 4 more silent for over 1m");
        assert_eq!(
            left(0, 2, Some(95_000)),
            "No flow has sent anything for 1m, last packet 1m35s ago; 2 more silent for over 1m"
        );
    }
}
