//! A table of bounded size that forgets what wasn't used for longest. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// See the module.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// By when they were used, the oldest first.
    order: BTreeMap<u64, K>,
    uses: u64,
    most: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// An empty one, for at most so many entries.
    pub fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
            most,
        }
    }

    /// Uses an entry.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.order.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.order.insert(self.uses, key.clone());
        Some(value)
    }

    /// Adds an entry, or puts another one in its place, and returns what had to go for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let replaced = self.remove(&key);
        let forgotten = match self.order.first_key_value() {
            Some((_, oldest)) if self.entries.len() == self.most => {
                let oldest = oldest.clone();
                self.remove(&oldest)
            }
            _ => None,
        };
        self.uses += 1;
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, (self.uses, value));
        replaced.or(forgotten)
    }

    /// Takes an entry out if `wanted` says so of it.
    pub fn remove_if(&mut self, key: &K, wanted: impl FnOnce(&V) -> bool) -> Option<V> {
        let (_, value) = self.entries.get(key)?;
        if wanted(value) {
            self.remove(key)
        } else {
            None
        }
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.order.remove(&used);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wasnt_used_for_longest_goes_when_there_are_too_many() {
        let mut recent = Recent::new(3);
        for key in ["a", "b", "c"] {
            assert_eq!(recent.insert(key, key), None);
        }
        assert_eq!(recent.get(&"a"), Some(&mut "a"));
        assert_eq!(recent.insert("d", "d"), Some("b"));
        assert_eq!(recent.insert("e", "e"), Some("c"));
        assert_eq!(recent.get(&"b"), None);
        assert_eq!(recent.get(&"a"), Some(&mut "a"));
        assert_eq!((recent.entries.len(), recent.order.len()), (3, 3));
    }

    #[test]
    fn one_that_is_put_in_anothers_place_is_no_more_of_them() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 1);
        assert_eq!(recent.insert("a", 2), Some(1));
        assert_eq!(recent.get(&"b"), Some(&mut 1));
        assert_eq!(recent.remove_if(&"a", |value| *value == 1), None);
        assert_eq!(recent.remove_if(&"a", |value| *value == 2), Some(2));
        assert_eq!((recent.entries.len(), recent.order.len()), (1, 1));
    }
}
