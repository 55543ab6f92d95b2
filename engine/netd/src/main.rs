//! The program: reads the command line, does it, and decides the exit code.

use netd::cli::{Cli, complain};
use std::process::ExitCode;

fn main() -> ExitCode {
    netd::commands::run(Cli::read()).unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}
