//! Two machines that speak to each other: what their sessions live through.

use netd_lab::{Lab, Namespace};
use netd_wireguard::{
    Access as _, Change, Device, Kernel, PeerChange, Presence, PrivateKey, PublicKey, Settings,
};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Set where the clock is nobody else's.
const MAY_SET_CLOCK: &str = "NETD_MAY_SET_CLOCK";

const HOUR: i64 = 3_600;

/// Longer than anything takes that has to happen, in an emulator, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// An end: its machine, and its key.
struct End {
    machine: Namespace,
    key: PublicKey,
    number: u8,
}

impl End {
    fn new(lab: &Lab, number: u8) -> Self {
        let machine = lab.namespace(&format!("wg{number}"));
        machine.ip(&["link", "add", "wg0", "type", "wireguard"]);
        let private = PrivateKey::generate();
        let key = private.public();
        let end = Self { machine, key, number };
        end.change(Change { private_key: Some(private), port: Some(51_871), ..Change::default() });
        end
    }

    fn inner(&self) -> String {
        format!("10.1.0.{}", self.number)
    }

    fn change(&self, change: Change) {
        self.machine.run(|| Kernel::open().unwrap().change("wg0", &change)).unwrap();
    }

    fn read(&self) -> Device {
        self.machine.run(|| Kernel::open().unwrap().read("wg0")).unwrap()
    }

    /// Has it know the other one, anew if it did before.
    fn know(&self, other: &Self, endpoint: &str) {
        let settings = Settings {
            endpoint: Some(endpoint.parse().unwrap()),
            allowed_ips: vec![format!("{}/32", other.inner()).parse().unwrap()],
            ..Settings::of(Presence::New)
        };
        let peers = vec![PeerChange::Remove(other.key), PeerChange::Set(other.key, settings)];
        self.change(Change { peers, ..Change::default() });
    }

    /// Whether something that is said comes to the other one, said again and again so long.
    fn is_heard_by(&self, other: &Self, patience: Duration) -> bool {
        let ear = other.machine.run(|| UdpSocket::bind((other.inner(), 7)).unwrap());
        ear.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mouth = self.machine.run(|| UdpSocket::bind((self.inner(), 0)).unwrap());
        let until = Instant::now() + patience;
        while Instant::now() < until {
            // Without a session it is said in vain.
            let _ = mouth.send_to(b"something", (other.inner(), 7));
            if ear.recv(&mut [0; 16]).is_ok() {
                return true;
            }
        }
        false
    }

    fn last_handshake(&self, other: &Self) -> Option<Duration> {
        self.read().peers[&other.key].last_handshake
    }
}

/// Two that are on one link and know each other.
fn pair() -> Option<[End; 2]> {
    let lab = Lab::new()?;
    crate::device()?;
    let ends = [1, 2].map(|number| End::new(&lab, number));
    let [one, two] = &ends;
    one.machine.veth("eth0", &two.machine, "eth0");
    for end in &ends {
        for address in ["10.0.0", "10.0.9"] {
            end.machine.ip(&["addr", "add", &format!("{address}.{}/24", end.number), "dev", "eth0"]);
        }
        end.machine.ip(&["addr", "add", &format!("{}/24", end.inner()), "dev", "wg0"]);
        end.machine.ip(&["link", "set", "wg0", "up"]);
    }
    one.know(two, "10.0.0.2:51871");
    two.know(one, "10.0.0.1:51871");
    assert!(one.is_heard_by(two, PATIENCE) && two.is_heard_by(one, PATIENCE));
    Some(ends)
}

#[test]
fn w3_a_peer_that_is_sent_to_at_another_address_keeps_its_session() {
    let Some([one, two]) = pair() else { return };
    let before = one.last_handshake(&two).unwrap();
    let settings =
        Settings { endpoint: Some("10.0.9.2:51871".parse().unwrap()), ..Settings::of(Presence::Existing) };
    one.change(Change { peers: vec![PeerChange::Set(two.key, settings)], ..Change::default() });
    assert!(one.is_heard_by(&two, PATIENCE));
    let after = one.last_handshake(&two).unwrap();
    // A session is renewed after two minutes anyway.
    assert!(after == before || after >= before + Duration::from_secs(120), "{before:?} and {after:?}");
}

/// The clock, put back by an hour until this is dropped.
struct PutBack;

impl PutBack {
    fn now() -> Self {
        Self::put(-HOUR);
        Self
    }

    fn put(seconds: i64) {
        let now = clock_gettime(ClockId::Realtime);
        clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + seconds, ..now }).unwrap();
    }
}

impl Drop for PutBack {
    fn drop(&mut self) {
        Self::put(HOUR);
    }
}

#[test]
fn w11_one_whose_clock_was_put_back_begins_no_session_and_the_others_do() {
    let Some([one, two]) = pair() else { return };
    if std::env::var_os(MAY_SET_CLOCK).is_none() {
        eprintln!("SKIPPED: this machine's clock is not to be put back");
        return;
    }
    let clock = PutBack::now();
    let now = Duration::from_secs(clock_gettime(ClockId::Realtime).tv_sec.unsigned_abs());
    assert!(two.last_handshake(&one).unwrap() > now, "the last handshake seems to be yet to come");
    one.know(&two, "10.0.0.2:51871");
    assert!(!one.is_heard_by(&two, Duration::from_secs(5)), "what it begins looks like an old packet again");
    assert!(two.is_heard_by(&one, PATIENCE), "the other one can begin");
    one.know(&two, "10.0.0.2:51871");
    drop(clock);
    assert!(one.is_heard_by(&two, PATIENCE));
}
