//! The connections that haven't proven a key yet: who waits, and who has to go when there are too many.
//! Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use tokio_util::sync::CancellationToken;

/// Most of them from one address.
pub const PER_ADDRESS: usize = 64;
/// Most of them in all.
pub const IN_ALL: usize = 512;

/// They are numbered in the order of their coming.
pub type Number = u64;

#[derive(Debug)]
struct Waiting {
    from: IpAddr,
    evicted: CancellationToken,
}

/// See the module. Whoever proves a key takes milliseconds; so when there are too many, the one that
/// has waited longest goes, of the same address first: who fills the place hurts himself most.
#[derive(Debug)]
pub struct Pending {
    per_address: usize,
    next: Number,
    all: BTreeMap<Number, Waiting>,
    by_address: HashMap<IpAddr, usize>,
}

impl Pending {
    /// None yet, and at most so many from one address.
    pub fn new(per_address: usize) -> Self {
        Self {
            per_address,
            next: 0,
            all: BTreeMap::new(),
            by_address: HashMap::new(),
        }
    }

    /// Takes in one more; what it gets is cancelled when it has to go.
    pub fn admit(&mut self, from: IpAddr) -> (Number, CancellationToken) {
        // An IPv6 network is one neighbour, RFC 7707 section 2.
        let from = neighbour(from);
        if self.by_address.get(&from).copied().unwrap_or(0) >= self.per_address {
            let oldest = self.all.iter().find(|(_, one)| one.from == from);
            let oldest = oldest.map(|(number, _)| *number);
            self.evict(oldest);
        } else if self.all.len() >= IN_ALL {
            let oldest = self.all.keys().next().copied();
            self.evict(oldest);
        }
        let (number, evicted) = (self.next, CancellationToken::new());
        self.next += 1;
        let waiting = Waiting {
            from,
            evicted: evicted.clone(),
        };
        self.all.insert(number, waiting);
        *self.by_address.entry(from).or_default() += 1;
        (number, evicted)
    }

    fn evict(&mut self, number: Option<Number>) {
        if let Some(one) = number.and_then(|number| self.take(number)) {
            one.evicted.cancel();
        }
    }

    /// One has proven its key, or is gone.
    pub fn settle(&mut self, number: Number) {
        self.take(number);
    }

    fn take(&mut self, number: Number) -> Option<Waiting> {
        let one = self.all.remove(&number)?;
        if let Some(count) = self.by_address.get_mut(&one.from) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&one.from);
            }
        }
        Some(one)
    }
}

fn neighbour(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn who_fills_his_share_loses_his_own_oldest() {
        let mut pending = Pending::new(PER_ADDRESS);
        let (_, other) = pending.admit(address(1));
        let first = pending.admit(address(2)).1;
        for _ in 1..PER_ADDRESS {
            pending.admit(address(2));
        }
        assert!(!first.is_cancelled());
        let (_, newest) = pending.admit(address(2));
        assert!(first.is_cancelled() && !newest.is_cancelled() && !other.is_cancelled());
    }

    #[test]
    fn when_all_places_are_taken_who_waited_longest_goes() {
        let mut pending = Pending::new(PER_ADDRESS);
        let first = pending.admit(address(0)).1;
        for count in 1..IN_ALL {
            pending.admit(address(u8::try_from(count % 200).unwrap()));
        }
        assert!(!first.is_cancelled());
        let (_, newest) = pending.admit(address(250));
        assert!(first.is_cancelled() && !newest.is_cancelled());
        assert_eq!(pending.all.len(), IN_ALL);
    }

    #[test]
    fn who_is_through_makes_room() {
        let mut pending = Pending::new(PER_ADDRESS);
        for _ in 0..10 * IN_ALL {
            let (number, evicted) = pending.admit(address(1));
            assert!(!evicted.is_cancelled());
            pending.settle(number);
        }
        assert!(pending.all.is_empty() && pending.by_address.is_empty());
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_neighbour() {
        let all = ["fd00::1", "fd00::ffff:1", "::ffff:10.0.0.1", "10.0.0.1"];
        let all = all.map(|text| neighbour(text.parse().unwrap()));
        assert_eq!(all[0], all[1]);
        assert_eq!(all[2], all[3]);
    }
}
