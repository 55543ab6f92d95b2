//! What nodes say to each other, in bytes.
//!
//! Big-endian: `NEGW`, version 2, a code for what it is, a code for how its sender stands, the length of its sender's
//! name; the sender's session and time, the receiver's session and time as they were last heard; the sender's rank; in
//! how many milliseconds it will be back; a print of the list of gateways; the number of gateways; the name; and for every
//! gateway, how old the sender's proof is that it lives, its rank, and in how many milliseconds it will be back. With a key, HMAC-SHA256 of all of that follows.

use ring::hmac;

/// So long a message is at most: 64 bytes of head, a name of 63, 64 gateways of 12 bytes, 32 of proof.
pub const BYTES_MAX: usize = 64 + 63 + 64 * 12 + TAG;

const MAGIC: &[u8; 4] = b"NEGW";
const VERSION: u8 = 2;
const TAG: usize = 32;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub purpose: Purpose,
    /// How its sender stands.
    pub state: State,
    /// Who sends it.
    pub from: String,
    /// The sender's session and time.
    pub own: Moment,
    /// The last session and time that the sender has heard of the receiver.
    pub echo: Moment,
    /// The sender's rank.
    pub rank: u32,
    /// In how many milliseconds the sender will be back at the latest, if it goes.
    pub away_ms: u32,
    /// A print of the list of gateways that `ages` go by.
    pub gateways: u64,
    /// What the sender knows of each gateway; `None` of those that it does not hear.
    pub heard: Vec<Option<Heard>>,
}

/// A moment by a node's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Which life of the node's netd; 0 is none.
    pub session: u64,
    /// In microseconds.
    pub at_us: u64,
}

/// What a sender knows of a gateway that it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// How old the proof is that it lives.
    pub age_ms: u32,
    /// Its rank.
    pub rank: u32,
    /// In how many milliseconds it will be back at the latest, if it went and said so; else 0.
    pub away_ms: u32,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It asks for an answer at once.
    Question,
    /// It is one.
    Answer,
}

/// How a sender stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is no gateway, or one that may not have addresses.
    Bystander,
    /// It has just started.
    Starting,
    /// It may have addresses.
    Ready,
    /// It goes, and means to come back; what it has stays meanwhile.
    Away,
}

