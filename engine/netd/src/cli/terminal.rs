//! What is said on standard output and standard error, and asked on the terminal.

use std::io::{IsTerminal as _, Write as _};

/// Writes to standard output. That nobody reads it any more (`| head`) is no error.
///
/// # Errors
///
/// Every other failure: a full disk behind a redirection.
pub fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says what went wrong, with its causes, on standard error. Mistakes of a file say themselves that they are errors.
pub fn complain(error: &anyhow::Error) {
    let mut text = error.to_string();
    if !text.starts_with("error: ") {
        text.insert_str(0, "error: ");
    }
    for cause in error.chain().skip(1) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text.push('\n');
    // There is nobody left to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Asks a question on the terminal; `false` for anything but yes.
///
/// # Errors
///
/// When there is no terminal to ask on.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("there is no terminal to ask on; say --yes if it is meant");
    }
    say(&format!("{question} [y/N] "))?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}
