//! Credentials for accounts that do not exist, so that they look like those that do.

use smtp_auth::sasl::{ScramHash, ScramKeys, ScramParts, server::Config};

use crate::{
    credential::{Credential, Scheme, read_scram_cost},
    random::Key,
    store::Cost,
};

/// How the credentials of the real accounts are distributed. The form and the cost of a decoy are drawn from it by the
/// account's name, so that a number of iterations, or the time of a check, does not reveal which accounts exist.
///
/// The same name draws the same decoy, as long as the distribution stays. If it changes, because real accounts got keys
/// with more iterations, then decoys change in the same proportion.
#[derive(Debug)]
pub(crate) struct Decoys {
    key: Key,
    costs: Vec<Cost>,
    /// The number of iterations of new keys, for a database without accounts.
    iterations: u32,
}

impl Decoys {
    /// The secret is the one that all processes share, in hexadecimal.
    pub(crate) fn new(secret: &str, costs: Vec<Cost>, iterations: u32) -> Self {
        Self { key: Key::new(secret), costs, iterations }
    }

    /// Returns the scheme and the cost that PLAIN and LOGIN are checked with for this name.
    fn check(&self, name: &str) -> Option<&Cost> {
        self.draw(b"form", name, |cost| cost.checks)
    }

    /// Returns the number of iterations and the length of the salt that SCRAM shows for this name.
    fn shown(&self, hash: ScramHash, name: &str) -> (u32, usize) {
        let scheme = Scheme::scram(hash);
        let of_hash = |cost: &Cost| if Some(cost.scheme) == scheme { cost.passwords } else { 0 };
        let drawn = self.draw(b"keys", name, of_hash).and_then(|cost| read_scram_cost(&cost.cost));
        drawn.unwrap_or((self.iterations, 16))
    }

    /// Draws a cost by the weights: the name's hash is a place in the sum of them all. Draws for different purposes are
    /// independent of each other, as the form of a real account's credential says nothing about the cost of keys.
    fn draw(&self, purpose: &[u8], name: &str, weight: impl Fn(&Cost) -> u64) -> Option<&Cost> {
        let total: u64 = self.costs.iter().map(&weight).sum();
        let hash = self.key.hash([purpose, name.as_bytes()]);
        let place = (u128::from(hash) * u128::from(total)) >> 64;
        let mut place = u64::try_from(place).unwrap_or(0);
        self.costs.iter().find(|cost| {
            let weight = weight(cost);
            let is_here = place < weight;
            place = place.saturating_sub(weight);
            is_here
        })
    }

    /// Returns the keys that SCRAM answers with for a name without keys. No password matches them.
    ///
    /// A real password keeps its salt and its number of iterations, and has another salt for each hash. So the salt is
    /// derived from all of them: if another cost is drawn for a name, it looks like an account with a new password.
    pub(crate) fn scram_keys(
        &self,
        sasl: &Config,
        hash: ScramHash,
        name: &str,
    ) -> Option<ScramKeys> {
        let decoy = sasl.decoy_keys(hash, name)?;
        let (iterations, length) = self.shown(hash, name);
        let scheme = Scheme::scram(hash)?;
        let octets = (0..).flat_map(|block: u64| {
            let numbers = [block, u64::from(iterations), length as u64].map(u64::to_be_bytes);
            let parts = [b"salt".as_slice(), scheme.name().as_bytes(), numbers.as_flattened()];
            self.key.hash(parts.into_iter().chain([name.as_bytes()])).to_be_bytes()
        });
        let salt: Vec<_> = octets.take(length).collect();
        ScramKeys::from_parts(ScramParts { iterations, salt: &salt, ..decoy.parts() })
    }

