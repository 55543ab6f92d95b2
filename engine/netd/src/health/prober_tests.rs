#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::health::check::{Member, Pace, Question, Target};
use crate::health::verdict::{BackendId, Group};
use std::collections::BTreeSet;
use std::net::IpAddr;
use tokio::net::TcpListener;

const INTERVAL: Duration = Duration::from_millis(20);

fn check(port: u16) -> Check {
    Check {
        target: Target { backend: IpAddr::from([127, 0, 0, 1]), vip: None, gue_port: None, port },
        question: Question::Tcp,
        pace: Pace { interval: INTERVAL, timeout: INTERVAL, rise: 2, fall: 2 },
    }
}

fn group() -> Group {
    Group { service: "web".into(), vip: IpAddr::from([192, 0, 2, 1]) }
}

fn orders(checks: &[(Check, Way)]) -> Arc<Orders> {
    let member = |(check, _): &(Check, Way)| {
        let id = BackendId { address: check.target.backend, port: Some(check.target.port) };
        (id, Member { check: check.clone(), ports: Vec::new() })
    };
    let wanted = Wanted {
        checks: checks.iter().map(|(check, _)| check.clone()).collect(),
        groups: BTreeMap::from([(group(), checks.iter().map(member).collect())]),
    };
    Arc::new(Orders { wanted, ways: checks.iter().cloned().collect() })
}

struct Running {
    board: Arc<Board>,
    orders: watch::Sender<Arc<Orders>>,
    work: JoinHandle<()>,
}

impl Running {
    fn with(checks: &[(Check, Way)]) -> Self {
        let board = Arc::new(Board::default());
        let (orders, receiver) = watch::channel(orders(checks));
        let tunnels = Tunnels::new(|| Err("no program in tests".into()));
        let work = tokio::spawn(run(Arc::clone(&board), receiver, tunnels));
        Self { board, orders, work }
    }

    /// The ports of the unhealthy backends and why, once there are as many as wanted.
    async fn unhealthy(&self, count: usize) -> Vec<(u16, String)> {
        loop {
            let verdicts = self.board.verdicts();
            let found = verdicts.unhealthy.get(&group()).cloned().unwrap_or_default();
            if found.len() == count {
                return found.into_iter().map(|(id, why)| (id.port.unwrap(), why.why)).collect();
            }
            self.board.changed().notified().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// Enough for many rounds on a busy machine.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.unwrap()
}

#[tokio::test]
async fn a_backend_that_stops_listening_is_found_and_so_is_its_return() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (listener.local_addr().unwrap(), other.local_addr().unwrap().port());
    let one = check(address.port());
    let running = Running::with(&[(one, Way::Direct(None)), (check(port), Way::Direct(None))]);
    drop(listener);
    let found = soon(running.unhealthy(1)).await;
    assert_eq!(found, [(address.port(), "connection refused".to_owned())]);
    let _listener = TcpListener::bind(address).await.unwrap();
    assert!(soon(running.unhealthy(0)).await.is_empty());
}

#[tokio::test]
async fn a_backend_without_a_way_is_unhealthy() {
    let running = Running::with(&[(check(1), Way::None("no route to 10.0.0.1".into()))]);
    assert_eq!(soon(running.unhealthy(1)).await, [(1, "no route to 10.0.0.1".to_owned())]);
}

#[tokio::test]
async fn a_check_that_is_not_wanted_any_more_is_not_made() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = check(listener.local_addr().unwrap().port());
    let running = Running::with(&[(check, Way::Direct(None))]);
    soon(listener.accept()).await.unwrap();
    running.orders.send_replace(Arc::default());
    let quiet = async {
        // What was under way when the orders came is the last.
        while tokio::time::timeout(INTERVAL * 10, listener.accept()).await.is_ok() {}
    };
    soon(quiet).await;
}

#[test]
fn checks_are_spread_over_their_interval() {
    let mut slow = check(1);
    slow.pace.interval = Duration::from_secs(10);
    let mut seconds = BTreeSet::new();
    for port in 1..=1000 {
        slow.target.port = port;
        let phase = phase(&slow);
        assert!(phase < slow.pace.interval);
        seconds.insert(phase.as_secs());
    }
    assert_eq!(seconds.len(), 10);
}
