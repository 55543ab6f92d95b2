//! What a person can type.

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ipnetwork::IpNetwork;
use netd_kubernetes::{Base, Options, parse_selector, read_dir, render, write};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Makes the file that netd reads from the objects of a Kubernetes cluster, and from a file that people own.
#[derive(Debug, Parser)]
#[command(name = "netd-kubernetes", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the file from objects that were exported, without a cluster.
    Render(RenderArgs),
}

#[derive(Debug, Args)]
struct RenderArgs {
    /// The directory of the objects: YAML and JSON files, as `kubectl get -o yaml` prints them.
    #[arg(long, value_name = "DIR")]
    from_dir: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// Where the file goes; without it, to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What is taken, and what it is added to.
#[derive(Debug, Args)]
struct Choice {
    /// The file that people own: it comes first in the result, as it is, and what it says wins.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Only objects of these namespaces.
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,
    /// Only services with these labels, as in `kubectl -l`: `app=web,tier!=db`.
    #[arg(long, value_name = "LABELS")]
    selector: Option<String>,
    /// The values of `spec.loadBalancerClass` that are netd's; an empty one stands for services without a class.
    #[arg(long, value_name = "CLASS", default_values = [netd_kubernetes::CLASS, ""])]
    class: Vec<String>,
    /// The addresses that services may name. Without it, those that their status has, and no external IPs.
    #[arg(long, value_name = "PREFIX")]
    vips: Vec<IpNetwork>,
    /// Makes VIPs of cluster IPs, too.
    #[arg(long)]
    cluster_ips: bool,
    /// Takes no services.
    #[arg(long)]
    no_services: bool,
    /// Takes no nodes.
    #[arg(long)]
    no_nodes: bool,
}

impl Choice {
    fn options(&self) -> anyhow::Result<Options> {
        let selector = self.selector.as_deref().map(parse_selector).transpose();
        Ok(Options {
            classes: self.class.iter().cloned().collect(),
            selector: selector.map_err(anyhow::Error::msg).context("--selector")?.unwrap_or_default(),
            namespaces: self.namespace.iter().cloned().collect::<BTreeSet<_>>(),
            vips: self.vips.clone(),
            cluster_ips: self.cluster_ips,
            services: !self.no_services,
            nodes: !self.no_nodes,
        })
    }
}

fn read_base(path: Option<&Path>) -> anyhow::Result<Base> {
    let Some(path) = path else { return Ok(Base::none()) };
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("read {name}"))?;
    Ok(Base::read(&name, &text)?)
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// It could not be done; nothing was written then.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.command {
            Command::Render(args) => args.run(),
        }
    }
}

impl RenderArgs {
    fn run(&self) -> anyhow::Result<()> {
        let options = self.choice.options()?;
        let base = read_base(self.choice.base.as_deref())?;
        let rendered = render(&read_dir(&self.from_dir)?, &base, &options)?;
        for note in &rendered.notes {
            eprintln!("{note}");
        }
        match &self.output {
            Some(path) => drop(write(path, &rendered.text)?),
            None => io::stdout().write_all(rendered.text.as_bytes()).context("write to standard output")?,
        }
        Ok(())
    }
}
