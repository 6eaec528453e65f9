//! How many connections there are, in all and from each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use smtp_auth::Reply;

use super::Limits;

const TOO_MANY: Reply = Reply::constant("421 4.3.2 Too many connections, try again later");
const TOO_MANY_EACH: Reply =
    Reply::constant("421 4.7.0 Too many connections from your address, try again later");

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

/// A connection's place. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    network: Option<IpAddr>,
}

impl Places {
    /// A place for a connection from that address. A stream without an address counts in all alone.
    ///
    /// # Errors
    /// The `421` for which there is no place.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Place, Reply> {
        let network = address.map(network);
        let mut taken = self.lock();
        if taken.all >= limits.connections {
            return Err(TOO_MANY);
        }
        if let Some(network) = network {
            let own = taken.each.get(&network).copied().unwrap_or_default();
            if own >= limits.connections_each {
                return Err(TOO_MANY_EACH);
            }
            taken.each.insert(network, own + 1);
        }
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), network })
    }

    /// Nothing that is done while it is locked can panic and leave a count half changed.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of IPv4, or the /64 of IPv6: whoever has one address of that has them all.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        let Some(network) = self.network else { return };
        match taken.each.get_mut(&network) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.each.remove(&network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_network() {
        let places = Arc::<Places>::default();
        let limits = Limits::default().connections(3).connections_each(2);
        let take = |address: &str| places.take(Some(address.parse().unwrap()), &limits);
        let one = take("192.0.2.1").unwrap();
        let _mapped = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), TOO_MANY_EACH);
        let _v6 = take("2001:db8::1").unwrap();
        assert_eq!(take("2001:db8::2").unwrap_err(), TOO_MANY);
        drop(one);
        let _same_network = take("2001:db8::ffff:2").unwrap();
        assert_eq!(take("192.0.2.2").unwrap_err(), TOO_MANY);
        drop((_mapped, _v6, _same_network));
        let _no_address = places.take(None, &limits).unwrap();
        assert_eq!(places.lock().all, 1);
        assert!(places.lock().each.is_empty());
    }
}
