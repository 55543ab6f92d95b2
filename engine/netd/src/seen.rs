//! What was found last, so that only what differs is taken apart again.

use netd_core::{Key, Observation, Spec};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// The entries of a map as they were at the last look, each by a print of all that its resource follows from.
#[derive(Debug)]
pub(crate) struct Seen<K> {
    /// In the order in which the last look met them: the next one meets them alike.
    entries: Vec<Entry<K>>,
    /// Where each is, for a look that does not.
    places: HashMap<K, usize>,
    /// Where the next entry is expected.
    next: usize,
    /// How many entries this look found as they were.
    same: usize,
    observation: Arc<Observation>,
}

#[derive(Debug)]
struct Entry<K> {
    entry: K,
    print: u64,
    /// Whether this look found it as it was.
    is_same: bool,
    /// What it is called as a resource; `None` for one that means nothing.
    resource: Option<Key>,
}

/// An entry that is new or differs, and what it means.
pub(crate) struct News<K> {
    pub(crate) entry: K,
    pub(crate) print: u64,
    pub(crate) meaning: Option<(Key, Arc<dyn Spec>)>,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        let (entries, places) = (Vec::new(), HashMap::new());
        Self { entries, places, next: 0, same: 0, observation: Arc::default() }
    }
}

impl<K: Copy + Eq + Hash> Seen<K> {
    /// Begins a look.
    pub(crate) fn begin(&mut self) {
        self.entries.iter_mut().for_each(|known| known.is_same = false);
        self.next = 0;
        self.same = 0;
    }

    /// Whether an entry is as it was.
    pub(crate) fn is_known(&mut self, entry: &K, print: u64) -> bool {
        let is_expected = self.entries.get(self.next).is_some_and(|known| known.entry == *entry);
        let at = if is_expected { Some(self.next) } else { self.places.get(entry).copied() };
        let Some(known) = at.and_then(|at| self.entries.get_mut(at)) else { return false };
        self.next = at.map_or(0, |at| at + 1);
        if known.print != print {
            return false;
        }
        self.same += usize::from(!known.is_same);
        known.is_same = true;
        true
    }

    /// Ends a look: what there is now. The same value as after the last look if there was no news and nothing is gone.
    pub(crate) fn end(&mut self, news: Vec<News<K>>) -> Arc<Observation> {
        if news.is_empty() && self.same == self.entries.len() {
            return Arc::clone(&self.observation);
        }
        let owned = &mut Arc::make_mut(&mut self.observation).owned;
        // First what is gone or differs: what is new may have its name.
        self.entries.retain(|known| {
            if let Some(key) = known.resource.as_ref().filter(|_| !known.is_same) {
                owned.remove(key);
            }
            known.is_same
        });
        for News { entry, print, meaning } in news {
            let (resource, spec) = meaning.unzip();
            if let (Some(key), Some(spec)) = (&resource, spec) {
                owned.insert(key.clone(), spec);
            }
            self.entries.push(Entry { entry, print, is_same: true, resource });
        }
        self.places = self.entries.iter().zip(0..).map(|(known, at)| (known.entry, at)).collect();
        Arc::clone(&self.observation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netd_core::{Described, FieldChange};

    #[derive(Debug, PartialEq, serde::Serialize)]
    struct Size(u64);

    impl Described for Size {
        fn summary(&self) -> String {
            self.0.to_string()
        }

        fn changes(&self, observed: &Self) -> Vec<FieldChange> {
            vec![FieldChange::changed("size", observed.0, self.0)]
        }
    }

    /// One look at entries: number, and the size that it has; a size of 0 means nothing.
    fn look(seen: &mut Seen<u32>, entries: &[(u32, u64)]) -> (Arc<Observation>, usize) {
        seen.begin();
        let mut news = Vec::new();
        for &(entry, print) in entries {
            if !seen.is_known(&entry, print) {
                let spec = || (Key::new(format!("k{entry}")), Arc::new(Size(print)) as Arc<dyn Spec>);
                news.push(News { entry, print, meaning: (print > 0).then(spec) });
            }
        }
        let taken_apart = news.len();
        (seen.end(news), taken_apart)
    }

    fn shown(observation: &Observation) -> Vec<String> {
        observation.owned.iter().map(|(key, spec)| format!("{key}={}", spec.summary())).collect()
    }

    #[test]
    fn what_is_the_same_is_answered_with_the_same_value() {
        let mut seen = Seen::default();
        let (first, _) = look(&mut seen, &[(1, 5), (2, 6)]);
        let (second, taken_apart) = look(&mut seen, &[(2, 6), (1, 5)]);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((shown(&second), taken_apart), (vec!["k1=5".to_owned(), "k2=6".to_owned()], 0));
    }

    #[test]
    fn what_changed_came_or_went_is_seen_and_nothing_else_is_taken_apart() {
        let mut seen = Seen::default();
        let (first, _) = look(&mut seen, &[(1, 5), (2, 6), (3, 7)]);
        let (second, taken_apart) = look(&mut seen, &[(1, 5), (2, 8), (4, 9)]);
        assert_eq!((shown(&second), taken_apart), (vec!["k1=5".into(), "k2=8".into(), "k4=9".into()], 2));
        assert_eq!(shown(&first), ["k1=5", "k2=6", "k3=7"], "what was given before stays as it was");
        let (third, _) = look(&mut seen, &[(1, 5)]);
        assert_eq!(shown(&third), ["k1=5"]);
        let (none, _) = look(&mut seen, &[]);
        assert!(shown(&none).is_empty());
    }

    #[test]
    fn an_entry_that_means_nothing_is_remembered_too() {
        let mut seen = Seen::default();
        let (first, _) = look(&mut seen, &[(1, 0), (2, 6)]);
        let (second, taken_apart) = look(&mut seen, &[(1, 0), (2, 6)]);
        assert!(Arc::ptr_eq(&first, &second) && taken_apart == 0);
        let (third, _) = look(&mut seen, &[(1, 4), (2, 0)]);
        assert_eq!(shown(&third), ["k1=4"]);
    }
}
