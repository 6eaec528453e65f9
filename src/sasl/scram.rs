//! SCRAM (RFC 5802, RFC 7677): both prove that they know the password, and neither shows it.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use super::{
    Answer, Failure, Identity, Mechanism, ScramHash, ScramKeys, ScramKeysFor, check_name,
    client::{self, Config as ClientConfig, Credentials, Derive},
    prepare,
    scram_keys::{Digest, SaltedPassword, decode, encode, escape, positive, unescape},
    server::{Config, State, Then},
};
use crate::secret::SecretBytes;

#[derive(Debug)]
pub(super) enum Server {
    First(ScramHash),
    /// Some 300 octets: boxed so that the other mechanisms do not carry them.
    Final(Box<Proof>),
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
    gs2_header: Box<str>,
    bare: Box<str>,
    nonce: Box<str>,
}

impl Server {
    pub(super) fn begin(_: &Config, hash: Option<ScramHash>) -> Result<(Vec<u8>, Self), Failure> {
        Ok((Vec::new(), Self::First(hash.ok_or(Failure::Unsupported)?)))
    }

    pub(super) fn take(self, _: Vec<u8>, response: SecretBytes) -> Result<State, Failure> {
        let text = core::str::from_utf8(response.as_slice())
            .map_err(|_| Failure::Malformed("it is not UTF-8"))?;
        match self {
            Self::First(hash) => client_first(hash, text),
            Self::Final(proof) => proof.client_final(text),
        }
    }
}

/// `client-first-message = gs2-cbind-flag "," [authzid] "," [mext ","] username "," nonce
/// ["," extensions]`
fn client_first(hash: ScramHash, text: &str) -> Result<State, Failure> {
    const ORDER: Failure = Failure::Malformed("the attributes of SCRAM are not in their order");
    let mut fields = text.splitn(3, ',');
    let (Some(flag), Some(authzid), Some(bare)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(ORDER);
    };
    match flag {
        "n" | "y" => {}
        _ => return Err(Failure::Malformed("this mechanism has no channel binding")),
    }
    let authzid = match authzid {
        "" => None,
        _ => Some(name(authzid.strip_prefix("a=").ok_or(ORDER)?)?),
    };
    let mut attributes = bare.split(',');
    let username = attributes.next().unwrap_or_default();
    if username.starts_with("m=") {
        return Err(Failure::Malformed("it demands an extension that nobody has"));
    }
    let authcid = name(username.strip_prefix("n=").ok_or(ORDER)?)?;
    let authcid = prepare(&authcid).ok_or(Failure::Malformed("the user name is not allowed"))?;
    check_name(&authcid)?;
    let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(ORDER)?;
    if !is_nonce(nonce) {
        return Err(Failure::Malformed("the nonce is empty, too long, or not printable"));
    }
    extensions(attributes)?;
    let first = First {
        hash,
        gs2_header: text.get(..text.len() - bare.len()).unwrap_or_default().into(),
        bare: bare.into(),
        nonce: nonce.into(),
    };
    let identity = Identity {
        authcid: authcid.into(),
        authzid: authzid.map(Into::into),
        mechanism: hash.mechanism(),
    };
    Ok(State::ScramKeys(Box::new(ScramKeysFor::new(identity, hash)), Box::new(first)))
}

fn name(text: &str) -> Result<String, Failure> {
    let name = unescape(text).ok_or(Failure::Malformed("a name is empty or escaped wrongly"))?;
    check_name(&name)?;
    Ok(name)
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
    // Made for everybody, so that it takes no longer for one than for another.
    let of_nobody = config.keys_of_nobody(first.hash, &identity.authcid);
    let (keys, exists) = match found {
        Answer::Accept(keys) if keys.hash() == first.hash => (keys, true),
        Answer::TempFail => return Err(Failure::TempFail),
        Answer::Accept(_) | Answer::Reject => (of_nobody, false),
    };
    let server_first = format!("r={nonce},s={},i={}", encode(keys.salt()), keys.iterations());
    let first = First { nonce: nonce.into(), ..first };
    let challenge = server_first.clone();
    let proof = Proof { identity, keys, exists, first, server_first };
    Ok(State::scram(challenge, Server::Final(Box::new(proof))))
}

