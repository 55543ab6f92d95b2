//! The program: reads the command line, does it, and decides the exit code.

mod cli;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netd-kubernetes: {error:#}");
            ExitCode::FAILURE
        }
    }
}
