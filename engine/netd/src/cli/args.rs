//! The options of each command.

use crate::recorder::file::Format;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan towards this file; that of --config if not given.
    pub file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Allow the plan with this identifier, and no other, although it is held back.
    #[arg(long, value_name = "PLAN")]
    pub allow: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The files; that of --config if none is given.
    pub files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `explain-config`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The key, with dots: `services.ports`.
    pub key: Option<String>,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// List every resource, not only those that are not ready.
    #[arg(long)]
    pub verbose: bool,
    /// Wait until the node is as the file says, at most this long: `90s`, `5m`.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    pub wait: Option<String>,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `history` shows.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Print the text of an entry.
    Show {
        /// Its number.
        number: u64,
    },
    /// Compare the text of an entry with the desired file.
    Diff {
        /// Its number.
        number: u64,
    },
}

/// Options of `bgp`.
#[derive(Debug, Args)]
pub struct BgpArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: BgpCommand,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `bgp` shows.
#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// List the sessions, a line for each family. Exits with 1 if one of them is not established.
    Peers,
    /// List the routes that are announced; with a direction, those on the sessions.
    Routes {
        /// What was sent to peers, after all policies, or what they sent. Without it, what netd announces.
        direction: Option<Direction>,
        /// The peer's address or name; all of netd's peers if not given.
        peer: Option<String>,
    },
    /// Give up a gobgpd that cannot be asked any more, because its certificates are gone. What netd put there stays.
    Forget {
        /// As the file named it: unix:///PATH, http://ADDRESS:PORT or https://HOST:PORT.
        gobgpd: String,
    },
}

/// A direction of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// To the peer.
    Advertised,
    /// From the peer.
    Received,
}

/// Options of `wireguard`.
#[derive(Debug, Args)]
pub struct WireguardArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WireguardCommand,
}

/// What `wireguard` does.
#[derive(Debug, Subcommand)]
pub enum WireguardCommand {
    /// Show the device and its peers: handshakes, bytes, allowed addresses; fingerprints, and never keys.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print this node's public key. The key is made if there is none yet.
    Pubkey(PubkeyArgs),
}

/// Options of `wireguard pubkey`.
#[derive(Debug, Args)]
pub struct PubkeyArgs {
    /// Write it into the file, and leave everything else in it as it is.
    #[arg(long)]
    pub write: bool,
    /// The key that the node changes to next, which is made if there is none yet.
    #[arg(long)]
    pub next: bool,
    /// With --write: only show the difference.
    #[arg(long, requires = "write")]
    pub dry_run: bool,
    /// The file that gets the key, which everybody may read, instead of standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    pub output: Option<PathBuf>,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// What is translated.
    #[command(subcommand)]
    pub command: ImportCommand,
}

/// What `import` translates.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Cilium 1.10's BGP configuration, that of MetalLB 0.9: the ConfigMap, or the config.yaml in it.
    CiliumBgp {
        /// The file; - is standard input.
        file: PathBuf,
    },
    /// Cilium's egress policies: CiliumEgressNATPolicy of 1.10 and CiliumEgressGatewayPolicy, also several in a file.
    ///
    /// They select pods and nodes by labels, which netd does not know: what these select is said here, by the name of the
    /// policy.
    CiliumEgress(CiliumEgressArgs),
}

/// Options of `import cilium-egress`.
#[derive(Debug, Args)]
pub struct CiliumEgressArgs {
    /// The files; - is standard input.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Prefixes of the pods of a policy.
    #[arg(long, value_name = "NAME=PREFIX,...", value_parser = of_policy)]
    pub sources: Vec<OfPolicy>,
    /// Nodes that may be the gateway of a policy.
    #[arg(long, value_name = "NAME=NODE,...", value_parser = of_policy)]
    pub gateways: Vec<OfPolicy>,
    /// Egress addresses of a policy, where it names a device.
    #[arg(long, value_name = "NAME=ADDRESS,...", value_parser = of_policy)]
    pub ips: Vec<OfPolicy>,
}

/// What is said of a policy: its name, and a list.
pub type OfPolicy = (String, Vec<String>);

fn of_policy(text: &str) -> Result<OfPolicy, String> {
    let (name, list) =
        text.split_once('=').ok_or("must be the name of a policy, `=`, and a list with commas")?;
    let list: Vec<String> = list.split(',').map(|one| one.trim().to_owned()).collect();
    match name.is_empty() || list.iter().any(String::is_empty) {
        true => Err("the name, or one of the list, is empty".to_owned()),
        false => Ok((name.to_owned(), list)),
    }
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The number in the history.
    pub number: u64,
    /// Do not ask. A plan that is held back needs --allow too.
    #[arg(long)]
    pub yes: bool,
    /// Allow the plan with this identifier, and no other, although it is held back.
    #[arg(long, value_name = "PLAN")]
    pub allow: Option<String>,
}

