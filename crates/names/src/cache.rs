//! A small memory for the cluster's answers: long enough for the burst of questions that one
//! connection causes, too short for anybody to see yesterday's cluster.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RData;

/// Longest that an answer is remembered, whatever it says itself.
const LONGEST: Duration = Duration::from_secs(5);

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Name (regardless of case), type and class.
    pub(crate) question: Query,
    /// Whether DNSSEC records were asked for.
    pub(crate) dnssec_ok: bool,
    /// Whether unvalidated data was asked for.
    pub(crate) checking_disabled: bool,
}

/// Answers by question, bounded in number and bytes; the oldest goes first.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys by age.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
    most_entries: usize,
    most_bytes: usize,
    epoch: Epoch,
}

/// The life of a cache between two flushes: an answer that was asked for in an earlier one is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

#[derive(Debug)]
struct Entry {
    age: u64,
    answer: Message,
    size: usize,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    pub(crate) fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            bytes: 0,
            most_entries,
            most_bytes,
            epoch: Epoch(0),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Forgets everything, and what is being asked now as well.
    pub(crate) fn flush(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
        self.epoch.0 += 1;
    }

    /// The answer, with its times to live lowered by the time that it spent here.
    pub(crate) fn get(&mut self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key)?;
        if entry.expires <= now {
            self.remove(key);
            return None;
        }
        let spent = now.saturating_duration_since(entry.stored).as_secs();
        let spent = u32::try_from(spent).unwrap_or(u32::MAX);
        let mut answer = entry.answer.clone();
        let Message {
            answers,
            authorities,
            additionals,
            ..
        } = &mut answer;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.decrement_ttl(spent);
        }
        Some(answer)
    }

    /// Remembers an answer of `size` bytes that was asked for in `epoch`, if it may be remembered.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        answer: &Message,
        size: usize,
        epoch: Epoch,
        now: Instant,
    ) {
        let Some(life) = lifetime(answer) else {
            return;
        };
        if epoch != self.epoch || size > self.most_bytes || self.most_entries == 0 {
            return;
        }
        self.remove(&key);
        while self.entries.len() >= self.most_entries || self.bytes + size > self.most_bytes {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
        let age = self.next;
        self.next += 1;
        self.bytes += size;
        self.order.insert(age, key.clone());
        let entry = Entry {
            age,
            answer: answer.clone(),
            size,
            stored: now,
            expires: now + life,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.age);
            self.bytes -= entry.size;
        }
    }
}

/// How long an answer may be remembered: its shortest time to live, and for "no such name" and "no
/// such data" what the SOA record says (RFC 2308 section 5).
fn lifetime(answer: &Message) -> Option<Duration> {
    if answer.metadata.truncation {
        return None;
    }
    let seconds = match answer.metadata.response_code {
        ResponseCode::NoError if !answer.answers.is_empty() => {
            answer.answers.iter().map(|record| record.ttl).min()
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            answer.authorities.iter().find_map(|record| {
                if let RData::SOA(soa) = &record.data {
                    Some(record.ttl.min(soa.minimum))
                } else {
                    None
                }
            })
        }
        _ => None,
    }?;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(LONGEST))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
