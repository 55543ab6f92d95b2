//! What a person can type: the commands, their options, their help.

mod args;
mod global;
mod terminal;

pub use args::{
    AllocateArgs, ApplyArgs, BackendsArgs, BgpArgs, BgpCommand, CiliumEgressArgs, CompletionsArgs, DecapArgs,
    Direction, DrainArgs, EgressArgs, ExplainArgs, HistoryArgs, HistoryCommand, ImportArgs, ImportCommand,
    MaglevArgs, ManArgs, OfPolicy, PacketArgs, PlanArgs, PubkeyArgs, RecordArgs, RecordsArgs, RollbackArgs,
    ServicesArgs, StatusArgs, TeardownArgs, ValidateArgs, WatchArgs, WireguardArgs, WireguardCommand,
};
pub use global::{Color, Global};
pub use terminal::{complain, confirm, say};

use clap::parser::ValueSource;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Puts one TOML file in force on this node: load-balanced services, routes and what they need.
///
/// `netd run` watches the file and keeps the node as it says. `netd plan` shows what would change and changes
/// nothing. With a daemon running the other commands ask it; without one they look for themselves.
#[derive(Debug, Parser)]
#[command(name = "netd", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command knows.
    #[command(flatten)]
    pub global: Global,
}

impl Cli {
    /// Reads the command line. Help, the version and complaints are printed here, and end the process.
    #[must_use]
    pub fn read() -> Self {
        let matches = command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        cli.global.is_config_given = matches.value_source("config") == Some(ValueSource::CommandLine);
        cli
    }
}

/// The options of every command that the help of each of them shows; the rest is in that of `netd`.
const SHOWN_EVERYWHERE: [&str; 2] = ["config", "instance"];

/// The commands as their help shows them.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let is_hidden =
        |option: &&Arg| option.is_global_set() && !SHOWN_EVERYWHERE.contains(&option.get_id().as_str());
    let hidden: Vec<Arg> =
        command.get_arguments().filter(is_hidden).map(|option| option.clone().hide(true)).collect();
    let pointer = "The other options of every command are in `netd --help`.";
    command.mut_subcommands(|command| {
        let command = command.mut_subcommands(|below| flowing(below).after_help(pointer));
        flowing(command).args(hidden.clone()).after_help(pointer)
    })
}

/// The help of a command, whose lines end where the source's do, with each paragraph as one line: a terminal that is
/// narrower than the source would break each line twice.
fn flowing(command: clap::Command) -> clap::Command {
    match command.get_long_about().map(|about| joined(&about.to_string())) {
        Some(about) => command.long_about(about),
        None => command,
    }
}

