//! What the demo shows, chapter by chapter; every claim is checked.

use anyhow::Context as _;
use std::path::Path;
use std::time::Duration;

use super::client::{KEPT_PER_FAMILY, Traffic};
use super::daemon::{Answer, CHANGES, NOTHING_TO_DO, Netd};
use super::edit;
use super::interrupt::Interrupt;
use super::server::Servers;
use super::tally::{Connection, Family, Tally};
use super::terminal::{Story, check};
use super::topology::{self, BALANCER, PICTURE, ROUTER};
use super::world::{World, run};

/// How long traffic is watched after each change.
const WATCH: Duration = Duration::from_secs(3);

/// The backend that is drained.
const DRAINED: &str = "backend-2";

/// The backend that is added.
const ADDED: &str = "backend-4";

/// Tells the whole story.
pub(super) fn tell() -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let mut story = Story::begin();
    let world = World::make()?;
    play(&mut story, &world, &interrupt)?;
    story.claim("nothing is left: no namespace, no mount, no file", world.remove());
    story.end()
}

fn play(story: &mut Story, world: &World, interrupt: &Interrupt) -> anyhow::Result<()> {
    let _servers = Servers::start(world)?;
    let mut stage = Stage { story, world, interrupt, netd: Netd::new(world, interrupt)? };
    stage.the_network()?;
    stage.the_file_in_force()?;
    let traffic = Traffic::start(world)?;
    stage.http_through_the_vips(&traffic)?;
    stage.a_backend_is_added(&traffic)?;
    stage.a_backend_is_drained(&traffic)?;
    stage.netd_is_killed(&traffic)?;
    stage.a_mistake_is_refused(&traffic)?;
    stage.everything_is_taken_down(traffic)
}

/// Everything that a chapter works with.
struct Stage<'a> {
    story: &'a mut Story,
    world: &'a World,
    interrupt: &'a Interrupt,
    netd: Netd<'a>,
}

