//! What gobgpd keeps of a peer for netd without understanding it: its name, and what else it has no place for.

use netd_schema::BgpPeer;
use std::path::PathBuf;

const PASSWORD_FILE: &str = "password_file=";
const EXTENDED_NEXT_HOP: &str = "extended_next_hop";
const BETWEEN: &str = "; ";

/// The label of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// What it is called.
    pub name: String,
    /// Where its password came from.
    pub password_file: Option<PathBuf>,
    /// Whether IPv4 prefixes have IPv6 next hops: gobgpd always offers that.
    pub extended_next_hop: bool,
}

impl Label {
    /// The label of a peer as it is wanted.
    #[must_use]
    pub fn of(spec: &BgpPeer) -> Self {
        Self {
            name: spec.name.clone(),
            password_file: spec.password_file.clone(),
            extended_next_hop: spec.extended_next_hop,
        }
    }

    /// In one line.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.name.clone();
        if let Some(file) = &self.password_file {
            text.push_str(&format!("{BETWEEN}{PASSWORD_FILE}{}", file.display()));
        }
        if self.extended_next_hop {
            text.push_str(&format!("{BETWEEN}{EXTENDED_NEXT_HOP}"));
        }
        text
    }

    /// Reads it back; what is not understood is part of the name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut label = Self::default();
        let mut rest = text;
        while let Some((before, last)) = rest.rsplit_once(BETWEEN) {
            if let Some(file) = last.strip_prefix(PASSWORD_FILE) {
                label.password_file = Some(file.into());
            } else if last == EXTENDED_NEXT_HOP {
                label.extended_next_hop = true;
            } else {
                break;
            }
            rest = before;
        }
        label.name = rest.to_owned();
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_back() {
        for (name, file, extended_next_hop) in
            [("tor-1", None, false), ("10.0.0.1", Some("/etc/netd/a b"), true), ("a; b", Some("/x"), false)]
        {
            let label =
                Label { name: name.into(), password_file: file.map(PathBuf::from), extended_next_hop };
            assert_eq!(Label::parse(&label.text()), label);
        }
    }
}
