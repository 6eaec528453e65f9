//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither side reveals it.

use alloc::{boxed::Box, format, sync::Arc, vec::Vec};
use core::{fmt, mem, ops::Range};

use super::{
    Answer, Channel, ChannelBinding, Failure, Mechanism, Nonce, ScramHash, ScramKeys, ScramKeysFor,
    client::{self, Config as ClientConfig, Derive, Password},
    gs2::{self, Flag, Header, field, last_or_field},
    names::{Authzid, Claim, Rules},
    prepare,
    query::Verdict,
    scram_keys::{Digest, Kind, SaltedPassword},
    server::{Config, Next, Said, State, Then},
};
use crate::{
    base64::{decode, encode},
    decimal::decimal,
    secret::{SecretBytes, apart},
};

#[derive(Debug)]
pub(super) enum Server {
    First(Terms),
    Final(Proof),
}

/// The requirements on the client's first message.
#[derive(Debug)]
pub(super) struct Terms {
    config: Arc<Config>,
    kind: Kind,
    /// The bindings that the client may use.
    bindings: Vec<ChannelBinding>,
    /// Whether the server offers channel binding. A client that supports channel binding must then have seen
    /// the offer.
    binding_on_offer: bool,
}

/// The state of the exchange while the application looks up the account's keys.
#[derive(Debug)]
pub(super) struct AwaitsKeys {
    config: Arc<Config>,
    message: AuthMessage,
}

/// The data that the client's proof is verified with.
#[derive(Debug)]
pub(super) struct Proof {
    /// The name, folded.
    authcid: Box<str>,
    account: Option<Box<Box<str>>>,
    authzid: Option<Box<Authzid>>,
    keys: ScramKeys,
    verdict: Verdict<()>,
    bound: bool,
    /// Positions in the `AuthMessage`, whose text is in the memory of the challenge.
    places: Places,
}

/// `AuthMessage = client-first-message-bare "," server-first-message "," client-final-message-without-proof`
/// (RFC 5802 §3), as far as the exchange has come. In front of it is the `channel-binding` that the last part
/// has to begin with.
pub(super) struct AuthMessage {
    text: Vec<u8>,
    places: Places,
}

/// Positions in the text.
#[derive(Clone, Debug)]
struct Places {
    /// The start of the `AuthMessage`.
    start: u32,
    /// The nonce: first the client's, later the combined nonce of both sides.
    nonce: Range<u32>,
}

impl Places {
    /// `u32` is enough, because messages are short.
    fn new(start: usize, nonce: Range<usize>) -> Self {
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(start), nonce: place(nonce.start)..place(nonce.end) }
    }

    fn start(&self) -> usize {
        self.start as usize
    }

    fn nonce(&self) -> Range<usize> {
        self.nonce.start as usize..self.nonce.end as usize
    }
}

/// The space in octets for everything that follows the client's first message, with nonces and a salt of common
/// lengths, so that the text need not grow.
const ROOM: usize = 192;

impl AuthMessage {
    /// Begins the text with `client-first-message = gs2-header client-first-message-bare`. `nonce` is a range
    /// within the latter.
    fn new(header: &str, bound_to: &[u8], bare: &str, nonce: Range<usize>) -> Self {
        let mut text =
            Vec::with_capacity(ROOM + 2 * (header.len() + bare.len()) + 3 * bound_to.len());
        text.extend_from_slice(b"c=");
        match bound_to {
            [] => encode(header.as_bytes(), &mut text),
            // `cbind-input = gs2-header [cbind-data]`
            data => encode(&[header.as_bytes(), data].concat(), &mut text),
        }
        let start = text.len();
        text.extend_from_slice(bare.as_bytes());
        let nonce = start + nonce.start..start + nonce.end;
        Self { text, places: Places::new(start, nonce) }
    }

    /// Moves the text out, and leaves it empty here.
    fn take(&mut self) -> Self {
        Self { text: mem::take(&mut self.text), places: self.places.clone() }
    }

    fn as_slice(&self) -> &[u8] {
        self.text.get(self.places.start()..).unwrap_or_default()
    }

    fn channel_binding(&self) -> &[u8] {
        self.text.get(..self.places.start()).unwrap_or_default()
    }

