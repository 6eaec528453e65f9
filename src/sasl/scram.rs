//! SCRAM (RFC 5802, RFC 7677): both prove that they know the password, and neither shows it.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use super::{
    Answer, Channel, ChannelBinding, Failure, Identity, Mechanism, ScramHash, ScramKeys,
    ScramKeysFor, check_name,
    client::{self, Choice, Config as ClientConfig, Derive, Password},
    gs2::{self, Flag, Header},
    prepare,
    scram_keys::{Digest, SaltedPassword, decode, encode},
    server::{Config, Next, State, Then},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) enum Server {
    First(Box<Terms>),
    /// Some 300 octets: boxed so that the other mechanisms do not carry them.
    Final(Box<Proof>),
}

/// What the client's first message has to fit.
#[derive(Debug)]
pub(super) struct Terms {
    mechanism: Mechanism,
    hash: ScramHash,
    /// What the client may bind to.
    bindings: Vec<ChannelBinding>,
    /// Whether a client that has channel binding must have seen that the server has it too.
    binding_on_offer: bool,
}

/// What the client's proof is judged by.
#[derive(Debug)]
pub(super) struct Proof {
    identity: Identity,
    keys: ScramKeys,
    exists: bool,
    first: First,
    server_first: String,
}

/// The client's first message, and what it was made of.
#[derive(Debug)]
pub(super) struct First {
    hash: ScramHash,
    /// `cbind-input = gs2-header [cbind-data]`
    binding: SecretBytes,
    bare: Box<str>,
    nonce: Box<str>,
}

impl Server {
    pub(super) fn begin(
        config: &Config,
        channel: &Channel,
        mechanism: Mechanism,
    ) -> Result<(Vec<u8>, Self), Failure> {
        let bound = mechanism.binds_channel();
        let terms = Terms {
            mechanism,
            hash: ScramHash::of(mechanism).ok_or(Failure::Unsupported)?,
            bindings: if bound { channel.bindings().to_vec() } else { Vec::new() },
            binding_on_offer: config.offered(channel).any(Mechanism::binds_channel),
        };
        Ok((Vec::new(), Self::First(Box::new(terms))))
    }

    pub(super) fn take(self, response: SecretBytes) -> Result<State, Failure> {
        let text = core::str::from_utf8(response.as_slice())
            .map_err(|_| Failure::Malformed("it is not UTF-8"))?;
        match self {
            Self::First(terms) => terms.client_first(text),
            Self::Final(proof) => proof.client_final(text),
        }
    }
}

impl Terms {
    /// `client-first-message = gs2-header [mext ","] username "," nonce ["," extensions]`
    fn client_first(&self, text: &str) -> Result<State, Failure> {
        const ORDER: Failure = Failure::Malformed("the attributes of SCRAM are not in their order");
        let header = Header::read(text)?;
        let bound_to = self.binding(header.flag)?;
        let mut attributes = header.rest.split(',');
        let username = attributes.next().unwrap_or_default();
        if username.starts_with("m=") {
            return Err(Failure::Malformed("it demands an extension that nobody has"));
        }
        let authcid = gs2::saslname(username.strip_prefix("n=").ok_or(ORDER)?)?;
        let authcid =
            prepare(&authcid).ok_or(Failure::Malformed("the user name is not allowed"))?;
        check_name(&authcid)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(ORDER)?;
        if !is_nonce(nonce) {
            return Err(Failure::Malformed("the nonce is empty, too long, or not printable"));
        }
        extensions(attributes)?;
        let first = First {
            hash: self.hash,
            binding: SecretBytes::new([header.text.as_bytes(), bound_to].concat()),
            bare: header.rest.into(),
            nonce: nonce.into(),
        };
        let identity = Identity {
            authcid,
            authzid: header.authzid.map(String::into_boxed_str),
            mechanism: self.mechanism,
        };
        Ok(State::ScramKeys(Box::new(ScramKeysFor::new(identity, self.hash)), Box::new(first)))
    }

    /// What the client binds to (RFC 5802 §6).
    fn binding(&self, flag: Flag<'_>) -> Result<&[u8], Failure> {
        match (self.mechanism.binds_channel(), flag) {
            (true, Flag::Bound(name)) => {
                let binding = self.bindings.iter().find(|own| own.name() == name);
                binding.map(ChannelBinding::data).ok_or(Failure::ChannelBinding)
            }
            (true, Flag::No | Flag::NotSeen) => {
                Err(Failure::Malformed("this mechanism needs channel binding"))
            }
            (false, Flag::Bound(_)) => {
                Err(Failure::Malformed("this mechanism has no channel binding"))
            }
            (false, Flag::NotSeen) if self.binding_on_offer => Err(Failure::Downgrade),
            (false, Flag::No | Flag::NotSeen) => Ok(&[]),
        }
    }
}

