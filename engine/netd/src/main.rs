//! The program: reads the command line, does it, and decides the exit code.

use netd::cli::{Cli, complain};
use std::process::ExitCode;

/// A pass builds and drops hundreds of thousands of small values on changing threads; the C library's allocator keeps
/// their memory in an arena for each thread, and grows with every pass of a large file.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    netd::commands::run(Cli::read()).unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}