    fn nonce(&self) -> &[u8] {
        self.text.get(self.places.nonce()).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) {
        self.text.extend_from_slice(part);
    }
}

impl fmt::Debug for AuthMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthMessage(***)")
    }
}

const NOT_UTF8: Failure = Failure::Malformed("it is not UTF-8");

impl Server {
    pub(super) fn begin(
        config: &Arc<Config>,
        channel: &Channel,
        mechanism: Mechanism,
    ) -> Result<(&'static [u8], Self), Failure> {
        let bound = mechanism.binds_channel();
        let terms = Terms {
            config: Arc::clone(config),
            kind: Kind::of(mechanism).ok_or(Failure::Unsupported)?,
            bindings: if bound { channel.bindings().to_vec() } else { Vec::new() },
            binding_on_offer: config.offers_binding(channel),
        };
        Ok((&[], Self::First(terms)))
    }

    pub(super) fn take(&mut self, rules: &Rules, said: Said, response: SecretBytes) -> State {
        match self {
            Self::First(terms) => terms.client_first(rules, response).into(),
            Self::Final(proof) => match apart(2, || proof.client_final(said, response)) {
                Ok(server_final) => proof.proven(rules, server_final),
                Err(failure) => State::refused(failure, self.claim()),
            },
        }
    }

    /// Returns the name that the client claimed, once it has sent one.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        match self {
            Self::First(_) => None,
            Self::Final(proof) => Some(proof.claim()),
        }
    }
}

impl Terms {
    /// `client-first-message = gs2-header [mext ","] username "," nonce ["," extensions]`
    fn client_first(&self, rules: &Rules, response: SecretBytes) -> Result<State, Failure> {
        const ORDER: Failure =
            Failure::Malformed("the attributes of SCRAM are not in the right order");
        let message = response.into_text().ok_or(NOT_UTF8)?;
        let header = Header::read(message.expose())?;
        let bound_to = self.binding(header.flag)?;
        let (username, rest) = field(header.rest).ok_or(ORDER)?;
        if username.starts_with("m=") {
            return Err(Failure::Malformed("it requires an extension that is not supported"));
        }
        let username = username.strip_prefix("n=").ok_or(ORDER)?;
        let (nonce, rest) = last_or_field(rest);
        let nonce = nonce.strip_prefix("r=").ok_or(ORDER)?;
        if !is_nonce(nonce) {
            return Err(Failure::Malformed("the nonce is empty, too long, or not printable"));
        }
        extensions(rest)?;
        let in_bare = "n=,r=".len() + username.len();
        let nonce = in_bare..in_bare + nonce.len();
        let auth_message = AuthMessage::new(header.text, bound_to, header.rest, nonce);
        let authzid = header.authzid.map(|name| rules.authzid(&name)).transpose()?;
        let authcid = gs2::saslname(username)?;
        let folded = rules.fold(&authcid)?;
        let authcid = authcid.into();
        let awaits = AwaitsKeys { config: Arc::clone(&self.config), message: auth_message };
        Ok(State::ScramKeys(ScramKeysFor::new(authcid, folded, authzid, self.kind), awaits))
    }

    /// Returns the data that the client binds to (RFC 5802 §6).
    fn binding(&self, flag: Flag<'_>) -> Result<&[u8], Failure> {
        match (self.kind.bound, flag) {
            (true, Flag::Bound(name)) => {
                let binding = self.bindings.iter().find(|own| own.name() == name);
                binding.map(ChannelBinding::data).ok_or(Failure::ChannelBinding)
            }
            (true, Flag::No | Flag::NotSeen) => {
                Err(Failure::Malformed("this mechanism requires channel binding"))
            }
            (false, Flag::Bound(_)) => {
                Err(Failure::Malformed("this mechanism does not support channel binding"))
            }
            (false, Flag::NotSeen) if self.binding_on_offer => Err(Failure::Downgrade),
            (false, Flag::No | Flag::NotSeen) => Ok(&[]),
        }
    }
}

/// `printable = %x21-2B / %x2D-7E`
fn is_nonce(text: &str) -> bool {
    // This has no early return, so that the compiler can check many octets at a time.
    let good = |octet| matches!(octet, b'!'..=b'~') && octet != b',';
    (1..=1024).contains(&text.len()) && text.bytes().fold(true, |all, octet| all & good(octet))
}

