//! Which pod a client had last, for Services that keep clients with their pods (`sessionAffinity: ClientIP`).
//!
//! As kube-proxy does it: by the client's address, for a time that each connection renews, as long as the pod is
//! ready.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Most clients that are remembered for one port; the one that was silent for longest makes room.
const CLIENTS: usize = 16 << 10;

/// The pods that clients had.
#[derive(Debug, Default)]
pub struct Affinity {
    clients: HashMap<IpAddr, Last>,
    /// The clients in the order of their last connections.
    order: BTreeMap<u64, IpAddr>,
    connections: u64,
}

/// A client's last connection.
#[derive(Debug, Clone, Copy)]
struct Last {
    pod: SocketAddr,
    at: Instant,
    number: u64,
}

impl Affinity {
    /// The pod that a client had no longer than `timeout` ago.
    pub fn pod_of(&self, client: IpAddr, timeout: Duration, now: Instant) -> Option<SocketAddr> {
        let last = self.clients.get(&client)?;
        (now.saturating_duration_since(last.at) < timeout).then_some(last.pod)
    }

    /// A client has a connection to this pod.
    pub fn handle_connection(&mut self, client: IpAddr, pod: SocketAddr, now: Instant) {
        self.connections += 1;
        let number = self.connections;
        let last = Last {
            pod,
            at: now,
            number,
        };
        if let Some(before) = self.clients.insert(client, last) {
            self.order.remove(&before.number);
        }
        self.order.insert(number, client);
        if self.clients.len() > CLIENTS
            && let Some((_, silent)) = self.order.pop_first()
        {
            self.clients.remove(&silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn pod(number: u8) -> SocketAddr {
        ([10, 1, 0, number], 8080).into()
    }

    #[test]
    fn a_client_has_its_pod_until_it_was_silent_for_too_long() {
        let (mut affinity, start) = (Affinity::default(), Instant::now());
        assert_eq!(affinity.pod_of(client(1), TIMEOUT, start), None);
        affinity.handle_connection(client(1), pod(1), start);
        affinity.handle_connection(client(2), pod(2), start);
        let later = start + 9 * SECOND;
        assert_eq!(affinity.pod_of(client(1), TIMEOUT, later), Some(pod(1)));
        // Each connection renews it.
        affinity.handle_connection(client(1), pod(1), later);
        let later = start + 15 * SECOND;
        assert_eq!(affinity.pod_of(client(1), TIMEOUT, later), Some(pod(1)));
        assert_eq!(affinity.pod_of(client(2), TIMEOUT, later), None);
        let later = start + 19 * SECOND;
        assert_eq!(affinity.pod_of(client(1), TIMEOUT, later), None);
    }

    #[test]
    fn a_client_that_moved_has_its_new_pod() {
        let (mut affinity, now) = (Affinity::default(), Instant::now());
        affinity.handle_connection(client(1), pod(1), now);
        affinity.handle_connection(client(1), pod(2), now);
        assert_eq!(affinity.pod_of(client(1), TIMEOUT, now), Some(pod(2)));
    }

    #[test]
    fn who_was_silent_for_longest_makes_room() {
        let (mut affinity, now) = (Affinity::default(), Instant::now());
        let many = u32::try_from(CLIENTS).unwrap();
        for number in 0..many {
            affinity.handle_connection(client(number), pod(1), now);
        }
        affinity.handle_connection(client(0), pod(1), now);
        affinity.handle_connection(client(many), pod(2), now);
        let remembered = |number| affinity.pod_of(client(number), TIMEOUT, now).is_some();
        assert!(remembered(0) && !remembered(1) && remembered(2) && remembered(many));
        assert_eq!(affinity.clients.len(), CLIENTS);
        assert_eq!(affinity.order.len(), CLIENTS);
    }
}
