//! Counts connections, in total and by network.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use smtp_auth::Reply;

use super::Limits;
use crate::network::Network;

const TOO_MANY: Reply = Reply::constant("421 4.3.2 Too many connections, try again later");
const TOO_MANY_EACH: Reply =
    Reply::constant("421 4.7.0 Too many connections from your address, try again later");

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Network, usize>,
}

/// The place that a connection occupies until this value is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    network: Option<Network>,
}

impl Places {
    /// Takes a place for a connection from this address. A stream without an address counts only in the total.
    ///
    /// # Errors
    /// Returns a `421` if a limit is reached.
    pub(super) fn take(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<Place, Reply> {
        let mut taken = self.lock();
        if taken.all >= limits.connections {
            return Err(TOO_MANY);
        }
        taken.all += 1;
        drop(taken);
        let mut place = Place { places: Arc::clone(self), network: None };
        if let Some(address) = address {
            place.belong_to(address, limits)?;
        }
        Ok(place)
    }

    /// Ignores poisoning: no code that holds the lock can panic and leave a count half changed.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the connection by this address as well.
    ///
    /// # Errors
    /// Returns a `421` if the limit of the address's network is reached.
    pub(super) fn belong_to(&mut self, address: IpAddr, limits: &Limits) -> Result<(), Reply> {
        let network = Network::of_client(address);
        let mut taken = self.places.lock();
        let own = taken.each.get(&network).copied().unwrap_or_default();
        if own >= limits.connections_each {
            return Err(TOO_MANY_EACH);
        }
        taken.each.insert(network, own + 1);
        self.network = Some(network);
        Ok(())
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