/// `attr-val = ALPHA "=" value`. Unknown attributes are ignored (RFC 5802 §5.1).
fn extensions(attributes: Option<&str>) -> Result<(), Failure> {
    for attribute in attributes.into_iter().flat_map(|all| all.split(',')) {
        match attribute.as_bytes() {
            [b'a' | b'm' | b'n' | b'r' | b'c' | b'p' | b's' | b'i' | b'v' | b'e', b'=', ..] => {
                return Err(Failure::Malformed("an attribute of SCRAM is repeated or misplaced"));
            }
            // `value = 1*value-char`
            [letter, b'=', value @ ..]
                if letter.is_ascii_alphabetic() && !value.is_empty() && !value.contains(&0) => {}
            _ => return Err(Failure::Malformed("an extension of SCRAM is malformed")),
        }
    }
    Ok(())
}

impl AwaitsKeys {
    /// Creates a fresh nonce from the configured source.
    pub(super) fn nonce(&self) -> Result<Nonce, Failure> {
        self.config.nonce()
    }

    /// `server-first-message = nonce "," salt "," iteration-count`, once the application has answered. Against
    /// user enumeration, an account that does not exist or is locked is treated the same, up to the proof.
    pub(super) fn server_first(
        &mut self,
        nonce: Result<Nonce, Failure>,
        ask: &mut ScramKeysFor,
        answer: Answer<ScramKeys>,
    ) -> State {
        let (Kind { hash, bound }, mut message) = (ask.kind, self.message.take());
        let decoys = self.config.decoys(hash).ok_or(Failure::TempFail);
        let secret = answer.verdict.secret(ask.kind.mechanism());
        let (own_nonce, decoys, found, verdict) = match (nonce, decoys, secret) {
            (Ok(nonce), Ok(decoys), Ok((found, verdict))) => (nonce, decoys, found, verdict),
            (Err(failure), ..) | (_, Err(failure), _) | (.., Err(failure)) => {
                let (authcid, account) = (ask.take_authcid().into(), answer.account);
                return State::refused(failure, Some(Claim { authcid, account }));
            }
        };
        // The decoy salt is computed for every account, so that the time does not reveal which accounts exist.
        let decoy_salt = decoys.salt(ask.authcid());
        let (found, verdict) = match found.filter(|keys| keys.hash() == hash) {
            None if verdict == Verdict::Accept(()) => (None, Verdict::NoSecret),
            found => (found, verdict),
        };
        let (salt, iterations) = match &found {
            Some(keys) => (keys.salt(), keys.iterations()),
            None => (&decoy_salt[..], self.config.iterations()),
        };
        message.push(b",r=");
        let start = message.text.len() - "r=".len();
        message.text.extend_from_within(message.places.nonce());
        message.push(own_nonce.as_str().as_bytes());
        let nonce = start + "r=".len()..message.text.len();
        message.places = Places::new(message.places.start(), nonce);
        message.push(b",s=");
        encode(salt, &mut message.text);
        message.push(b",i=");
        decimal(iterations.into(), &mut message.text);
        let AuthMessage { text, places } = message;
        let (authcid, authzid, account) = (ask.take_authcid(), ask.authzid.take(), answer.account);
        let keys = found.unwrap_or_else(|| decoys.keys().clone());
        let proof = Proof { authcid, account, authzid, keys, verdict, bound, places };
        State::challenge_behind(start, text, Next::Scram(Server::Final(proof)))
    }
}

