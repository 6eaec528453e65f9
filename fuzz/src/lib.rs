//! What the targets share: exchanges of each side, SCRAM and CRAM-MD5 computed a second time, apart
//! from the crate, and a server's store.

pub mod sasl_client;
pub mod sasl_server;
pub mod store;

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use smtp_auth::sasl::{
    BindingPolicy, Channel, ChannelBinding, FoldName, Mechanism, ScramHash, ScramKeys, as_sent,
    prepare, prepare_lower_case,
};

/// The one password that is right.
pub const PASSWORD: &str = "tanstaaf";

/// The one token that is right.
pub const TOKEN: &str = "ya29.token";

/// The salt of all keys.
pub const SALT: &[u8] = b"salt";

/// PBKDF2 takes its time.
pub const ITERATIONS: u32 = 1;

pub const OWN: Mechanism = match Mechanism::custom("X-OWN") {
    Ok(mechanism) => mechanism,
    Err(_) => panic!("a good name"),
};

/// The mechanisms of SCRAM.
pub const SCRAM: &[Mechanism] = &[
    Mechanism::ScramSha512Plus,
    Mechanism::ScramSha256Plus,
    Mechanism::ScramSha1Plus,
    Mechanism::ScramSha512,
    Mechanism::ScramSha256,
    Mechanism::ScramSha1,
];

pub const POLICIES: [BindingPolicy; 3] =
    [BindingPolicy::Preferred, BindingPolicy::Required, BindingPolicy::None];

/// How names are folded.
pub const FOLDS: [FoldName; 3] = [prepare, prepare_lower_case, as_sent];

/// A key of the length that is asked for.
pub const SALT_KEY: &str = "the key of salts";

/// What `tls-exporter` gives.
pub const EXPORTED: [u8; 32] = [7; 32];

/// What `tls-server-end-point` gives.
pub const END_POINT: &[u8] = b"end point";

/// The keys of the right password, for each hash.
pub static KEYS: LazyLock<Vec<ScramKeys>> = LazyLock::new(|| {
    let keys = |hash| ScramKeys::from_password(hash, PASSWORD, SALT, ITERATIONS);
    [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512].into_iter().filter_map(keys).collect()
});

/// One of a few values, by an octet of the input.
pub fn pick<T: Copy>(values: &[T], octet: u8) -> T {
    values[usize::from(octet) % values.len()]
}

/// Each mechanism, the application's own too.
pub fn mechanisms() -> Vec<Mechanism> {
    [Mechanism::COMPILED, &[OWN]].concat()
}

/// A connection inside TLS, with what can be known of it.
pub fn channel() -> Channel {
    let end_point = ChannelBinding::tls_server_end_point(END_POINT).expect("it has data");
    Channel::tls()
        .with_binding(ChannelBinding::tls_exporter(EXPORTED))
        .with_binding(end_point)
        .with_identity("tim")
        .expect("a good name")
}

/// What CRAM-MD5 answers to a challenge.
pub fn cram_digest(challenge: &[u8]) -> String {
    let mut mac = Hmac::<Md5>::new_from_slice(PASSWORD.as_bytes()).expect("any length is good");
    mac.update(challenge);
    mac.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect()
}

pub fn encode(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The hash of a mechanism, if it is one of SCRAM.
pub fn hash_of(mechanism: Mechanism) -> Option<ScramHash> {
    match mechanism {
        Mechanism::ScramSha512Plus | Mechanism::ScramSha512 => Some(ScramHash::Sha512),
        Mechanism::ScramSha256Plus | Mechanism::ScramSha256 => Some(ScramHash::Sha256),
        Mechanism::ScramSha1Plus | Mechanism::ScramSha1 => Some(ScramHash::Sha1),
        _ => None,
    }
}

/// `HMAC(key, data)`
fn hmac(hash: ScramHash, key: &[u8], data: &[u8]) -> Vec<u8> {
    fn run<M: KeyInit + Mac>(key: &[u8], data: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).expect("any length is good");
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    }
    match hash {
        ScramHash::Sha512 => run::<Hmac<Sha512>>(key, data),
        ScramHash::Sha256 => run::<Hmac<Sha256>>(key, data),
        _ => run::<Hmac<Sha1>>(key, data),
    }
}

/// `H(data)`
fn digest(hash: ScramHash, data: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha512 => Sha512::digest(data).to_vec(),
        ScramHash::Sha256 => Sha256::digest(data).to_vec(),
        _ => Sha1::digest(data).to_vec(),
    }
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(a, b)| a ^ b).collect()
}