    /// Returns the credential that a password is checked against for a name that does not exist. It takes as long as
    /// that of a real account.
    pub(crate) fn credential(&self, sasl: &Config, name: &str) -> Option<Credential> {
        let drawn = self.check(name);
        let keys = drawn.map_or(Some(ScramHash::Sha256), |cost| cost.scheme.hash());
        // The configuration has decoy keys only while SCRAM is on offer.
        let keys = keys.and_then(|hash| self.scram_keys(sasl, hash, name)).map(Credential::Scram);
        keys.or_else(|| drawn.and_then(|cost| Credential::decoy(cost.scheme, &cost.cost)))
            .or_else(|| Credential::decoy(Scheme::ScramSha256, &self.iterations.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use smtp_auth::sasl::Mechanism;

    const SECRET: &str = "00112233445566778899aabbccddeeff";

    fn cost(scheme: Scheme, cost: &str, passwords: u64) -> Cost {
        Cost { scheme, cost: cost.into(), passwords, checks: passwords }
    }

    #[test]
    fn iterations_are_distributed_like_those_of_real_accounts() {
        let scheme = Scheme::ScramSha256;
        let costs = vec![cost(scheme, "4096", 250), cost(scheme, "15000", 750)];
        let decoys = Decoys::new(SECRET, costs, 15_000);
        let names = (0..10_000).map(|number| format!("user{number}@example.org"));
        let few = names.filter(|name| decoys.shown(ScramHash::Sha256, name).0 == 4096).count();
        assert!((2300..2700).contains(&few), "{few} of 10,000 have 4,096 iterations");
    }

    #[test]
    fn forms_and_iterations_are_distributed_together_like_those_of_real_accounts() {
        let scram = |iterations, passwords| cost(Scheme::ScramSha256, iterations, passwords);
        let argon2 = cost(Scheme::Argon2id, "m=19456,t=2,p=1", 500);
        let decoys =
            Decoys::new(SECRET, vec![scram("4096", 250), scram("15000", 250), argon2], 15_000);
        let sasl = Config::builder("auth").mechanisms([Mechanism::Plain]).build().unwrap();
        let mut drawn = HashMap::new();
        for number in 0..4000 {
            let decoy = decoys.credential(&sasl, &format!("user{number}")).unwrap();
            *drawn.entry((decoy.scheme(), decoy.cost())).or_insert(0) += 1;
        }
        let count = |scheme, cost: &str| drawn[&(scheme, cost.to_owned())];
        for few in ["4096", "15000"].map(|cost| count(Scheme::ScramSha256, cost)) {
            assert!((850..1150).contains(&few), "{drawn:?}");
        }
        assert!((1800..2200).contains(&count(Scheme::Argon2id, "m=19456,t=2,p=1")), "{drawn:?}");
    }

    #[test]
    fn a_name_keeps_its_decoy_and_an_empty_database_has_the_configured_number() {
        let costs =
            vec![cost(Scheme::ScramSha256, "4096", 1), cost(Scheme::ScramSha256, "15000", 1)];
        let sasl = Config::builder("auth").mechanisms([Mechanism::ScramSha256]).build().unwrap();
        let (one, again) = (Decoys::new(SECRET, costs.clone(), 1), Decoys::new(SECRET, costs, 1));
        for name in ["a", "b", "c", "d"] {
            let shown = |decoys: &Decoys| {
                decoys.scram_keys(&sasl, ScramHash::Sha256, name).unwrap().to_text()
            };
            assert_eq!(shown(&one), shown(&again));
        }
        let empty = Decoys::new(SECRET, Vec::new(), 15_000);
        assert_eq!(empty.shown(ScramHash::Sha256, "a"), (15_000, 16));
        assert_eq!(empty.credential(&sasl, "a").unwrap().cost(), "15000");
    }

    #[test]
    fn a_cost_that_cannot_be_read_has_a_decoy_all_the_same() {
        let decoys = Decoys::new(SECRET, vec![cost(Scheme::Argon2id, "", 1)], 15_000);
        let sasl = Config::builder("auth").mechanisms([Mechanism::Plain]).build().unwrap();
        assert_eq!(decoys.credential(&sasl, "a").unwrap().cost(), "15000");
    }

    #[test]
    fn salts_are_as_long_as_those_of_real_accounts() {
        let scheme = Scheme::ScramSha256;
        let costs =
            vec![cost(scheme, "4096", 1), cost(scheme, "4096/12", 1), cost(scheme, "4096/40", 1)];
        let decoys = Decoys::new(SECRET, costs, 15_000);
        let sasl = Config::builder("auth").mechanisms([Mechanism::ScramSha256]).build().unwrap();
        let salt = |name: &str| {
            let keys = decoys.scram_keys(&sasl, ScramHash::Sha256, name).unwrap();
            keys.parts().salt.to_vec()
        };
        let salts: Vec<_> = (0..100).map(|number| salt(&number.to_string())).collect();
        let mut lengths: Vec<_> = salts.iter().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert_eq!(lengths, [12, 16, 40]);
        assert!(salts.iter().enumerate().all(|(at, one)| !salts[..at].contains(one)));
    }

    /// A real password has another salt for each hash, and another cost comes with another salt.
    #[test]
    fn a_salt_belongs_to_one_hash_and_one_cost() {
        let costs = |iterations| {
            [Scheme::ScramSha1, Scheme::ScramSha256]
                .map(|scheme| cost(scheme, iterations, 1))
                .into()
        };
        let mechanisms = [Mechanism::ScramSha1, Mechanism::ScramSha256];
        let sasl = Config::builder("auth").mechanisms(mechanisms).build().unwrap();
        let mut blocks = Vec::new();
        for iterations in ["4096/32", "15000/32"] {
            let decoys = Decoys::new(SECRET, costs(iterations), 15_000);
            for hash in [ScramHash::Sha1, ScramHash::Sha256] {
                let keys = decoys.scram_keys(&sasl, hash, "nobody").unwrap();
                blocks.extend(keys.parts().salt.chunks(8).map(<[u8]>::to_vec));
            }
        }
        let all = blocks.len();
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!((all, blocks.len()), (16, 16));
    }

    #[test]
    fn passwords_are_checked_against_every_form_that_accounts_have() {
        let argon2 = cost(Scheme::Argon2id, "m=19456,t=2,p=1", 1);
        let costs =
            vec![cost(Scheme::ScramSha256, "15000", 1), argon2, cost(Scheme::BlfCrypt, "5", 1)];
        let decoys = Decoys::new(SECRET, costs, 15_000);
        let sasl = Config::builder("auth").mechanisms([Mechanism::Plain]).build().unwrap();
        let mut schemes: Vec<_> = (0..100)
            .map(|number| decoys.credential(&sasl, &number.to_string()).unwrap().scheme())
            .collect();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes, [Scheme::ScramSha256, Scheme::Argon2id, Scheme::BlfCrypt]);
    }
}
