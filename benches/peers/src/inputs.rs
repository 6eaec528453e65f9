//! What every implementation is given, and the other side of SCRAM.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub const USER: &str = "tim";
pub const PASSWORD: &str = "tanstaaftanstaaf";

/// A session's lines, and one of each kind of AUTH.
pub const LINES: [&[u8]; 9] = [
    b"EHLO client.example.org\r\n",
    b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"MAIL FROM:<tim@example.org> SIZE=12345 BODY=8BITMIME AUTH=tim@example.org\r\n",
    b"RCPT TO:<ann@example.net>\r\n",
    b"DATA\r\n",
    b"QUIT\r\n",
    b"STARTTLS\r\n",
];

/// The reply to EHLO, ten lines.
pub const EHLO: &str = "250-mail.example.org at your service\r\n250-SIZE 35882577\r\n\
    250-8BITMIME\r\n250-AUTH LOGIN PLAIN CRAM-MD5\r\n250-ENHANCEDSTATUSCODES\r\n\
    250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250-DSN\r\n250 SMTPUTF8\r\n";

pub const AUTH_PLAIN: &[u8] = b"AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n";
pub const AUTH_LOGIN: [&[u8]; 3] =
    [b"AUTH LOGIN\r\n", b"dGlt\r\n", b"dGFuc3RhYWZ0YW5zdGFhZg==\r\n"];

/// CRAM-MD5: the nonce, the challenge that is made of it, and the AUTH lines with its answer.
pub const CRAM_NONCE: &str = "0123456789abcdef";
pub const CRAM_CHALLENGE: &str = "<0123456789abcdef@mail.example.org>";
pub const AUTH_CRAM: [&[u8]; 2] =
    [b"AUTH CRAM-MD5\r\n", b"dGltIDY4YzEwZjc4YTRiMjk2MmNiNDJkNjgxYjNjOTZhYWU1\r\n"];

pub const SALT: &[u8] = b"0123456789abcdef";
pub const ITERATIONS: u32 = 4096;
pub const CLIENT_NONCE: &str = "fedcba9876543210";
pub const SERVER_NONCE: &str = "0123456789abcdef";

/// What a server says behind a sign-in.
pub const SUCCESS: &[u8] = b"235 2.7.0 Authentication succeeded\r\n";

pub fn without_crlf(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r\n").expect("each line has its CRLF")
}

/// Appends the line of a challenge.
pub fn write_challenge(challenge: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"334 ");
    let start = out.len();
    out.resize(start + challenge.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(challenge, &mut out[start..]).expect("there is room");
    out.extend_from_slice(b"\r\n");
}

pub fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).expect("ASCII")
}

/// The password, salted.
pub fn salted_password() -> [u8; 32] {
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(PASSWORD.as_bytes(), SALT, ITERATIONS, &mut salted);
    salted
}

pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    keyed(key).chain_update(message).finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

/// The other side of an exchange of SCRAM-SHA-256, with its keys at hand. It says the least that
/// the side under measurement needs.
pub struct OtherSide {
    client_key: [u8; 32],
    stored: Hmac<Sha256>,
    server: Hmac<Sha256>,
}

impl OtherSide {
    pub fn new() -> Self {
        let salted = salted_password();
        let client_key = hmac_sha256(&salted, b"Client Key");
        let stored = keyed(&Sha256::digest(client_key));
        let server = keyed(&hmac_sha256(&salted, b"Server Key"));
        Self { client_key, stored, server }
    }

    /// What a client says to a server's first message; `gs2` is `n` or `y`.
    pub fn client_final(&self, gs2: char, server_first: &str) -> String {
        let nonce = field(server_first, "r=");
        let bare = format!("c={},r={nonce}", STANDARD.encode(format!("{gs2},,")));
        let signed = format!("n={USER},r={CLIENT_NONCE},{server_first},{bare}");
        let mut proof: [u8; 32] =
            self.stored.clone().chain_update(signed).finalize().into_bytes().into();
        proof.iter_mut().zip(self.client_key).for_each(|(octet, key)| *octet ^= key);
        format!("{bare},p={}", STANDARD.encode(proof))
    }

    /// What a server says to a client's first message.
    pub fn server_first(client_first: &str) -> String {
        let nonce = field(client_first, "r=");
        format!("r={nonce}{SERVER_NONCE},s={},i={ITERATIONS}", STANDARD.encode(SALT))
    }

    /// What a server says to a client's final message: its signature.
    pub fn server_final(&self, client_first: &str, client_final: &str) -> String {
        let bare = &client_first["n,,".len()..];
        let (without_proof, _) = client_final.rsplit_once(",p=").expect("a proof");
        let signed = format!("{bare},{},{without_proof}", Self::server_first(client_first));
        let signature = self.server.clone().chain_update(signed).finalize().into_bytes();
        format!("v={}", STANDARD.encode(signature))
    }
}

fn field<'a>(message: &'a str, name: &str) -> &'a str {
    message.split(',').find_map(|part| part.strip_prefix(name)).expect("the field is there")
}