impl Message {
    /// Its bytes, with a proof if there is a key.
    #[must_use]
    pub fn encode(&self, key: Option<&hmac::Key>) -> Vec<u8> {
        let name = self.from.as_bytes();
        let mut bytes = Vec::with_capacity(BYTES_MAX);
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.push(match self.purpose {
            Purpose::Question => 1,
            Purpose::Answer => 2,
        });
        bytes.push(match self.state {
            State::Bystander => 0,
            State::Starting => 1,
            State::Ready => 2,
            State::Away => 3,
        });
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        for moment in [self.own, self.echo] {
            bytes.extend(moment.session.to_be_bytes());
            bytes.extend(moment.at_us.to_be_bytes());
        }
        bytes.extend(self.rank.to_be_bytes());
        bytes.extend(self.away_ms.to_be_bytes());
        bytes.extend(self.gateways.to_be_bytes());
        bytes.extend(u64::try_from(self.heard.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(name);
        for heard in &self.heard {
            let heard = heard.unwrap_or(Heard { age_ms: u32::MAX, rank: 0, away_ms: 0 });
            bytes.extend(heard.age_ms.to_be_bytes());
            bytes.extend(heard.rank.to_be_bytes());
            bytes.extend(heard.away_ms.to_be_bytes());
        }
        if let Some(key) = key {
            let tag = hmac::sign(key, &bytes);
            bytes.extend(tag.as_ref());
        }
        bytes
    }

    /// Reads bytes; `None` if they are no message, or not proven by the key. Takes time in proportion to the bytes, of
    /// which [`BYTES_MAX`] are looked at.
    #[must_use]
    pub fn decode(bytes: &[u8], key: Option<&hmac::Key>) -> Option<Self> {
        let body = match key {
            _ if bytes.len() > BYTES_MAX => return None,
            None => bytes,
            Some(key) => {
                let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
                hmac::verify(key, body, tag).ok()?;
                body
            }
        };
        let mut rest = body;
        if take::<4>(&mut rest)? != *MAGIC || take::<1>(&mut rest)? != [VERSION] {
            return None;
        }
        let [purpose, state, name_len] = take::<3>(&mut rest)?;
        let purpose = match purpose {
            1 => Purpose::Question,
            2 => Purpose::Answer,
            _ => return None,
        };
        let state = match state {
            0 => State::Bystander,
            1 => State::Starting,
            2 => State::Ready,
            3 => State::Away,
            _ => return None,
        };
        let mut moment = || {
            let session = u64::from_be_bytes(take(&mut rest)?);
            Some(Moment { session, at_us: u64::from_be_bytes(take(&mut rest)?) })
        };
        let (own, echo) = (moment()?, moment()?);
        let rank = u32::from_be_bytes(take(&mut rest)?);
        let away_ms = u32::from_be_bytes(take(&mut rest)?);
        let gateways = u64::from_be_bytes(take(&mut rest)?);
        let count = u64::from_be_bytes(take(&mut rest)?);
        let (name, entries) = rest.split_at_checked(usize::from(name_len))?;
        let from = std::str::from_utf8(name).ok()?.to_owned();
        let (entries, []) = entries.as_chunks::<12>() else { return None };
        if u64::try_from(entries.len()).ok()? != count {
            return None;
        }
        let heard = entries.iter().map(|entry| {
            let mut rest = entry.as_slice();
            let mut number = || take(&mut rest).map(u32::from_be_bytes);
            let (age, rank, away_ms) = (number()?, number()?, number()?);
            (age != u32::MAX).then_some(Heard { age_ms: age, rank, away_ms })
        });
        let heard = heard.collect();
        Some(Self { purpose, state, from, own, echo, rank, away_ms, gateways, heard })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn message() -> Message {
        Message {
            purpose: Purpose::Question,
            state: State::Ready,
            from: "gw-1".into(),
            own: Moment { session: 7, at_us: 1_000_000 },
            echo: Moment { session: 8, at_us: 2_000_000 },
            rank: 3,
            away_ms: 0,
            gateways: 0x1234,
            heard: vec![None, Some(Heard { age_ms: 200, rank: 1, away_ms: 9 })],
        }
    }

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for state in [State::Bystander, State::Starting, State::Ready, State::Away] {
            let message = Message { state, ..message() };
            assert_eq!(Message::decode(&message.encode(None), None).unwrap(), message);
            let key = key(b"a secret of some length");
            assert_eq!(Message::decode(&message.encode(Some(&key)), Some(&key)).unwrap(), message);
        }
    }

    #[test]
    fn the_longest_message_fits() {
        let heard = vec![Some(Heard { age_ms: 1, rank: 2, away_ms: 3 }); netd_schema::WATCHED_MAX];
        let message = Message { from: "n".repeat(63), heard, ..message() };
        let bytes = message.encode(Some(&key(b"secret")));
        assert!(bytes.len() <= BYTES_MAX, "{}", bytes.len());
        assert_eq!(Message::decode(&bytes, Some(&key(b"secret"))).unwrap(), message);
    }

    #[test]
    fn only_who_knows_the_key_is_heard() {
        let key_of_all = key(b"a secret of some length");
        assert_eq!(Message::decode(&message().encode(None), Some(&key_of_all)), None);
        assert_eq!(Message::decode(&message().encode(Some(&key(b"another"))), Some(&key_of_all)), None);
        let mut bytes = message().encode(Some(&key_of_all));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(Message::decode(&bytes, Some(&key_of_all)), None, "byte {at}");
            bytes[at] ^= 1;
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..900), cut in 0_usize..100) {
            let _ = Message::decode(&bytes, None);
            let mut message = message().encode(None);
            message.truncate(cut);
            message.extend(&bytes);
            if let Some(read) = Message::decode(&message, None) {
                prop_assert_eq!(read.encode(None).len(), message.len());
            }
        }
    }
}
