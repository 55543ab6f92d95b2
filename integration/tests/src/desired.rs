//! Desired files for beds: services whose backends are a bed's machines.

use crate::bed::{backend_v4, backend_v6, vips};
use std::fmt::Write as _;
use std::net::IpAddr;

/// One of `[[services]]`.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    vips: Vec<IpAddr>,
    ports: Vec<String>,
    backends: Vec<String>,
    keys: Vec<String>,
}

impl Service {
    /// A service with the VIPs of this number in both families, no ports, no backends.
    #[must_use]
    pub fn new(name: &str, vip: u8) -> Self {
        let (ports, backends, keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), vips: vips(vip).into(), ports, backends, keys }
    }

    /// With one more port, `tcp` or `udp`, and the port that backends see.
    #[must_use]
    pub fn port(mut self, protocol: &str, port: u16, backend_port: u16) -> Self {
        self.ports
            .push(format!("{{ protocol = \"{protocol}\", port = {port}, backend_port = {backend_port} }}"));
        self
    }

    /// With this machine of the bed, by both addresses.
    #[must_use]
    pub fn backend(self, number: usize) -> Self {
        self.backend_with(number, "")
    }

    /// As [`Service::backend`], with more keys: `weight = 7`.
    #[must_use]
    pub fn backend_with(mut self, number: usize, keys: &str) -> Self {
        for address in [IpAddr::from(backend_v4(number)), IpAddr::from(backend_v6(number))] {
            let rest = if keys.is_empty() { String::new() } else { format!(", {keys}") };
            self.backends.push(format!("{{ address = \"{address}\"{rest} }}"));
        }
        self
    }

    /// With this line: `affinity = "3h"`.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.keys.push(line.to_owned());
        self
    }

    fn write(&self, text: &mut String) {
        let vips: Vec<String> = self.vips.iter().map(|vip| format!("\"{vip}\"")).collect();
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "\n[[services]]\nname = \"{}\"\nvips = [{}]\nports = [{}]\nbackends = [\n  {}\n]\n",
            self.name,
            vips.join(", "),
            self.ports.join(", "),
            self.backends.join(",\n  ")
        );
        for line in &self.keys {
            let _ = writeln!(text, "{line}");
        }
    }
}

/// A file with these services, balanced on eth0.
#[must_use]
pub fn file(services: &[Service]) -> String {
    file_with("devices = [\"eth0\"]", services)
}

/// A file with these lines under `[load_balancer]`.
#[must_use]
pub fn file_with(load_balancer: &str, services: &[Service]) -> String {
    let mut text = format!("version = 1\n\n[load_balancer]\n{load_balancer}\n");
    for service in services {
        service.write(&mut text);
    }
    text
}
