//! netd dies at any moment and starts again: the node becomes what it would have become, and traffic does not notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::backend_v4;
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::dice::Dice;
use netd_integration_tests::restless::{self, Restless};
use netd_integration_tests::{Bed, Lab};
use std::time::Duration;

const RANDOM_KILLS: usize = 40;

/// Deaths tried per plan; all there are with NETD_LONG=1.
const SAMPLES: usize = 40;

#[test]
fn p1_a_daemon_killed_at_random_moments_converges_and_traffic_does_not_notice() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let (mut desired, mut dice) = (Restless::new(7), Dice::new(11));
    bed.write(&desired.text());
    bed.start_ok().kill();
    let flows = restless::flows(&bed);
    for _ in 0..RANDOM_KILLS {
        desired.step();
        bed.write(&desired.text());
        let netd = bed.spawn();
        std::thread::sleep(Duration::from_millis(5 + dice.below(250)));
        desired.step();
        bed.write(&desired.text());
        std::thread::sleep(Duration::from_millis(dice.below(100)));
        netd.kill();
    }
    let netd = bed.start_ok();
    assert_eq!(bed.netd(&["plan"]).code, Some(0));
    let found = bed.kernel_state();
    netd.stop();
    restless::assert_whole(flows);
    // What a node that never died would hold.
    assert_eq!(bed.netd(&["teardown", "--yes", "--state"]).code, Some(0));
    bed.apply();
    assert_eq!(bed.kernel_state(), found);
}

/// What a plan starts from, what it leads to, and how to get back.
struct Death<'a> {
    bed: &'a Bed,
    before: Option<String>,
    after: String,
}

impl Death<'_> {
    fn prepare(&self) {
        match &self.before {
            Some(text) => self.bed.write(text),
            None => {
                let said = self.bed.netd(&["teardown", "--yes", "--state"]);
                assert_eq!(said.code, Some(0), "{said:?}");
            }
        }
        if self.before.is_some() {
            self.bed.apply();
        }
        self.bed.write(&self.after);
    }

    /// The state that an undisturbed run leads to, and how many calls its busiest thread makes.
    fn undisturbed(&self) -> (String, usize) {
        self.prepare();
        let (said, trace) = self.bed.traced(&["apply"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        (self.bed.kernel_state(), trace.longest())
    }

    /// Dies at each of these calls in turn, starts again, and compares.
    fn at_every_call(&self) {
        let (expected, calls) = self.undisturbed();
        let step = if std::env::var_os("NETD_LONG").is_some() { 1 } else { calls.div_ceil(SAMPLES) };
        let mut deaths = 0;
        for n in (1..=calls).step_by(step.max(1)) {
            self.prepare();
            let (died, trace) = self.bed.killed_at(n, &["apply"]);
            deaths += usize::from(died);
            self.converges(&format!("death at call {n} of {calls}"), &expected, trace.calls.last());
        }
        eprintln!("{deaths} deaths at {calls} calls");
        assert!(deaths >= calls.min(SAMPLES) / 2, "only {deaths} deaths");
    }

    fn converges(&self, what: &str, expected: &str, last: Option<&String>) {
        let said = self.bed.netd(&["apply"]);
        assert_eq!(said.code, Some(0), "{what}, {last:?}: {said:?}");
        let plan = self.bed.netd(&["plan"]);
        assert_eq!(plan.code, Some(0), "{what}, {last:?}: {plan:?}");
        assert_eq!(self.bed.kernel_state(), expected, "{what}, {last:?}");
    }
}

/// Two services that the plans change, between two that they do not, and another node's pods.
fn world(changing: &[Service]) -> String {
    let nodes = format!(
        "\n[[nodes]]\nname = \"lb\"\naddresses = [\"10.0.0.254\"]\npod_cidrs = [\"10.244.1.0/24\"]\n\n[[nodes]]\nname = \"far\"\n\
         addresses = [\"{}\", \"fd00::1\"]\npod_cidrs = [\"10.244.2.0/24\", \"fd00:244:2::/64\"]\n",
        backend_v4(1)
    );
    let steady = [10, 11].map(|vip| {
        Service::new(&format!("steady-{vip}"), vip).port("udp", 53, 53).backend(1).backend(2).backend(3)
    });
    file(&steady.into_iter().chain(changing.iter().cloned()).collect::<Vec<_>>()) + &nodes
}

fn changing() -> [Service; 2] {
    let web = Service::new("web", 20).port("tcp", 80, 8080).backend(1).backend(2);
    let mail = Service::new("mail", 21).port("tcp", 25, 25).backend(3);
    [web, mail]
}

#[test]
fn p1_a_bring_up_killed_at_every_call_is_completed_by_the_next_run() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    Death { bed: &bed, before: None, after: world(&changing()) }.at_every_call();
}

#[test]
fn p1_a_change_killed_at_every_call_is_completed_by_the_next_run() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let [web, _] = changing();
    let more = Service::new("more", 22).port("tcp", 80, 80).backend(2);
    let after = world(&[web.backend_with(3, "weight = 7"), more]);
    let death = Death { bed: &bed, before: Some(world(&changing())), after };
    death.prepare();
    let flows = restless::flows(&bed);
    death.at_every_call();
    restless::assert_whole(flows);
}

#[test]
fn p1_a_removal_killed_at_every_call_is_completed_by_the_next_run() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let bare = world(&[]);
    let after = bare[..bare.find("[[nodes]]").unwrap()].to_owned();
    let death = Death { bed: &bed, before: Some(world(&changing())), after };
    death.prepare();
    let flows = restless::flows(&bed);
    death.at_every_call();
    restless::assert_whole(flows);
}

#[test]
fn p4_two_deaths_in_a_row_are_no_worse_than_one() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let death = Death { bed: &bed, before: None, after: world(&changing()) };
    let (expected, calls) = death.undisturbed();
    let mut dice = Dice::new(3);
    for _ in 0..10 {
        death.prepare();
        let at = [0; 2].map(|_| 1 + dice.below(calls as u64) as usize);
        let mut last = None;
        for n in at {
            last = bed.killed_at(n, &["apply"]).1.calls.pop();
        }
        death.converges(&format!("deaths at calls {at:?}"), &expected, last.as_ref());
    }
}
