//! Names of flows, and the table that gives them out.

use std::fmt;
use std::net::SocketAddr;

/// Names one flow of one stack. A name is never given to a second flow, so a stale one is
/// harmless: every call with it does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    index: u32,
    generation: u32,
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowId({}.{})", self.index, self.generation)
    }
}

/// The two ends of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The program on this machine.
    pub client: SocketAddr,
    /// The address and port it wants to reach.
    pub target: SocketAddr,
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by [`FlowId`], in constant time.
pub(crate) struct FlowTable<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> FlowTable<T> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    pub(crate) fn insert(&mut self, value: T) -> FlowId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                value: None,
            });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.value = Some(value);
        FlowId {
            index,
            generation: entry.generation,
        }
    }

    pub(crate) fn get(&self, id: FlowId) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        entry
            .value
            .as_ref()
            .filter(|_| entry.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        entry
            .value
            .as_mut()
            .filter(|_| entry.generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: FlowId) -> Option<T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_name_finds_nothing_after_its_place_was_given_to_another() {
        let mut table = FlowTable::new();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_ne!(first, second);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get_mut(second), Some(&mut "second"));
        assert_eq!(table.len(), 1);
    }
}
