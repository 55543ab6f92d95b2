//! netd dies at any moment and starts again: the node becomes what it would have become, and traffic does not notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd_integration_tests::bed::{TUNNEL_V4, TUNNEL_V6, backend_v4, backend_v6};
use netd_integration_tests::desired::{Service, file};
use netd_integration_tests::dice::Dice;
use netd_integration_tests::restless::{self, Restless};
use netd_integration_tests::{Bed, Lab};
use std::time::Duration;

const RANDOM_KILLS: usize = 40;

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

/// A call by its name and number, as strace counts.
type Moment = (String, usize);

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

    /// The state that an undisturbed run leads to, and the calls by which it changes anything.
    fn undisturbed(&self) -> (String, Vec<Moment>) {
        self.prepare();
        let (said, trace) = self.bed.traced(&["apply"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        (self.bed.kernel_state(), trace.moments(self.bed).into_iter().collect())
    }

    /// Dies at each of these calls in turn, starts again, and compares.
    fn at_every_call(&self) {
        let (expected, moments) = self.undisturbed();
        let mut deaths = 0;
        for moment in &moments {
            self.prepare();
            deaths += usize::from(self.bed.killed_at(moment, &["apply"]));
            self.converges(&format!("death at {moment:?}"), &expected);
        }
        eprintln!("{deaths} deaths at {} calls", moments.len());
        // Which thread of several makes a call is not the same in every run.
        assert!(deaths * 3 > moments.len() * 2, "only {deaths} deaths at {} calls", moments.len());
    }

    fn converges(&self, what: &str, expected: &str) {
        let said = self.bed.netd(&["apply"]);
        assert_eq!(said.code, Some(0), "{what}: {said:?}");
        let plan = self.bed.netd(&["plan"]);
        assert_eq!(plan.code, Some(0), "{what}: {plan:?}");
        assert_eq!(self.bed.kernel_state(), expected, "{what}");
    }
}

/// Services that plans change beside two that they do not, and the pods of other nodes.
fn world(changing: &[Service], others: std::ops::RangeInclusive<usize>) -> String {
    let steady = [10, 11].map(|vip| {
        Service::new(&format!("steady-{vip}"), vip).port("udp", 53, 53).backend(1).backend(2).backend(3)
    });
    let services: Vec<Service> = steady.into_iter().chain(changing.iter().cloned()).collect();
    let node = |name: &str, v4: &str, v6: &str, pods: usize| {
        format!(
            "\n[[nodes]]\nname = \"{name}\"\naddresses = [\"{v4}\", \"{v6}\"]\n\
             pod_cidrs = [\"10.244.{pods}.0/24\", \"fd00:244:{pods}::/64\"]\n"
        )
    };
    let mut text = file(&services) + &node("lb", TUNNEL_V4, TUNNEL_V6, 100);
    for n in others {
        text += &node(&format!("n{n}"), &backend_v4(n).to_string(), &backend_v6(n).to_string(), n);
    }
    text
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
    Death { bed: &bed, before: None, after: world(&changing(), 1..=2) }.at_every_call();
}

#[test]
fn p1_a_change_killed_at_every_call_is_completed_by_the_next_run() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let _servers = restless::servers(&bed);
    let [web, _] = changing();
    let more = Service::new("more", 22).port("tcp", 80, 80).backend(2);
    let after = world(&[web.backend_with(3, "weight = 7"), more], 1..=3);
    let death = Death { bed: &bed, before: Some(world(&changing(), 1..=2)), after };
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
    let death = Death { bed: &bed, before: Some(world(&changing(), 1..=2)), after: world(&[], 1..=1) };
    death.prepare();
    let flows = restless::flows(&bed);
    death.at_every_call();
    restless::assert_whole(flows);
}

#[test]
fn p4_two_deaths_in_a_row_are_no_worse_than_one() {
    let Some(lab) = Lab::new() else { return };
    let bed = Bed::new(&lab, 3);
    let death = Death { bed: &bed, before: None, after: world(&changing(), 1..=2) };
    let (expected, moments) = death.undisturbed();
    let mut dice = Dice::new(3);
    for _ in 0..10 {
        death.prepare();
        let at = [0; 2].map(|_| &moments[dice.below(moments.len() as u64) as usize]);
        for moment in at {
            bed.killed_at(moment, &["apply"]);
        }
        death.converges(&format!("deaths at {at:?}"), &expected);
    }
}