/// `printable = %x21-2B / %x2D-7E`
fn is_nonce(text: &str) -> bool {
    (1..=1024).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_graphic() && octet != b',')
}

/// `attr-val = ALPHA "=" value`: what is not known is left alone (RFC 5802 §5.1).
fn extensions<'a>(attributes: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    for attribute in attributes {
        match attribute.as_bytes() {
            [b'a' | b'm' | b'n' | b'r' | b'c' | b'p' | b's' | b'i' | b'v' | b'e', b'=', ..] => {
                return Err(Failure::Malformed("an attribute of SCRAM comes twice or misplaced"));
            }
            // `value = 1*value-char`
            [letter, b'=', value @ ..]
                if letter.is_ascii_alphabetic() && !value.is_empty() && !value.contains(&0) => {}
            _ => return Err(Failure::Malformed("an extension of SCRAM is malformed")),
        }
    }
    Ok(())
}

/// `server-first-message = nonce "," salt "," iteration-count`, once the host has answered. For an
/// account that does not exist all is the same, up to the proof.
pub(super) fn server_first(
    config: &Config,
    identity: Identity,
    first: First,
    found: Answer<ScramKeys>,
) -> Result<State, Failure> {
    let nonce = format!("{}{}", first.nonce, config.nonce()?.as_str());
    // Made and dropped for everybody, so that it takes no longer for one than for another.
    let of_nobody = config.keys_of_nobody(first.hash, &identity.authcid);
    let (keys, exists) = match found {
        Answer::Accept(keys) if keys.hash() == first.hash => (keys, true),
        Answer::TempFail => return Err(Failure::TempFail),
        Answer::Accept(_) | Answer::Reject => (of_nobody.clone(), false),
    };
    let server_first = format!("r={nonce},s={},i={}", encode(keys.salt()), keys.iterations());
    let first = First { nonce: nonce.into(), ..first };
    let challenge = server_first.clone();
    let proof = Proof { identity, keys, exists, first, server_first };
    Ok(State::challenge(challenge.into_bytes(), Next::Scram(Server::Final(Box::new(proof)))))
}

impl Proof {
    /// `client-final-message = channel-binding "," nonce ["," extensions] "," proof`
    fn client_final(self, text: &str) -> Result<State, Failure> {
        const MALFORMED: Failure = Failure::Malformed("the final message of SCRAM is malformed");
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let proof = decode(proof).ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        let binding = binding.and_then(decode).ok_or(MALFORMED)?;
        if binding != self.first.binding.as_slice() {
            return Err(Failure::ChannelBinding);
        }
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        if nonce != Some(&self.first.nonce) {
            return Err(Failure::Malformed("the nonce is not that of the exchange"));
        }
        extensions(attributes)?;
        let auth_message = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        let (proven, signature) = self.keys.verify(&auth_message, &proof);
        if proven & self.exists {
            let server_final = format!("v={}", encode(signature.as_slice())).into();
            Ok(State::proven(self.identity, Then::ServerFinal(server_final)))
        } else {
            Err(Failure::Rejected)
        }
    }
}

#[derive(Debug)]
pub(super) enum Client {
    First {
        hash: ScramHash,
        password: Password,
        binding: SecretBytes,
        bare: String,
        nonce: String,
        iterations: (u32, u32),
    },
    /// The salted password is awaited.
    Derive {
        binding: SecretBytes,
        bare: String,
        server_first: String,
        nonce: String,
    },
    Final {
        expected: Signature,
    },
    Verified,
}

/// What the server has to say to be believed.
pub(super) struct Signature(Digest);

impl core::fmt::Debug for Signature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Signature(***)")
    }
}

impl Client {
    pub(super) fn begin(
        config: &ClientConfig,
        channel: &Channel,
        choice: Choice,
        password: Password,
        authzid: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        let mechanism = choice.mechanism();
        let hash = ScramHash::of(mechanism).ok_or(client::Failure::Unsupported)?;
        let nonce: String = config.nonce()?.as_str().into();
        let authcid = prepare(&password.authcid).ok_or(client::Failure::Unprepared)?;
        let bare = format!("n={},r={nonce}", gs2::escape(&authcid));
        let (flag, data) = match channel.bindings().first() {
            Some(own) if mechanism.binds_channel() => (Flag::Bound(own.name()), own.data()),
            None if mechanism.binds_channel() => return Err(client::Failure::Unsupported),
            _ if choice.binding_not_seen() && config.can_bind(channel) => (Flag::NotSeen, &[][..]),
            _ => (Flag::No, &[][..]),
        };
        let header = gs2::write(flag, authzid);
        let first = format!("{header}{bare}").into_bytes();
        let binding = SecretBytes::new([header.as_bytes(), data].concat());
        let iterations = config.iteration_bounds();
        Ok((Some(first), Self::First { hash, password, binding, bare, nonce, iterations }))
    }