impl Proof {
    /// `client-final-message = channel-binding "," nonce ["," extensions] "," proof`
    fn client_final(self, text: &str) -> Result<State, Failure> {
        const MALFORMED: Failure = Failure::Malformed("the final message of SCRAM is malformed");
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let proof = decode(proof).ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        if binding != Some(&encode(self.first.gs2_header.as_bytes())) {
            return Err(Failure::Malformed("the channel binding is not that of the first message"));
        }
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        if nonce != Some(&self.first.nonce) {
            return Err(Failure::Malformed("the nonce is not that of the exchange"));
        }
        extensions(attributes)?;
        let auth_message = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        let (proven, signature) = self.keys.verify(&auth_message, &proof);
        if proven & self.exists {
            let server_final = format!("v={}", encode(signature.as_slice()));
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
        bare: String,
        nonce: String,
        iterations: (u32, u32),
    },
    /// The salted password is awaited.
    Derive {
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

fn gs2_header(credentials: &Credentials) -> String {
    let authzid = credentials.authzid().map(|authzid| format!("a={}", escape(authzid)));
    format!("n,{},", authzid.unwrap_or_default())
}

impl Client {
    pub(super) fn begin(
        config: &ClientConfig,
        mechanism: Mechanism,
        credentials: &Credentials,
    ) -> Result<(Option<Vec<u8>>, Self), client::Failure> {
        let hash = ScramHash::of(mechanism).ok_or(client::Failure::Unsupported)?;
        let nonce: String = config.nonce()?.as_str().into();
        let authcid = prepare(credentials.authcid()).ok_or(client::Failure::Unprepared)?;
        let bare = format!("n={},r={nonce}", escape(&authcid));
        let first = format!("{}{bare}", gs2_header(credentials)).into_bytes();
        Ok((Some(first), Self::First { hash, bare, nonce, iterations: config.iteration_bounds() }))
    }

    /// The response, or what it takes to make it.
    pub(super) fn take(
        self,
        credentials: &Credentials,
        challenge: &[u8],
    ) -> Result<client::Taken<Self>, client::Failure> {
        let text =
            core::str::from_utf8(challenge).map_err(|_| client::Failure::UnexpectedChallenge)?;
        match self {
            Self::First { hash, bare, nonce, iterations } => {
                let (combined, salt, count) =
                    read_server_first(text).ok_or(client::Failure::UnexpectedChallenge)?;
                if combined.len() <= nonce.len() || !combined.starts_with(&nonce) {
                    return Err(client::Failure::ServerNotAuthentic);
                }
                if !(iterations.0..=iterations.1).contains(&count) {
                    return Err(client::Failure::Iterations(count));
                }
                let password =
                    prepare(credentials.secret().expose()).ok_or(client::Failure::Unprepared)?;
                let derive = Derive::new(hash, password, salt, count);
                let next = Self::Derive { bare, server_first: text.into(), nonce: combined.into() };
                Ok(client::Taken::Derive(derive, next))
            }
            Self::Final { expected } => {
                let signature = text.split(',').next().unwrap_or_default();
                if signature.starts_with("e=") {
                    return Err(client::Failure::ServerError);
                }
                let signature = signature.strip_prefix("v=").and_then(decode).unwrap_or_default();
                if !expected.0.equals(&signature) {
                    return Err(client::Failure::ServerNotAuthentic);
                }
                Ok(client::Taken::Response(Vec::new(), Self::Verified))
            }
            Self::Derive { .. } | Self::Verified => Err(client::Failure::UnexpectedChallenge),
        }
    }

    /// The final message, once the password is salted.
    pub(super) fn derived(
        self,
        credentials: &Credentials,
        salted: &SaltedPassword,
    ) -> Result<(Vec<u8>, Self), client::Failure> {
        let Self::Derive { bare, server_first, nonce } = self else {
            return Err(client::Failure::UnexpectedChallenge);
        };
        let binding = encode(gs2_header(credentials).as_bytes());
        let without_proof = format!("c={binding},r={nonce}");
        let (proof, expected) = salted.prove(&format!("{bare},{server_first},{without_proof}"));
        let message = format!("{without_proof},p={}", encode(proof.as_slice()));
        Ok((message.into_bytes(), Self::Final { expected: Signature(expected) }))
    }

    pub(super) fn finish(self) -> Result<(), client::Failure> {
        match self {
            Self::Verified => Ok(()),
            _ => Err(client::Failure::ServerNotAuthentic),
        }
    }
}

/// `server-first-message = [mext ","] nonce "," salt "," iteration-count ["," extensions]`
fn read_server_first(text: &str) -> Option<(&str, Vec<u8>, u32)> {
    let mut attributes = text.split(',');
    let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
    let salt = decode(attributes.next()?.strip_prefix("s=")?).filter(|salt| !salt.is_empty())?;
    let count = attributes.next()?.strip_prefix("i=")?;
    extensions(attributes).ok()?;
    Some((nonce, salt, positive(count)?))
}
