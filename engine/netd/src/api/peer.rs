//! Decides what a process on the other end of the socket may do.

use std::fs;

/// The group whose members may read.
pub const GROUP: &str = "netd-admin";

/// The process on the other end, as the kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It changes nothing.
    Read,
    /// It changes the node.
    Write,
}

/// Whether `peer` may, when netd runs as user `own`.
#[must_use]
pub fn may(peer: Peer, verb: Verb, own: u32) -> bool {
    let is_owner = peer.uid == 0 || peer.uid == own;
    match verb {
        Verb::Write => is_owner,
        Verb::Read => is_owner || group().is_some_and(|group| group.has(peer)),
    }
}

/// The group of readers, where this machine has one.
#[must_use]
pub fn group() -> Option<Group> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    parse(&fs::read_to_string("/etc/group").ok()?, &passwd)
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub gid: u32,
    members: Vec<u32>,
}

impl Group {
    fn has(&self, peer: Peer) -> bool {
        peer.gid == self.gid || self.members.contains(&peer.uid)
    }
}

/// Finds the group in the texts of group(5) and passwd(5).
fn parse(groups: &str, users: &str) -> Option<Group> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(GROUP))?;
    let mut fields = line.split(':').skip(2);
    let gid = fields.next()?.parse().ok()?;
    let names: Vec<&str> = fields.next().unwrap_or_default().split(',').collect();
    let uid_of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        names.contains(&name).then(|| fields.nth(1)?.parse().ok())?
    };
    Some(Group { gid, members: users.lines().filter_map(uid_of).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\nnetd-admin:x:990:alice,bob\nother:x:991:eve\n";
    const USERS: &str =
        "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\neve:x:1002:1002::/:/bin/sh\n";

    #[test]
    fn x18_only_the_owner_writes() {
        assert!(may(Peer { uid: 0, gid: 0 }, Verb::Write, 998));
        assert!(may(Peer { uid: 998, gid: 998 }, Verb::Write, 998));
        assert!(!may(Peer { uid: 1000, gid: 998 }, Verb::Write, 998));
    }

    #[test]
    fn x18_members_of_the_group_read_and_others_do_not() {
        let group = parse(GROUPS, USERS);
        let has = |uid, gid| group.as_ref().is_some_and(|group| group.has(Peer { uid, gid }));
        assert!(has(1000, 1000), "a member");
        assert!(has(1003, 990), "by its own group");
        assert!(!has(1002, 1002), "a member of another group");
    }

    #[test]
    fn without_the_group_there_are_no_further_readers() {
        assert_eq!(parse("root:x:0:\nnetd-admins:x:9:eve\n", USERS), None);
    }
}