/// `Hi(password, salt, i)`
fn salted(hash: ScramHash, salt: &[u8], iterations: u32) -> Vec<u8> {
    let password = PASSWORD.as_bytes();
    let mut last = hmac(hash, password, &[salt, &1_u32.to_be_bytes()].concat());
    let mut sum = last.clone();
    for _ in 1..iterations {
        last = hmac(hash, password, &last);
        sum = xor(&sum, &last);
    }
    sum
}

/// What both have said in an exchange of SCRAM (RFC 5802 §3), as it was sent.
#[derive(Clone, Debug)]
pub struct Scram {
    pub hash: ScramHash,
    pub client_first: String,
    pub server_first: String,
}

impl Scram {
    /// The nonce, the salt and the iterations of `server-first-message`, where it has them.
    fn terms(&self) -> Option<(&str, Vec<u8>, u32)> {
        let mut attributes = self.server_first.split(',');
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let salt = decode(attributes.next()?.strip_prefix("s=")?)?;
        Some((nonce, salt, attributes.next()?.strip_prefix("i=")?.parse().ok()?))
    }

    fn salted(&self) -> Option<Vec<u8>> {
        let (_, salt, iterations) = self.terms()?;
        (iterations <= 10).then(|| salted(self.hash, &salt, iterations))
    }

    /// `gs2-header` and `client-first-message-bare`
    fn parts(&self) -> Option<(&str, &str)> {
        let first = &self.client_first;
        let commas = first.match_indices(',').map(|(at, _)| at + 1);
        first.split_at_checked(commas.take(2).last()?)
    }

    /// `cbind-input`
    fn binding(&self) -> Option<Vec<u8>> {
        let (header, _) = self.parts()?;
        let data = match header.split(',').next()? {
            "p=tls-exporter" => &EXPORTED[..],
            "p=tls-server-end-point" => END_POINT,
            _ => &[],
        };
        Some([header.as_bytes(), data].concat())
    }

    fn auth_message(&self, without_proof: &str) -> Option<String> {
        Some(format!("{},{},{without_proof}", self.parts()?.1, self.server_first))
    }

    /// The right `client-final-message`.
    pub fn client_final(&self) -> Option<String> {
        let without_proof = format!("c={},r={}", encode(self.binding()?), self.terms()?.0);
        let message = self.auth_message(&without_proof)?;
        let client_key = hmac(self.hash, &self.salted()?, b"Client Key");
        let stored_key = digest(self.hash, &client_key);
        let proof = xor(&client_key, &hmac(self.hash, &stored_key, message.as_bytes()));
        Some(format!("{without_proof},p={}", encode(proof)))
    }

    /// Whether a `client-final-message` proves the password, over this connection and nonce.
    pub fn proves(&self, client_final: &str) -> Option<bool> {
        let (without_proof, proof) = client_final.rsplit_once(",p=")?;
        let (binding, rest) = without_proof.strip_prefix("c=")?.split_once(",r=")?;
        let nonce = rest.split(',').next()?;
        let client_key = hmac(self.hash, &self.salted()?, b"Client Key");
        let stored_key = digest(self.hash, &client_key);
        let message = self.auth_message(without_proof)?;
        let signature = hmac(self.hash, &stored_key, message.as_bytes());
        Some(
            decode(binding)? == self.binding()?
                && nonce == self.terms()?.0
                && decode(proof)? == xor(&client_key, &signature),
        )
    }

    /// The right `server-final-message` to that `client-final-message`.
    pub fn server_final(&self, client_final: &str) -> Option<String> {
        let (without_proof, _) = client_final.rsplit_once(",p=")?;
        let server_key = hmac(self.hash, &self.salted()?, b"Server Key");
        let message = self.auth_message(without_proof)?;
        Some(format!("v={}", encode(hmac(self.hash, &server_key, message.as_bytes()))))
    }
}

/// What is sent in place of the right message, by an octet of the input: itself, with more behind,
/// with an octet changed, or something else.
pub fn nearly(kind: u8, right: Vec<u8>, octets: Vec<u8>) -> Vec<u8> {
    let mut message = right;
    match (kind % 4, &octets[..]) {
        (0, _) => {}
        (1, _) => message.extend(&octets),
        (2, [place, bits, ..]) if !message.is_empty() => {
            let place = usize::from(*place) % message.len();
            message[place] ^= bits;
        }
        _ => message = octets,
    }
    message
}
