//! Random files and faults, one after the other.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::file::file;
use super::node::{KINDS, Node, pass, run};
use netd::fake::Fault;
use netd::kinds::bgp_path;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn b9_b10_what_is_announced_is_what_the_reference_says_and_never_before_its_time(
        files in proptest::collection::vec(file(), 1..5),
    ) {
        run(async {
            let node = Node::new();
            let mut reconciler = node.reconciler();
            for file in &files {
                let before = node.keys(bgp_path::NAME);
                pass(&mut reconciler, &node, file).await;
                prop_assert_eq!(&*node.wrong.lock().unwrap(), &Vec::<String>::new(), "{:?}", node.took());
                prop_assert_eq!(node.keys(bgp_path::NAME), file.announced(&before), "{}", file.text());
                node.took();
                pass(&mut reconciler, &node, file).await;
                prop_assert_eq!(node.took(), Vec::<String>::new(), "a second pass has nothing to do");
            }
            reconciler.tear_down().await;
            prop_assert_eq!(&*node.wrong.lock().unwrap(), &Vec::<String>::new());
            Ok(())
        })?;
    }

    #[test]
    fn b9_whatever_fails_nothing_is_announced_that_the_datapath_does_not_take(
        files in proptest::collection::vec(file(), 1..4),
        faults in proptest::collection::vec((0..3_usize, 0..6_usize), 1..5),
    ) {
        run(async {
            let node = Node::new();
            let mut reconciler = node.reconciler();
            for file in &files {
                for (kind, after) in &faults {
                    let mut world = node.fakes[KINDS[*kind]].world();
                    world.next = std::iter::repeat_n(None, *after).collect();
                    world.next.push_back(Some(Fault::Fail("the kernel said no".into())));
                }
                pass(&mut reconciler, &node, file).await;
                prop_assert_eq!(&*node.wrong.lock().unwrap(), &Vec::<String>::new(), "{:?}", node.took());
            }
            for fake in node.fakes.values() {
                fake.world().next.clear();
            }
            let last = files.last().unwrap();
            let before = node.keys(bgp_path::NAME);
            pass(&mut reconciler, &node, last).await;
            prop_assert_eq!(node.keys(bgp_path::NAME), last.announced(&before));
            Ok(())
        })?;
    }
}
