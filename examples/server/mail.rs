//! Handles messages, and logs what the server does.

use std::{fmt::Display, io, net::SocketAddr};

use smtp_auth_tokio::{
    client::{BodyType, Envelope},
    server::{Body, Handler, Observer, Peer},
    smtp_auth::{
        Identity, Reply,
        command::{Mail, MailAuth, Mailbox, Rcpt},
        server::AuthFailed,
    },
};

use crate::{log, maildir::Maildir, relay::Relay, senders::Senders};

const NOT_YOURS: Reply = Reply::constant("553 5.7.1 This account may not send from that address");
const CANNOT_BE_RELAYED: Reply = Reply::constant("553 5.1.3 An address cannot be relayed");

pub(crate) struct Delivery {
    /// The server's name.
    pub(crate) hostname: String,
    pub(crate) senders: Senders,
    pub(crate) maildir: Maildir,
    pub(crate) relay: Option<Relay>,
}

pub(crate) struct Transaction {
    /// `None` is the null sender.
    from: Option<String>,
    recipients: Vec<String>,
    smtputf8: bool,
    submitter: MailAuth<'static>,
}

impl Handler for Delivery {
    type Transaction = Transaction;

    async fn mail(&self, peer: &Peer, mail: Mail<'_>) -> Result<Transaction, Reply> {
        let account = peer.identity().ok_or(Reply::AUTHENTICATION_REQUIRED)?.acts_as();
        if !self.senders.may_use(account, mail.from()) {
            return Err(NOT_YOURS);
        }
        Ok(Transaction {
            from: mail.from().map(|from| from.as_str().to_owned()),
            recipients: Vec::new(),
            smtputf8: mail.parameters().get("SMTPUTF8").is_some(),
            submitter: self.submitter(account, &mail),
        })
    }

    async fn rcpt(&self, _: &Peer, mail: &mut Transaction, rcpt: Rcpt<'_>) -> Result<(), Reply> {
        mail.recipients.push(rcpt.to().as_str().to_owned());
        Ok(())
    }

    /// Stores or relays the message. If this fails or is cancelled, dropping the file deletes it.
    async fn data(
        &self,
        peer: &Peer,
        mail: Transaction,
        mut body: Body<'_>,
    ) -> Result<Reply, Reply> {
        let (peer, smtputf8) = (peer.clone(), mail.smtputf8);
        let received = move |id: &str| peer.received().smtputf8(smtputf8).id(id).to_string();
        // Only the server that makes the final delivery adds this field (RFC 5321 §4.4).
        let return_path = match (&self.relay, &mail.from) {
            (Some(_), _) => String::new(),
            (None, from) => {
                format!("Return-Path: <{}>\r\n", from.as_deref().unwrap_or_default())
            }
        };
        let mut file = self.maildir.draft(move |id| return_path + &received(id));
        let mut is_ascii = true;
        while let Some(piece) = body.next().await {
            is_ascii &= self.relay.is_none() || piece.is_ascii();
            file.push(piece).await?;
        }
        let Some(relay) = &self.relay else {
            file.store().await?;
            return Ok(Reply::OK.with_text("Message stored"));
        };
        let (path, octets) = file.finish().await?;
        let envelope = self.envelope(&mail).ok_or(CANNOT_BE_RELAYED)?.size(octets);
        let body = if is_ascii { envelope } else { envelope.body(BodyType::EightBitMime) };
        relay.send(&body, &mail.submitter, &path).await
    }
}

impl Delivery {
    /// Returns the submitter of the message (RFC 4954 §5). An account may name a submitter whose address it may use;
    /// any other name becomes `<>`. If the client names none, the account is the submitter, provided its name is a
    /// mailbox.
    fn submitter(&self, account: &str, mail: &Mail<'_>) -> MailAuth<'static> {
        let submitter = match mail.auth() {
            Ok(None) => MailAuth::new(account).ok(),
            // The session has already checked its syntax.
            claimed => claimed.ok().flatten().filter(|claimed| {
                let own = claimed.mailbox().and_then(|text| Mailbox::parse(text).ok());
                own.is_some_and(|own| self.senders.may_use(account, Some(own)))
            }),
        };
        submitter.map_or(MailAuth::UNKNOWN, MailAuth::into_owned)
    }

    /// Creates an envelope that is sent to all recipients or to none, because the client receives one reply for all of
    /// them.
    fn envelope(&self, mail: &Transaction) -> Option<Envelope> {
        let to = mail.recipients.iter().map(|to| match Mailbox::parse(to) {
            Ok(_) => to.clone(),
            // The only mailbox without a domain is `Postmaster`, which belongs to this server.
            Err(_) => format!("{to}@{}", self.hostname),
        });
        let to: Vec<String> = to.collect();
        let envelope = Envelope::new(mail.from.as_deref(), to.iter().map(String::as_str)).ok()?;
        Some(envelope.smtputf8(mail.smtputf8).every_recipient(true))
    }
}

/// Logs events with the address of the client.
pub(crate) struct Log;

impl Observer for Log {
    fn turned_away(&self, address: Option<SocketAddr>, reply: &Reply) {
        log_of(address, format_args!("turned away: {reply}"));
    }

    fn authenticated(&self, peer: &Peer, identity: &Identity) {
        let (name, mechanism) = (identity.acts_as(), identity.mechanism());
        log_of(peer.address(), format_args!("signed in as {name:?} with {mechanism}"));
    }

    /// Does not log the name, because some people type their password in its place.
    fn auth_failed(&self, peer: &Peer, failed: &AuthFailed<'_>, is_limited: bool) {
        let why = if is_limited { " (rate limited)" } else { "" };
        log_of(peer.address(), format_args!("not signed in: {failed}{why}"));
    }

    fn message(&self, peer: &Peer, octets: u64, reply: Option<&Reply>) {
        let outcome = reply.map_or("aborted".to_owned(), Reply::to_string);
        log_of(peer.address(), format_args!("message, {octets} octets: {outcome}"));
    }

    fn closed(&self, peer: &Peer, outcome: Result<(), &io::Error>) {
        let how = outcome.map_or_else(|why| format!("aborted: {why}"), |()| "closed".to_owned());
        log_of(peer.address(), how);
    }

    fn accept_failed(&self, error: &io::Error) {
        log("accept", error);
    }
}

/// Logs an event of a client.
pub(crate) fn log_of(address: Option<SocketAddr>, what: impl Display) {
    log(address.map_or_else(String::new, |address| address.to_string()), what);
}