/// Joins the lines of paragraphs; what is indented keeps its lines.
fn joined(text: &str) -> String {
    let mut joined = String::new();
    let mut before = "";
    for line in text.lines() {
        let goes_on = !before.is_empty() && !line.is_empty() && !line.starts_with(' ');
        if !joined.is_empty() {
            joined.push(if goes_on { ' ' } else { '\n' });
        }
        joined.push_str(line);
        before = line;
    }
    joined
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the node as the file says, until told to stop.
    ///
    /// Watches the file and the kernel, serves the API on the unix socket of the instance, and speaks systemd's notify
    /// protocol. Nothing is reloaded by signal: write the file. Stopping leaves everything in place, and traffic flows on.
    ///
    /// Examples:
    ///   netd run
    ///   netd run --config ./desired.toml --instance lab --log-format json
    #[command(verbatim_doc_comment)]
    Run,
    /// Show what would change, and change nothing.
    ///
    /// Reads the file and the node anew. Exits with 0 if there is nothing to do, 2 if there are changes, 1 on an error or
    /// if part of the node could not be read. With a daemon running --config can only name its file; any other file is
    /// planned by `netd plan FILE`.
    ///
    /// Examples:
    ///   netd plan
    ///   netd plan next.toml
    ///   netd plan --json | jq '.plan.steps[].key'
    #[command(verbatim_doc_comment)]
    Plan(PlanArgs),
    /// Put the file in force once.
    ///
    /// Asks the daemon for a pass, or makes one itself. A plan that would delete a large part of a kind, or all of it,
    /// is held back until it is allowed by the identifier that `plan` and `status` show. Exits with 0 if the node is as the
    /// file says afterwards, else with 1.
    ///
    /// Examples:
    ///   netd apply
    ///   netd apply --allow 4f1d2a90c3b7e655
    #[command(verbatim_doc_comment)]
    Apply(ApplyArgs),
    /// Check files for mistakes, all of them at once.
    ///
    /// Needs no rights and no daemon. Exits with 0 if every file is acceptable, else with 1.
    ///
    /// Examples:
    ///   netd validate desired.toml
    ///   netd validate --json *.toml
    #[command(verbatim_doc_comment)]
    Validate(ValidateArgs),
    /// Print the JSON Schema of the desired file.
    ///
    /// Editors check and complete a file that starts with `#:schema desired.schema.json`.
    ///
    /// Examples:
    ///   netd schema > desired.schema.json
    #[command(verbatim_doc_comment)]
    Schema,
    /// Explain a key of the desired file, or list all.
    ///
    /// Examples:
    ///   netd explain-config
    ///   netd explain-config services.backends.weight
    #[command(verbatim_doc_comment)]
    ExplainConfig(ExplainArgs),
    /// Show how the node stands against its file.
    ///
    /// Exits with 0 if it is as the file says, else with 1.
    ///
    /// Examples:
    ///   netd status
    ///   netd status --wait 30s
    ///   netd status --json | jq .word
    #[command(verbatim_doc_comment)]
    Status(StatusArgs),
    /// List the files that were in force, show one, or compare.
    ///
    /// Examples:
    ///   netd history
    ///   netd history show 7 > earlier.toml
    ///   netd history diff 7
    ///   netd history --json | jq '.[] | select(.in_force).number'
    #[command(verbatim_doc_comment)]
    History(HistoryArgs),
    /// Put an earlier file back in place.
    ///
    /// Replaces the desired file by the text that had this number in the history, after showing the plan. The daemon
    /// then takes it like any other change of the file.
    ///
    /// Examples:
    ///   netd rollback 7
    ///   netd rollback 7 --yes
    ///   netd rollback 7 --yes --allow 4f1d2a90c3b7e655
    #[command(verbatim_doc_comment)]
    Rollback(RollbackArgs),
    /// Remove everything that netd made on this node.
    ///
    /// Walks the kinds backwards: what announces goes before what carries. What is not netd's is not touched. A running
    /// daemon does it, and then rests until `netd apply` or its next start.
    ///
    /// Examples:
    ///   netd teardown
    ///   netd teardown --yes --state
    #[command(verbatim_doc_comment)]
    Teardown(TeardownArgs),
    /// Show what went through each service: packets, bytes, what was dropped and why.
    ///
    /// With a name: that service, with its backends. The services are in the order of the file. Bytes are those of the
    /// clients' packets, without the tunnel's header.
    ///
    /// Examples:
    ///   netd services
    ///   netd services web --watch
    ///   netd services --json | jq '.[] | {service, packets}'
    #[command(verbatim_doc_comment)]
    Services(ServicesArgs),
    /// Show what went to each backend: packets, bytes, and its share.
    ///
    /// Examples:
    ///   netd backends
    ///   netd backends web --watch 5
    ///   netd backends --json | jq '.[] | select(.state != "active")'
    #[command(verbatim_doc_comment)]
    Backends(BackendsArgs),
    /// Show what was taken out of tunnels on this node, and what was not.
    ///
    /// On a node with `[decap]`, the backend's side: packets and bytes since the program was loaded, and why others were left
    /// in their tunnel or dropped.
    ///
    /// Examples:
    ///   netd decap
    ///   netd decap --json | jq .strangers
    #[command(verbatim_doc_comment)]
    Decap(DecapArgs),
    /// Show the egress policies: which gateway has each, where its addresses are, and how many of their ports are in use.
    ///
    /// On any node. With a name: all about that policy, why that gateway, and what this node does with its packets. Flows
    /// and ports are those of this node, where it is the gateway; the share is of the ports that may be given away for one
    /// remote, at the remote for which most are in use.
    ///
    /// Examples:
    ///   netd egress
    ///   netd egress legacy-db
    ///   netd egress --json | jq '.policies[] | {name, gateway}'
    #[command(verbatim_doc_comment)]
    Egress(EgressArgs),
    /// Take a backend out of service gently: it keeps the flows that it has and gets no new ones.
    ///
    /// Writes `state = "terminating"` into the desired file, and leaves everything else in it as it is. Shows the
    /// difference first; a file that somebody else changes meanwhile is left alone. With a daemon running it waits until
    /// the change is in force and says how many flows remain. A backend of a set that several services share is drained in
    /// all of them, if that is confirmed. Exits with 0 if the file says so, a daemon has it in force and, with --wait, no
    /// flow remains; else with 1.
    ///
    /// Examples:
    ///   netd drain web 10.1.0.2
    ///   netd drain web 10.1.0.2:80 --wait 10m
    ///   netd drain web 10.1.0.2 --undo
    #[command(verbatim_doc_comment)]
    Drain(DrainArgs),
    /// Show which service and egress policy has which address, and how the pools are used.
    ///
    /// Of each address it says where it comes from: the file names it (requested), the service had it (kept), it was the
    /// lowest that was free (chosen), or services with the same `share` have it (shared). With --write the addresses are
    /// written into the file, as `vips` of services and `ips` of policies, and everything else in it stays as it is:
    /// every node that reads it then has the same, whatever was there before. The difference is shown first.
    ///
    /// Examples:
    ///   netd allocate
    ///   netd allocate --json | jq '.pools[] | {name, free: .ipv4.free}'
    ///   netd allocate --write
    #[command(verbatim_doc_comment)]
    Allocate(AllocateArgs),
    /// Say what becomes of a packet, and why: the load balancer, egress policies, masquerading.
    ///
    /// Runs the load balancer's program on the packet, and explains each step from the maps. The packet goes nowhere, and leaves
    /// no record of a flow, but the counters count it like any other. Of a packet that no service takes, the maps of the
    /// programs that translate say what becomes of it. With --offline the file alone answers.
    ///
    /// Examples:
    ///   netd explain "tcp 198.51.100.7:4242 > 192.0.2.10:80"
    ///   netd explain "udp 198.51.100.7:4242 > 192.0.2.53:53" --json
    ///   netd explain "tcp 10.244.0.5:4242 > 192.168.33.13:443"     a pod's, on its way out
    ///   netd explain --offline --config next.toml "tcp 198.51.100.7:4242 > 192.0.2.10:80 ack"
    #[command(verbatim_doc_comment)]
    Explain(PacketArgs),
    /// Show how a service's Maglev table shares out its flows.
    ///
    /// For each frontend its size, seed and SHA-256 digest, the slots of each backend, and how many slots of the others
    /// move when a backend goes. Shows what is in force, and where that differs from the file; with --offline what the
    /// file asks for. Balancers whose digests are the same choose the same backends.
    ///
    /// Examples:
    ///   netd maglev web
    ///   netd maglev web 192.0.2.10:80/tcp --json | jq '.frontends[].sha256'
    ///   netd maglev web --offline --config next.toml
    #[command(verbatim_doc_comment)]
    Maglev(MaglevArgs),
    /// Write packets of the load balancer to a file, as they come in and as they leave.
    ///
    /// Asks the daemon to record what matches any of the filters, at the XDP program: with tunnel headers and rewritten
    /// ports, what came in and what left with the same packet id, with the service, the backend, or why it was dropped in a
    /// comment. While nothing is recorded the load balancer pays nothing. Ends by its limits or Ctrl-C; the filters of
    /// Hubble's record command are accepted. Needs the rights of whoever may change the node.
    ///
    /// Examples:
    ///   netd record "10.0.0.0/8 0 192.0.2.10/32 80 TCP" --duration 30s -o web.pcapng
    ///   netd record "any 0 192.0.2.10 0 ICMP" "any 0 2001:db8::10 0 ICMP" --packets 100
    ///   netd record "any 0 any 0 ANY" -o - | tshark -r -
    #[command(verbatim_doc_comment)]
    Record(RecordArgs),
    /// List what is being recorded, and what was.
    ///
    /// Examples:
    ///   netd records
    ///   netd records --json | jq '.[] | select(.ended == null)'
    #[command(verbatim_doc_comment)]
    Records(RecordsArgs),
    /// Show the BGP sessions of this node, and the routes on them.
    ///
    /// Asks gobgpd itself, so that it also answers without a daemon of netd. Needs the right to use its socket.
    ///
    /// Examples:
    ///   netd bgp peers
    ///   netd bgp routes
    ///   netd bgp routes advertised 10.0.0.1
    ///   netd bgp peers --json | jq '.[] | select(.state != "established")'
    #[command(verbatim_doc_comment)]
    Bgp(BgpArgs),
    /// Show the encryption between nodes, and this node's public key.
    ///
    /// A key is known by its fingerprint: the first 8 characters of the SHA-256 of the public key, in base64. `pubkey`
    /// prints the public key itself, which other nodes need; --write puts it into the file.
    ///
    /// Examples:
    ///   netd wireguard show
    ///   netd wireguard show --json | jq '.peers[] | {node, handshake_age_seconds}'
    ///   netd wireguard pubkey --write
    ///   netd wireguard pubkey --next --write
    #[command(verbatim_doc_comment)]
    Wireguard(WireguardArgs),
    /// Translate another program's configuration into netd's, and print it.
    ///
    /// What has no translation is said in comments. Passwords are not repeated: the result names files for them. Exits with
    /// 0 if netd accepts the result as it is, else with 1.
    ///
    /// Examples:
    ///   netd import cilium-bgp bgp-config.yaml > desired.toml
    ///   netd import cilium-egress policies.yaml --sources legacy=10.244.0.0/16 --gateways legacy=gw-1,gw-2
    ///   kubectl -n kube-system get configmap bgp-config -o yaml | netd import cilium-bgp -
    #[command(verbatim_doc_comment)]
    Import(ImportArgs),
    /// Show netd at work between throw-away network namespaces.
    ///
    /// Makes namespaces for a client, a router, the load balancer and four backends, sends HTTP through them while the file
    /// is edited and netd is killed, checks each of its claims, and leaves nothing behind. Needs root. Exits with 0 if
    /// everything was as it should be, else with 1.
    ///
    /// Examples:
    ///   netd demo
    #[command(verbatim_doc_comment)]
    Demo,
    /// Print the completions of a shell.
    ///
    /// Examples:
    ///   netd completions bash > /usr/share/bash-completion/completions/netd
    #[command(verbatim_doc_comment)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands.
    ///
    /// Examples:
    ///   netd man | man -l -
    ///   netd man --dir /usr/share/man/man8
    #[command(verbatim_doc_comment)]
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn global(arguments: &[&str]) -> Global {
        let matches = command().try_get_matches_from([&["netd", "plan"], arguments].concat()).unwrap();
        Cli::from_arg_matches(&matches).unwrap().global
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
        command().debug_assert();
    }

    #[test]
    fn a_line_of_help_is_broken_where_the_terminal_ends_and_nowhere_else() {
        let text = "Keep it.\n\nOne line\nand its end.\n\nExamples:\n  netd run\n  netd run --config x\n";
        let expected = "Keep it.\n\nOne line and its end.\n\nExamples:\n  netd run\n  netd run --config x";
        assert_eq!(joined(text), expected);
        let run = command().find_subcommand("run").unwrap().get_long_about().unwrap().to_string();
        assert!(run.contains("speaks systemd's notify protocol. Nothing is reloaded"), "{run}");
    }

    #[test]
    fn a_command_that_is_shown_repeats_the_options_that_were_given() {
        assert_eq!(global(&[]).as_given(), "");
        let mut given =
            global(&["--state-dir", "/a b", "--node", "it's", "--config", "x.toml", "--instance", "lab"]);
        given.is_config_given = true;
        assert_eq!(given.as_given(), " --instance lab --config x.toml --node 'it'\\''s' --state-dir '/a b'");
    }
}
