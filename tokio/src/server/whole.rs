//! Handlers that are functions that take a whole message.

use std::future::Future;

use smtp_auth::{
    Reply,
    command::{Mail, Rcpt},
};

use super::{Body, Handler, Peer, Received};

/// A whole message with its envelope. If the [`Handler`] is a function, the server passes a `Message` to it. The
/// [crate's page](crate) contains an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The client that sent the message.
    pub peer: Peer,
    /// The sender's address, or `None` for the null sender of bounces.
    pub from: Option<String>,
    /// The addresses of the recipients. The vector contains at least one address.
    pub to: Vec<String>,
    /// Whether the client has declared that the addresses and the header may contain UTF-8 (SMTPUTF8, RFC 6531).
    pub smtputf8: bool,
    /// The content of the message as the client sent it, with lines that end in CRLF. It does not yet contain the
    /// server's `Received:` header field. Create this field with [`received`](Self::received), and prepend it to the
    /// message.
    pub octets: Vec<u8>,
}

impl Message {
    /// Returns the `Received:` header field (RFC 5321 §4.4). The server does not add this field, so prepend it to every
    /// message that you store or forward.
    ///
    /// ```
    /// # use smtp_auth_tokio::server::Message;
    /// fn stored(message: &Message, id: &str) -> Vec<u8> {
    ///     let mut stored = message.received().id(id).to_string().into_bytes();
    ///     stored.extend_from_slice(&message.octets);
    ///     stored
    /// }
    /// ```
    pub fn received(&self) -> Received<'_> {
        self.peer.received().smtputf8(self.smtputf8)
    }
}

/// A function that takes a whole [`Message`] can be used as a handler.
///
/// The server accepts every sender and every recipient without checking the address. It calls the function once the
/// whole message has arrived. In the function, compare [`Message::from`] with the account's addresses, and refuse the
/// message if the account may not use that sender address. While the function runs, the message counts towards
/// [`Limits::memory`](super::Limits::memory).
///
/// The server accepts the parameters SIZE, AUTH, BODY and SMTPUTF8. It refuses any other parameter with `555`, because
/// the function has no access to other parameters. The server refuses such a parameter even if its configuration lists
/// the extension that the parameter belongs to.
impl<F, R> Handler for F
where
    F: Fn(Message) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Reply>> + Send + 'static,
{
    type Transaction = Message;

    async fn mail(&self, peer: &Peer, mail: Mail<'_>) -> Result<Message, Reply> {
        let known = ["SIZE", "AUTH", "BODY", "SMTPUTF8"];
        let is_known = |name: &str| known.iter().any(|own| own.eq_ignore_ascii_case(name));
        if !mail.parameters().iter().all(|parameter| is_known(parameter.name())) {
            return Err(Reply::PARAMETER_NOT_RECOGNIZED);
        }
        let from = mail.from().map(|from| from.as_str().to_owned());
        let smtputf8 = mail.parameters().get("SMTPUTF8").is_some();
        Ok(Message { peer: peer.clone(), from, to: Vec::new(), smtputf8, octets: Vec::new() })
    }

    async fn rcpt(&self, _: &Peer, message: &mut Message, rcpt: Rcpt<'_>) -> Result<(), Reply> {
        if rcpt.parameters().iter().next().is_some() {
            return Err(Reply::PARAMETER_NOT_RECOGNIZED);
        }
        message.to.push(rcpt.to().as_str().to_owned());
        Ok(())
    }

    async fn data(
        &self,
        _: &Peer,
        mut message: Message,
        mut body: Body<'_>,
    ) -> Result<Reply, Reply> {
        message.octets = body.read_all().await;
        self(message).await
    }
}