impl Proof {
    /// `client-final-message = channel-binding "," nonce ["," extensions] "," proof`
    ///
    /// Returns the server's own proof if the client's proof is right.
    fn client_final(&mut self, said: Said, response: SecretBytes) -> Result<Vec<u8>, Failure> {
        const MALFORMED: Failure = Failure::Malformed("the final message of SCRAM is malformed");
        let mut auth_message = AuthMessage { text: said.into_owned(), places: self.places.clone() };
        let message = core::str::from_utf8(response.as_slice()).map_err(|_| NOT_UTF8)?;
        let (without_proof, proof) = message.rsplit_once(',').ok_or(MALFORMED)?;
        let proof = proof.strip_prefix("p=").and_then(Digest::from_base64).ok_or(MALFORMED)?;
        let (binding, rest) = field(without_proof).ok_or(MALFORMED)?;
        if !binding.starts_with("c=") {
            return Err(MALFORMED);
        }
        if binding.as_bytes() != auth_message.channel_binding() {
            return Err(Failure::ChannelBinding);
        }
        let (nonce, rest) = last_or_field(rest);
        let nonce = nonce.strip_prefix("r=").map(str::as_bytes);
        if nonce != Some(auth_message.nonce()) {
            return Err(Failure::Malformed("the nonce does not belong to this exchange"));
        }
        extensions(rest)?;
        auth_message.push(b",");
        auth_message.push(without_proof.as_bytes());
        let right = self.keys.verify(auth_message.as_slice(), &proof);
        self.verdict.with_proof(right, self.mechanism())?;
        let signature = self.keys.server_signature(auth_message.as_slice());
        let mut server_final = auth_message.text;
        server_final.clear();
        server_final.extend_from_slice(b"v=");
        encode(signature.as_slice(), &mut server_final);
        Ok(server_final)
    }

    fn proven(&mut self, rules: &Rules, server_final: Vec<u8>) -> State {
        let (claim, authzid, mechanism) = (self.claim(), self.authzid.take(), self.mechanism());
        State::proven(rules, claim, authzid, mechanism, Then::ServerFinal(server_final.into()))
    }

    fn mechanism(&self) -> Mechanism {
        Kind { hash: self.keys.hash(), bound: self.bound }.mechanism()
    }

    fn claim(&mut self) -> Claim {
        let authcid = mem::take(&mut self.authcid).into();
        Claim { authcid, account: self.account.take() }
    }
}

#[derive(Debug)]
pub(super) enum Client {
    First { hash: ScramHash, password: Arc<Password>, message: AuthMessage, iterations: (u32, u32) },
    Final { expected: Signature },
    Verified,
}

impl AuthMessage {
    /// Writes the client's final message, once the password has been salted.
    pub(super) fn client_final(mut self, salted: &SaltedPassword) -> client::State {
        self.push(b",");
        let start = self.text.len();
        self.text.extend_from_within(..self.places.start());
        self.push(b",r=");
        self.text.extend_from_within(self.places.nonce());
        let mut text = Vec::new();
        let expected = apart(2, || {
            let proof = salted.prove(self.as_slice());
            let expected = Signature(salted.server_signature(self.as_slice()));
            text = self.text;
            drop(text.drain(..start));
            text.extend_from_slice(b",p=");
            encode(proof.as_slice(), &mut text);
            expected
        });
        client::State::respond(text, client::Client::Scram(Box::new(Client::Final { expected })))
    }
}

/// The signature with which the server has to prove its identity.
pub(super) struct Signature(Digest);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(***)")
    }
}

impl Client {
    pub(super) fn begin(
        config: &ClientConfig,
        channel: &Channel,
        mechanism: Mechanism,
        supports_binding: bool,
        password: Arc<Password>,
        authzid: Option<&str>,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        let hash = ScramHash::of(mechanism).ok_or(client::Failure::Unsupported)?;
        let nonce = config.nonce()?;
        let authcid = prepare(&password.authcid).ok_or(client::Failure::Unprepared)?;
        let (flag, data) = match channel.bindings().first() {
            Some(own) if mechanism.binds_channel() => (Flag::Bound(own.name()), own.data()),
            None if mechanism.binds_channel() => return Err(client::Failure::Unsupported),
            _ if supports_binding => (Flag::NotSeen, &[][..]),
            _ => (Flag::No, &[][..]),
        };
        let header = gs2::write(flag, authzid);
        let first = format!("{header}n={},r={}", gs2::escape(&authcid), nonce.as_str());
        let bare = first.get(header.len()..).unwrap_or_default();
        let nonce = bare.len() - nonce.as_str().len()..bare.len();
        let message = AuthMessage::new(&header, data, bare, nonce);
        let iterations = config.iteration_bounds();
        Ok((Some(first.into_bytes()), Self::First { hash, password, message, iterations }))
    }

