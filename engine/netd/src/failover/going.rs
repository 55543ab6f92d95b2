//! Whether the machine goes down with netd: then nobody has to wait for it.

use std::time::Duration;
use tokio::process::Command;

/// The service manager answers within milliseconds, also where everything stops at once within a second; without an answer
/// nothing is known.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// Whether netd is a service of systemd, and systemd is shutting the machine down.
pub(super) async fn goes_down() -> bool {
    let mut ask = Command::new("systemctl");
    ask.arg("is-system-running");
    std::env::var_os("NOTIFY_SOCKET").is_some() && says_so(ask, ANSWER_MAX).await
}

async fn says_so(mut ask: Command, at_most: Duration) -> bool {
    match tokio::time::timeout(at_most, ask.kill_on_drop(true).output()).await {
        Ok(Ok(said)) => said.stdout.trim_ascii() == b"stopping",
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_goes_down_only_where_the_service_manager_says_so() {
        let saying = |text: &str| {
            let mut ask = Command::new("sh");
            ask.args(["-c", text]);
            ask
        };
        let (soon, late) = (Duration::from_millis(10), Duration::from_secs(60));
        assert!(says_so(saying("echo stopping; exit 1"), late).await);
        assert!(!says_so(saying("echo running"), late).await);
        assert!(!says_so(saying("exec sleep 60"), soon).await);
        assert!(!says_so(Command::new("/nowhere/systemctl"), late).await);
    }
}