/// Options of `teardown`.
#[derive(Debug, Args)]
pub struct TeardownArgs {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Forget the history and the last good file too; not while a daemon runs.
    #[arg(long)]
    pub state: bool,
}

/// Options of `services`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// Show these services only, with their backends and what was dropped.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// How it is shown.
    #[command(flatten)]
    pub shown: WatchArgs,
}

/// Options of `backends`.
#[derive(Debug, Args)]
pub struct BackendsArgs {
    /// Show the backends of these services only.
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// How it is shown.
    #[command(flatten)]
    pub shown: WatchArgs,
}

/// How counters are shown.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Print JSON; with --watch one line each time.
    #[arg(long)]
    pub json: bool,
    /// Look again every so many seconds, with rates per second: a table that is drawn anew on a terminal, lines elsewhere.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=3600),
    )]
    pub watch: Option<u32>,
}

/// Options of `decap`.
#[derive(Debug, Args)]
pub struct DecapArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The name of the service.
    pub service: String,
    /// The backend: `10.1.0.2`, `10.1.0.2:8080`, `[fd00::2]:80`. An address alone means all its ports.
    #[arg(value_name = "BACKEND")]
    pub backend: String,
    /// Give it new flows again.
    #[arg(long)]
    pub undo: bool,
    /// Wait until its flows have ended, at most this long: `90s`, `5m`.
    #[arg(long, value_name = "DURATION", conflicts_with = "undo")]
    pub wait: Option<String>,
    /// A flow that sent nothing for so long has ended, as far as --wait is concerned.
    #[arg(long, value_name = "DURATION", default_value = "60s", requires = "wait")]
    pub idle: String,
    /// Show what would be changed in the file, and change nothing.
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Do not ask, although other services have the backend too.
    #[arg(long)]
    pub yes: bool,
}

/// Options of `egress`.
#[derive(Debug, Args)]
pub struct EgressArgs {
    /// Show all about these policies only.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `allocate`.
#[derive(Debug, Args)]
pub struct AllocateArgs {
    /// Write the addresses into the file.
    #[arg(long, conflicts_with = "json")]
    pub write: bool,
    /// Show what --write would change in the file, and change nothing.
    #[arg(long, requires = "write")]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `maglev`.
#[derive(Debug, Args)]
pub struct MaglevArgs {
    /// The name of the service.
    pub service: String,
    /// Show this frontend only: `192.0.2.10:80`, or `192.0.2.10:80/tcp` where it has TCP and UDP.
    pub frontend: Option<String>,
    /// Compute the tables from the file alone: without rights, without a daemon, without looking at the node.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// What is wanted: "SOURCE PORTS DESTINATION PORTS PROTOCOL", any of several.
    ///
    /// SOURCE and DESTINATION are prefixes, addresses, or `any`; PORTS is a port, a range such as 8000-8099, or 0 for any;
    /// PROTOCOL is TCP, UDP, ICMP, SCTP or ANY.
    #[arg(required = true, value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Write here; `-` is standard output, for `tshark -r -`. A file that exists is not overwritten.
    ///
    /// Without it, a file in the current directory that is named by the time.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// End after so long: `30s`, `5m`.
    #[arg(long, visible_alias = "time-limit", value_name = "DURATION")]
    pub duration: Option<String>,
    /// End after so many packets; what came in and what left are two.
    #[arg(long, visible_alias = "packet-limit", value_name = "N")]
    pub packets: Option<u64>,
    /// End after so many bytes of packets.
    #[arg(long, visible_alias = "bytes-limit", value_name = "N")]
    pub bytes: Option<u64>,
    /// Keep so many bytes of each packet.
    #[arg(long, visible_alias = "max-capture-len", value_name = "BYTES")]
    pub snaplen: Option<u32>,
    /// The format of the file.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `records`.
#[derive(Debug, Args)]
pub struct RecordsArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct PacketArgs {
    /// The packet: "tcp 198.51.100.7:4242 > 192.0.2.10:80", for TCP with syn (the default), ack, fin or rst behind it.
    ///
    /// Behind it may stand `length 1500`, `no-df`, and `first-fragment` or `later-fragment` with `id 7`.
    /// A ping is "icmp 198.51.100.7 > 192.0.2.10". An ICMP error is "icmp 203.0.113.1 > 192.0.2.10 too-big tcp
    /// 192.0.2.10:80 > 198.51.100.7:4242", with the packet that it is about, or the same with `unreachable` or `expired`.
    #[arg(required = true, value_name = "PACKET")]
    pub packet: Vec<String>,
    /// The device by which the packet comes in; that of the route to its client if not given.
    #[arg(long, value_name = "DEVICE", conflicts_with = "offline")]
    pub device: Option<String>,
    /// Answer from the file alone: without rights, without a daemon, without looking at the node.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