    pub(super) fn take(self, challenge: &[u8]) -> Result<client::State, client::Failure> {
        let text = match core::str::from_utf8(challenge) {
            Ok(text) => text,
            Err(_) if self.awaits_proof() => return Err(client::Failure::ServerNotAuthentic),
            Err(_) => return Err(client::Failure::UnexpectedChallenge),
        };
        match self {
            Self::First { hash, password, binding, bare, nonce, iterations } => {
                let (combined, salt, count) =
                    read_server_first(text).ok_or(client::Failure::UnexpectedChallenge)?;
                if combined.len() <= nonce.len() || !combined.starts_with(&nonce) {
                    return Err(client::Failure::ServerNotAuthentic);
                }
                if !(iterations.0..=iterations.1).contains(&count) {
                    return Err(client::Failure::Iterations(count));
                }
                let prepared =
                    prepare(password.password.expose()).ok_or(client::Failure::Unprepared)?;
                let derive = Derive::new(hash, prepared, salt, count);
                let (server_first, nonce) = (text.into(), combined.into());
                let next = Self::Derive { binding, bare, server_first, nonce };
                match &password.salted {
                    Some(salted) if derive.fits(salted) => next.derived(salted),
                    _ => Ok(client::State::Derive(Box::new(derive), Box::new(next))),
                }
            }
            Self::Final { expected } => {
                let signature = text.split(',').next().unwrap_or_default();
                if let Some(error) = signature.strip_prefix("e=") {
                    return Err(client::Failure::ServerError(in_words(error)));
                }
                let signature = signature.strip_prefix("v=").and_then(decode).unwrap_or_default();
                if !expected.0.equals(&signature) {
                    return Err(client::Failure::ServerNotAuthentic);
                }
                Ok(client::State::respond(
                    Vec::new(),
                    client::Client::Scram(Box::new(Self::Verified)),
                ))
            }
            Self::Derive { .. } | Self::Verified => Err(client::Failure::UnexpectedChallenge),
        }
    }

    /// The final message, once the password is salted.
    pub(super) fn derived(self, salted: &SaltedPassword) -> Result<client::State, client::Failure> {
        let Self::Derive { binding, bare, server_first, nonce } = self else {
            return Err(client::Failure::UnexpectedChallenge);
        };
        let without_proof = format!("c={},r={nonce}", encode(binding.as_slice()));
        let (proof, expected) = salted.prove(&format!("{bare},{server_first},{without_proof}"));
        let message = format!("{without_proof},p={}", encode(proof.as_slice()));
        let next = Self::Final { expected: Signature(expected) };
        Ok(client::State::respond(message.into_bytes(), client::Client::Scram(Box::new(next))))
    }

    /// Whether the server is to prove itself next: whatever else it says, it has not.
    pub(super) fn awaits_proof(&self) -> bool {
        matches!(self, Self::Final { .. })
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {
            Self::Verified => Ok(()),
            _ => Err(client::Failure::ServerNotAuthentic),
        }
    }
}

/// `server-error-value` (RFC 5802 §7). One that is not known counts as the last.
fn in_words(error: &str) -> &'static str {
    match error {
        "invalid-encoding" => "the client's message cannot be read",
        "extensions-not-supported-by-server" => "the client demands an extension",
        "invalid-proof" => "the user name or password is wrong",
        "channel-bindings-dont-match" => {
            "client and server are not the ends of one TLS connection: someone may stand between"
        }
        "server-does-support-channel-binding" => {
            "the server has channel binding, which was struck out of its list on the way"
        }
        "channel-binding-not-supported" => "the server has no channel binding",
        "unsupported-channel-binding-type" => "the server has no channel binding of this type",
        "unknown-user" => "there is no such user",
        "invalid-username-encoding" => "the user name cannot be read",
        "no-resources" => "the server has no resources, try again later",
        _ => "it does not say which",
    }
}

/// `server-first-message = [mext ","] nonce "," salt "," iteration-count ["," extensions]`
fn read_server_first(text: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut attributes = text.split(',');
    let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
    let salt = decode(attributes.next()?.strip_prefix("s=")?).filter(|salt| !salt.is_empty())?;
    let count = attributes.next()?.strip_prefix("i=")?;
    extensions(attributes).ok()?;
    Some((nonce, salt, iteration_count(count)?))
}

/// `posit-number`, and what is none because it is too small or too large to count: it is refused for
/// that.
fn iteration_count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
}
