//! Who is connected: how many in all and from each address, and how much patience there is for a silent one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limits::{BUSY_IDLE_TIMEOUT, BUSY_QUARTERS, CROWDED_QUARTERS, IDLE_TIMEOUT};

/// The connections of one server.
pub(super) struct Connections {
    max: usize,
    max_per_address: usize,
    count: AtomicUsize,
    /// Addresses with connections, and how many. At most as long as there are connections.
    addresses: Mutex<HashMap<Address, usize>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    shed: AtomicU64,
}

/// One connection, until dropped.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    address: Option<Address>,
}

/// Where connections come from, as far as it says who: one host of IPv4, or one network of IPv6, whose hosts choose the
/// rest themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Address {
    V4(u32),
    V6(u64),
}

impl Address {
    /// `None` for loopback, which is not counted.
    fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(Self::V4(ip.to_bits())),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                let network = [a, b, c, d].into_iter().fold(0, |bits, part| bits << 16 | u64::from(part));
                Some(Self::V6(network))
            }
        }
    }
}

impl Connections {
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Self {
            max,
            max_per_address,
            count: AtomicUsize::new(0),
            addresses: Mutex::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        }
    }

    /// Counts a new connection, unless its address has too many.
    pub fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<Admitted> {
        let address = Address::of(ip);
        if let Some(address) = address {
            let mut addresses = self.addresses();
            let count = addresses.entry(address).or_default();
            if *count >= self.max_per_address {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            *count += 1;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Admitted { connections: Arc::clone(self), address })
    }

    /// Connections now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Most connections at a time.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Whether there is no place left.
    pub fn full(&self) -> bool {
        self.count() >= self.max
    }

    /// Whether a connection is to close after its answer.
    pub fn crowded(&self) -> bool {
        self.count() >= self.max / 4 * CROWDED_QUARTERS
    }

    /// How long a new connection may be silent.
    pub fn patience(&self) -> Duration {
        if self.count() >= self.max / 4 * BUSY_QUARTERS { BUSY_IDLE_TIMEOUT } else { IDLE_TIMEOUT }
    }

    /// Notes that idle connections were closed to make room.
    pub fn note_shed(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections taken, connections refused because of their address, and how often room had to be made.
    pub fn totals(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.accepted), load(&self.refused), load(&self.shed))
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<Address, usize>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut addresses = self.connections.addresses();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let connections = Arc::new(Connections::new(8, 2));
        let first = connections.admit(ip("10.0.0.1")).unwrap();
        // The same host, as a socket for both families shows it.
        let second = connections.admit(ip("::ffff:10.0.0.1")).unwrap();
        assert!(connections.admit(ip("10.0.0.1")).is_none());
        let other = connections.admit(ip("10.0.0.2"));
        assert!(other.is_some() && connections.count() == 3);
        drop(second);
        assert!(connections.admit(ip("10.0.0.1")).is_some(), "and its place was given back at once");
        drop((first, other));
        assert_eq!(connections.count(), 0);
        assert!(connections.addresses().is_empty(), "nothing is kept of those that have gone");
        assert_eq!(connections.totals(), (4, 1, 0));
    }

    #[test]
    fn hosts_of_one_ipv6_network_count_together_and_loopback_does_not_count() {
        let connections = Arc::new(Connections::new(8, 1));
        let one = connections.admit(ip("2001:db8:1:2::1"));
        assert!(one.is_some() && connections.admit(ip("2001:db8:1:2:3::9")).is_none());
        assert!(connections.admit(ip("2001:db8:1:3::1")).is_some());
        let local: Vec<_> =
            ["127.0.0.1", "127.0.0.1", "::1"].into_iter().map(|local| connections.admit(ip(local))).collect();
        assert!(local.iter().all(Option::is_some));
    }

    #[test]
    fn patience_ends_as_places_do() {
        let connections = Arc::new(Connections::new(8, 8));
        let mut held = Vec::new();
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push((connections.patience() == IDLE_TIMEOUT, connections.crowded(), connections.full()));
            held.push(connections.admit(ip("127.0.0.1")).unwrap());
        }
        let (patient, busy, crowded) = ((true, false, false), (false, false, false), (false, true, false));
        assert_eq!(seen, [patient, patient, busy, busy, crowded, crowded, crowded, crowded]);
        assert!(connections.full());
    }
}