impl Stage<'_> {
    fn the_network(&mut self) -> anyhow::Result<()> {
        self.story.chapter("Seven network namespaces and one file");
        self.story.say(PICTURE);
        edit::save(&self.netd.file(), edit::FILE)?;
        self.story.command("cat demo.toml");
        self.story.quote(edit::FILE);
        Ok(())
    }

    fn the_file_in_force(&mut self) -> anyhow::Result<()> {
        self.story.chapter("netd puts the file in force");
        let plan = self.show(&["plan"])?;
        self.story.claim("`netd plan` shows what would be done, and does nothing", plan.expect(CHANGES));
        self.story.command("netd run &");
        self.netd.start()?;
        self.in_force("the file")?;
        let status = self.show(&["status"])?;
        self.story.claim("the file is in force", status.expect(0));
        let link = self.balancer_device()?;
        self.story.claim("the XDP program is on eth0", check(link.contains("xdp"), || link.clone()));
        Ok(())
    }

    fn http_through_the_vips(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        self.story.chapter("HTTP through the VIPs");
        self.story.say(&format!(
            "  New connections all the time, and {KEPT_PER_FAMILY} of each family that are kept and used every 50 ms."
        ));
        let seen = self.watch(traffic)?;
        for family in Family::ALL {
            let silent = topology::backends().filter(|name| *name != ADDED).find(|name| {
                let new = seen.answers_of(Connection::New, family, name);
                new == 0
            });
            let answer = silent.map_or(Ok(()), |name| Err(format!("{name} answered nothing")));
            self.story.claim(&format!("every backend in the file answers, {family}"), answer);
        }
        self.nothing_failed(&seen);
        self.outer_headers()
    }

    fn a_backend_is_added(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        self.story.chapter("The file is edited: a fourth backend");
        let before = traffic.begin();
        self.edit(edit::add_fourth_backend)?;
        let seen = self.watch(traffic)?;
        for family in Family::ALL {
            let new = seen.answers_of(Connection::New, family, ADDED);
            let text = format!("{ADDED} gets its part of the new connections, {family}");
            self.story.claim(&text, check(new > 0, || "it got none".into()));
        }
        self.nothing_failed(&Tally::sum(&[traffic.tally(before), seen]));
        Ok(())
    }

    fn a_backend_is_drained(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        self.story.chapter("The file is edited: a backend is drained");
        let before = traffic.begin();
        self.edit(edit::drain_second_backend)?;
        let seen = self.watch(traffic)?;
        let new = seen.of_both(Connection::New, DRAINED);
        let text = format!("{DRAINED} gets no new connection");
        self.story.claim(&text, check(new == 0, || format!("it got {new}")));
        let kept = seen.of_both(Connection::Kept, DRAINED);
        let text = format!("{DRAINED} keeps the connections that it has");
        self.story.claim(&text, check(kept > 0, || "no kept connection was answered by it".into()));
        self.nothing_failed(&Tally::sum(&[traffic.tally(before), seen]));
        Ok(())
    }

    fn netd_is_killed(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        self.story.chapter("netd is killed");
        let before = traffic.begin();
        self.story.command("kill -9 $(pidof netd)");
        self.netd.kill()?;
        let seen = self.watch(traffic)?;
        self.story.claim("traffic goes on without netd", seen.smooth());
        let device = self.balancer_device()?;
        self.story.command("netd run &");
        self.netd.start()?;
        self.netd.wait_until("netd runs again", |netd| Ok(netd.ask(&["status"])?.code == Some(0)))?;
        let plan = self.show(&["plan"])?;
        self.story.claim("the new netd finds nothing to do", plan.expect(NOTHING_TO_DO));
        let applied = self.changes_of_last_pass()?;
        let text = "it made not one change: nothing is applied twice";
        self.story.claim(text, check(applied == 0, || format!("it made {applied}")));
        let same = self.balancer_device()?;
        let changed = || format!("before: {device}after: {same}");
        self.story.claim("the program was not touched", check(device == same, changed));
        self.nothing_failed(&Tally::sum(&[traffic.tally(before), seen]));
        Ok(())
    }

    fn a_mistake_is_refused(&mut self, traffic: &Traffic) -> anyhow::Result<()> {
        self.story.chapter("The file is edited: a mistake");
        let file = self.netd.file();
        let good = std::fs::read_to_string(&file).context("read the file")?;
        edit::save(&file, &edit::misspell_a_key(&good)?)?;
        let plan = self.show(&["plan"])?;
        let shown = plan.code == Some(1) && plan.text.contains('^') && plan.text.contains("backends");
        let text = "the mistake is shown where it is, with what was probably meant";
        self.story.claim(text, check(shown, || format!("exit code {:?}", plan.code)));
        let noticed = self.netd.wait_until("netd notices", |netd| Ok(netd.ask(&["status"])?.code == Some(1)));
        self.story.claim("netd notices, and says so in its status", noticed);
        self.show(&["status"])?;
        let seen = self.watch(traffic)?;
        self.story.claim("the last good file stays in force", seen.smooth());
        edit::save(&file, &good)?;
        self.story.say("  The mistake is corrected.");
        let corrected = self.netd.wait_until("the file", |netd| Ok(netd.ask(&["status"])?.code == Some(0)));
        self.story.claim("the corrected file is in force", corrected);
        Ok(())
    }

    fn everything_is_taken_down(&mut self, traffic: Traffic) -> anyhow::Result<()> {
        self.story.chapter("The end");
        let all = traffic.stop()?;
        let text = format!("{} requests in all, and not one failed or stalled", all.answered());
        self.story.claim(&text, all.smooth());
        let status = self.netd.stop()?;
        self.story.claim("netd ends when it is told to", check(status.success(), || status.to_string()));
        let teardown = self.show(&["teardown", "--yes"])?;
        self.story.claim("`netd teardown` removes what netd made", teardown.expect(0));
        let link = self.balancer_device()?;
        self.story.claim("no program is on eth0", check(!link.contains("xdp"), || link.clone()));
        let pins = pins_below(&self.world.bpf_dir())?;
        self.story.claim("nothing is pinned", check(pins.is_empty(), || pins.join(", ")));
        Ok(())
    }

    /// Changes the file: first the plan towards its next text, then the edit, then it is in force.
    fn edit(&mut self, edit: fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
        let file = self.netd.file();
        let next = self.world.folder().join("next.toml");
        let text = edit(&std::fs::read_to_string(&file).context("read the file")?)?;
        edit::save(&next, &text)?;
        let plan = self.show(&["plan", &next.to_string_lossy()])?;
        self.story.claim("the plan shows what the edit will change", plan.expect(CHANGES));
        self.story.command("mv next.toml demo.toml");
        std::fs::rename(&next, &file).context("put the next file in place")?;
        self.in_force("the edited file")
    }

    /// Waits until nothing is left to do for the file as it is now.
    fn in_force(&mut self, what: &str) -> anyhow::Result<()> {
        self.netd.wait_until(what, |netd| Ok(netd.ask(&["plan"])?.code == Some(NOTHING_TO_DO)))
    }

    /// Lets traffic flow for a while, and shows what became of it.
    fn watch(&mut self, traffic: &Traffic) -> anyhow::Result<Tally> {
        let window = traffic.begin();
        self.interrupt.pause(WATCH)?;
        let next = traffic.begin();
        // The last requests of the stretch are answered by now, unless something is wrong.
        self.interrupt.pause(Duration::from_millis(200))?;
        let seen = Tally::sum(&[traffic.tally(window), traffic.tally(next)]);
        self.story.say(&seen.table(topology::backends()));
        Ok(seen)
    }

    fn nothing_failed(&mut self, seen: &Tally) {
        self.story.claim("no request failed, no connection broke, moved or stalled", seen.smooth());
    }

    /// How many changes the daemon made in its last pass.
    fn changes_of_last_pass(&self) -> anyhow::Result<u64> {
        let status = self.netd.ask(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status.text).context("read the status")?;
        let applied = status.pointer("/pass/applied").and_then(serde_json::Value::as_u64);
        applied.context("the status does not say how many changes the last pass made")
    }

    /// Runs a command of netd and shows what it printed.
    fn show(&mut self, arguments: &[&str]) -> anyhow::Result<Answer> {
        self.story.command(&format!("netd {}", arguments.join(" ")));
        let colour = if self.story.colours() { "always" } else { "never" };
        let answer = self.netd.ask(&[arguments, &["--color", colour]].concat())?;
        self.story.quote(&answer.text);
        Ok(answer)
    }

    /// Shows the tunnel on the wire, if tcpdump is there.
    fn outer_headers(&mut self) -> anyhow::Result<()> {
        for (filter, header) in
            [("ip proto 4", "10.0.0.11 > 10.1.0.1:"), ("ip6 proto 41", "2001:db8:a::11 > 2001:db8:b::1:")]
        {
            let mut tcpdump = self.world.command(ROUTER, "timeout");
            tcpdump.args(["5", "tcpdump", "-nn", "-t", "-c", "1", "-i", "backend-1", filter]);
            let Ok(seen) = run(&mut tcpdump) else {
                self.story.say("  (tcpdump is not installed, or saw nothing)");
                return Ok(());
            };
            self.story.command(&format!("tcpdump -nn -t -c 1 -i backend-1 {filter}   # on the router"));
            self.story.quote(&seen);
            let text = format!("the tunnel's header is from {BALANCER} to the backend: {header}");
            self.story.claim(text.trim_end_matches(':'), check(seen.contains(header), || "it is not".into()));
        }
        Ok(())
    }

    /// The load balancer's device as the kernel describes it.
    fn balancer_device(&self) -> anyhow::Result<String> {
        run(self.world.command(BALANCER, "ip").args(["-details", "link", "show", "eth0"]))
    }
}

/// What is pinned below a folder of a BPF file system. Its two `.debug` files are the kernel's own.
fn pins_below(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pins = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "debug") {
                pins.push(path.display().to_string());
            }
        }
    }
    Ok(pins)
}
