//! Whether the machine goes down with netd: then nobody has to wait for it.

use std::time::Duration;
use tokio::process::Command;

/// The service manager answers within milliseconds; nothing is known without an answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Whether netd is a service of systemd, and systemd is shutting the machine down.
pub(super) async fn goes_down() -> bool {
    let mut ask = Command::new("systemctl");
    ask.arg("is-system-running");
    std::env::var_os("NOTIFY_SOCKET").is_some() && says_so(ask).await
}

async fn says_so(mut ask: Command) -> bool {
    match tokio::time::timeout(ANSWER_MAX, ask.kill_on_drop(true).output()).await {
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
        assert!(says_so(saying("echo stopping; exit 1")).await);
        assert!(!says_so(saying("echo running")).await);
        assert!(!says_so(saying("exec sleep 60")).await);
        assert!(!says_so(Command::new("/nowhere/systemctl")).await);
    }
}