    pub(super) fn take(self, challenge: &[u8]) -> Result<client::State, client::Failure> {
        let Ok(text) = core::str::from_utf8(challenge) else {
            return Err(self.unreadable());
        };
        match self {
            Self::First { hash, password, mut message, iterations } => {
                let (combined, salt, count) =
                    read_server_first(text).ok_or(client::Failure::MalformedServerMessage)?;
                let own = message.nonce();
                if combined.len() <= own.len() || !combined.as_bytes().starts_with(own) {
                    return Err(client::Failure::ServerNotAuthentic);
                }
                if !(iterations.0..=iterations.1).contains(&count) {
                    return Err(client::Failure::Iterations(count));
                }
                let prepared =
                    prepare(password.password.expose()).ok_or(client::Failure::Unprepared)?;
                message.push(b",");
                let nonce = message.text.len() + "r=".len();
                message.places = Places::new(message.places.start(), nonce..nonce + combined.len());
                message.push(challenge);
                let derive =
                    Derive::new(hash, prepared.into_owned(), SecretBytes::new(salt), count);
                match &password.salted {
                    Some(salted) if derive.fits(salted) => Ok(message.client_final(salted)),
                    _ => Ok(client::State::Derive(Box::new(derive), message)),
                }
            }
            Self::Final { expected } => {
                let signature = text.split(',').next().unwrap_or_default();
                if let Some(error) = signature.strip_prefix("e=") {
                    return Err(client::Failure::ServerError(in_words(error)));
                }
                let signature = signature.strip_prefix("v=").and_then(Digest::from_base64);
                if !signature.is_some_and(|signature| expected.0.equals(&signature)) {
                    return Err(client::Failure::ServerNotAuthentic);
                }
                Ok(client::State::respond(
                    Vec::new(),
                    client::Client::Scram(Box::new(Self::Verified)),
                ))
            }
            Self::Verified => Err(client::Failure::MalformedServerMessage),
        }
    }

    /// Returns whether the server has to prove its identity with its next message.
    pub(super) fn awaits_proof(&self) -> bool {
        matches!(self, Self::Final { .. })
    }

    /// Returns whether the client has sent its proof.
    pub(super) fn has_proven(&self) -> bool {
        matches!(self, Self::Final { .. } | Self::Verified)
    }

    /// Returns the failure for a message of the server that cannot be read.
    pub(super) fn unreadable(&self) -> client::Failure {
        match self {
            Self::Final { .. } => client::Failure::ServerNotAuthentic,
            Self::First { .. } | Self::Verified => client::Failure::MalformedServerMessage,
        }
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {
            Self::Verified => Ok(()),
            _ => Err(client::Failure::ServerNotAuthentic),
        }
    }
}

/// Describes a `server-error-value` (RFC 5802 §7). An unknown value counts as `other-error`.
fn in_words(error: &str) -> &'static str {
    match error {
        "invalid-encoding" => "the server cannot read the client's message",
        "extensions-not-supported-by-server" => {
            "the client requires an extension that the server does not support"
        }
        "invalid-proof" => "the user name or password is wrong",
        "channel-bindings-dont-match" => {
            "client and server are not the two ends of one TLS connection: there may be a man-in-the-middle"
        }
        "server-does-support-channel-binding" => {
            "the server supports channel binding, but a man-in-the-middle may have removed it from the list of mechanisms"
        }
        "channel-binding-not-supported" => "the server does not support channel binding",
        "unsupported-channel-binding-type" => {
            "the server does not support this type of channel binding"
        }
        "unknown-user" => "there is no such user",
        "invalid-username-encoding" => "the server cannot read the user name",
        "no-resources" => "the server is out of resources: try again later",
        _ => "the server does not say which error",
    }
}

/// `server-first-message = [mext ","] nonce "," salt "," iteration-count ["," extensions]`
fn read_server_first(text: &str) -> Option<(&str, Vec<u8>, u32)> {
    let (nonce, rest) = field(text)?;
    let nonce = nonce.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
    let (salt, rest) = field(rest)?;
    let salt = decode(salt.strip_prefix("s=")?.as_bytes()).filter(|salt| !salt.is_empty())?;
    let (count, rest) = last_or_field(rest);
    let count = count.strip_prefix("i=")?;
    extensions(rest).ok()?;
    Some((nonce, salt, iteration_count(count)?))
}

/// Reads a `posit-number`. `0` and numbers that are too large for the type are also read, because they are then
/// refused with their own failure.
fn iteration_count(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
}
