//! The commands, a file each. With a daemon running they ask it; without one they look and act themselves.

mod agree;
mod allocate;
mod apply;
mod backends;
mod bgp;
pub(crate) mod decap;
mod drain;
mod duration;
pub(crate) mod egress;
pub(crate) mod explain;
mod generate;
mod history;
mod import;
pub(crate) mod maglev;
mod nearest;
pub(crate) mod node;
mod plan;
mod rates;
mod record;
mod replace;
mod rollback;
mod services;
mod status;
mod table;
mod teardown;
mod toml_text;
pub(crate) mod traffic;
mod validate;
mod watch;
mod wireguard;

use crate::cli::{Cli, Command, Global};
use crate::daemon;
use crate::log::{self, Level};
use anyhow::Context as _;
use std::future::Future;
use std::process::ExitCode;

/// There are changes: the exit code of `plan`.
const CHANGES: u8 = 2;

/// Does what was asked.
///
/// # Errors
///
/// Why it was not done; printed by the caller, with its causes.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { command, global } = cli;
    // A daemon's log is its voice; a command's own output is.
    let usual = if matches!(command, Command::Run) { Level::Info } else { Level::Warn };
    let _log = log::start(global.log_format, global.log_level.unwrap_or(usual));
    match command {
        Command::Run => wait_for(daemon::run(&agree::absolute(global)?)),
        Command::Plan(args) => wait_for(plan::run(&global, &args)),
        Command::Apply(args) => wait_for(apply::run(&global, &args)),
        Command::Validate(args) => validate::run(&global, &args),
        Command::Schema => generate::schema(),
        Command::ExplainConfig(args) => generate::explain(&args),
        Command::Status(args) => wait_for(status::run(&global, &args)),
        Command::History(args) => wait_for(history::run(&global, &args)),
        Command::Rollback(args) => wait_for(rollback::run(&global, &args)),
        Command::Teardown(args) => wait_for(teardown::run(&global, &args)),
        Command::Services(args) => wait_for(services::run(&global, &args)),
        Command::Backends(args) => wait_for(backends::run(&global, &args)),
        Command::Decap(args) => wait_for(decap::run(&global, &args)),
        Command::Egress(args) => wait_for(egress::run(&global, &args)),
        Command::Drain(args) => wait_for(drain::run(&global, &args)),
        Command::Allocate(args) => wait_for(allocate::run(&global, &args)),
        Command::Explain(args) => wait_for(explain::run(&global, &args)),
        Command::Maglev(args) => wait_for(maglev::run(&global, &args)),
        Command::Record(args) => wait_for(record::run(&global, &args)),
        Command::Records(args) => wait_for(record::list(&global, &args)),
        Command::Bgp(args) => wait_for(bgp::run(&global, &args)),
        Command::Wireguard(args) => wait_for(wireguard::run(&global, &args)),
        Command::Import(args) => import::run(&args),
        Command::Demo => crate::demo::run().map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}

fn wait_for(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The loop itself, and a pass beside it, also on a machine of one core.
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4))
        .enable_all()
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(work);
    // A read that hangs in a network file system must not keep the program from ending.
    runtime.shutdown_background();
    done
}

/// The instance that was named, with its places.
pub(crate) fn instance_of(global: &Global) -> crate::instance::Instance {
    let Global { instance, state_dir, bpf_dir, .. } = global;
    crate::instance::Instance::new(instance.clone(), state_dir.clone(), bpf_dir.clone())
}

/// 0 if it is so, else 1.
fn success_if(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
