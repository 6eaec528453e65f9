//! A mail transaction: its envelope, and the message on its way to the disk.

use core::mem;
use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
};

use maildir::{MaildirError, TemporaryMailFile};
use smtp_auth::{
    client::{BodyType, Envelope},
    command::{Mail, MailAuth, Mailbox, Parameters, Rcpt},
    reply::Reply,
};
use tokio::task::spawn_blocking;

use crate::{
    connection::Client,
    log,
    options::Host,
    received::{Received, protocol},
    relay::Relay,
};

/// The most recipients of a message. RFC 5321 §4.5.3.1.8 asks for 100 at least.
const MAX_RECIPIENTS: usize = 100;

/// How many octets of a message are written or read at a time.
pub(crate) const BATCH: usize = 32 << 10;

pub(crate) struct Transaction {
    /// `None` is the null sender.
    from: Option<String>,
    recipients: Vec<String>,
    smtputf8: bool,
    /// Who submitted the message (RFC 4954 §5). `None` is `<>`.
    submitter: Option<String>,
    /// Or why there is none: after an error the octets that follow are let go, and the client hears
    /// of it at the end.
    message: Result<Message, Reply>,
}

struct Message {
    /// In the Maildir's `tmp`. Goes away with this value unless it is delivered before.
    file: TemporaryMailFile,
    /// What is to be written to it next.
    pending: Vec<u8>,
    octets: u64,
    eight_bit: bool,
}

impl Transaction {
    /// Judges MAIL. The session has judged SIZE and AUTH.
    pub(crate) fn begin(
        mail: Mail<'_>,
        claimed: Option<MailAuth<'_>>,
        host: &Host,
        client: &Client,
    ) -> Result<Self, Reply> {
        check_names(mail.parameters(), &["SIZE", "BODY", "SMTPUTF8", "AUTH"])?;
        let smtputf8 = match mail.parameters().get("SMTPUTF8") {
            Some(parameter) if parameter.value().is_some() => return Err(Reply::SYNTAX),
            parameter => parameter.is_some(),
        };
        if let Some(from) = mail.from() {
            check_ascii(from, smtputf8)?;
        }
        let account = client.account.as_deref();
        let may_use = |address: Option<Mailbox<'_>>| {
            account.is_some_and(|name| host.senders.may_use(name, address))
        };
        if !may_use(mail.from()) {
            return Err(reply(553, (5, 7, 1), "This account may not send from that address"));
        }
        // An account is trusted to name a submitter whose address it may use; any other is as `<>`. If
        // the client names none, the account is the submitter, if it is a mailbox.
        let submitter = match (claimed, account) {
            (Some(claimed), _) => {
                let own = |text: &&str| Mailbox::parse(text).is_ok_and(|own| may_use(Some(own)));
                claimed.mailbox().filter(own).map(str::to_owned)
            }
            (None, Some(account)) => Mailbox::parse(account).is_ok().then(|| account.to_owned()),
            (None, None) => None,
        };
        Ok(Self {
            from: mail.from().map(|from| from.as_str().to_owned()),
            recipients: Vec::new(),
            smtputf8,
            submitter,
            message: Err(Reply::LOCAL_ERROR),
        })
    }

    /// Judges RCPT.
    pub(crate) fn add(&mut self, rcpt: Rcpt<'_>) -> Result<(), Reply> {
        check_names(rcpt.parameters(), &[])?;
        check_ascii(rcpt.to(), self.smtputf8)?;
        if self.recipients.len() >= MAX_RECIPIENTS {
            return Err(reply(452, (4, 5, 3), "Too many recipients"));
        }
        self.recipients.push(rcpt.to().as_str().to_owned());
        Ok(())
    }

    /// Begins the message, by the lines that the server adds.
    pub(crate) async fn open(&mut self, host: &Arc<Host>, client: &Client) -> Result<(), Reply> {
        let shared = Arc::clone(host);
        let file = on_disk(move || shared.maildir.open_file_in_tmp().map_err(into_io)).await?;
        // The time, the count and the process, without the name of the machine.
        let name = file.path().file_name().unwrap_or_default().to_string_lossy();
        let id = name.split('.').take(2).collect::<Vec<_>>().join(".");
        let received = Received {
            from: &client.name,
            address: client.address.ip(),
            by: host.name(),
            with: protocol(client.extended, self.smtputf8, client.tls, client.account.is_some()),
            id: &id,
        };
        let mut header = String::new();
        // Only the last server on a message's way adds it (RFC 5321 §4.4).
        if host.relay.is_none() {
            header = format!("Return-Path: <{}>\r\n", self.from.as_deref().unwrap_or_default());
        }
        header += &received.line();
        self.message = Ok(Message { file, pending: Vec::new(), octets: 0, eight_bit: false });
        self.write(header.as_bytes()).await;
        Ok(())
    }

    /// Takes a piece of the message.
    pub(crate) async fn write(&mut self, piece: &[u8]) {
        let Ok(message) = &mut self.message else { return };
        message.octets += piece.len() as u64;
        message.eight_bit |= !piece.is_ascii();
        message.pending.extend_from_slice(piece);
        if message.pending.len() >= BATCH {
            self.message = self.written().await;
        }
    }

    /// Takes the message out, with nothing pending.
    async fn written(&mut self) -> Result<Message, Reply> {
        let mut message = mem::replace(&mut self.message, Err(Reply::LOCAL_ERROR))?;
        let write = move || {
            message.file.write_all(&message.pending)?;
            message.pending.clear();
            Ok(message)
        };
        on_disk(write).await
    }

    /// Lets it go. Where it is only dropped, its file is removed on a thread that others need.
    pub(crate) async fn discard(self) {
        if let Ok(message) = self.message {
            message.discard().await;
        }
    }

    /// Sees the message to where it is safe, or says why not.
    pub(crate) async fn finish(mut self, host: &Arc<Host>, client: &Client) -> Reply {
        let message = match self.written().await {
            Ok(message) => message,
            Err(refusal) => return refusal,
        };
        let (octets, count) = (message.octets, self.recipients.len());
        log(client.address, format_args!("{octets} octets for {count} recipients"));
        match &host.relay {
            Some(relay) => {
                let reply = self.relay(relay, &message, host.name()).await;
                message.discard().await;
                reply
            }
            None => file(message, Arc::clone(host)).await,
        }
    }

    /// Hands the message on. For all recipients or none: the client gets one reply for them all.
    async fn relay(&self, relay: &Relay, message: &Message, own_name: &str) -> Reply {
        let recipient = |to: &'_ String| match Mailbox::parse(to) {
            Ok(_) => to.clone(),
            // The one mailbox without a domain is this server's.
            Err(_) => format!("{to}@{own_name}"),
        };
        let recipients: Vec<String> = self.recipients.iter().map(recipient).collect();
        let envelope = Envelope::new(self.from.as_deref(), recipients.iter().map(String::as_str));
        let Ok(envelope) = envelope else {
            return reply(553, (5, 1, 3), "An address cannot be handed on");
        };
        let submitter = self.submitter.as_deref().and_then(|mailbox| MailAuth::new(mailbox).ok());
        let envelope = envelope.size(message.octets).smtputf8(self.smtputf8).every_recipient(true);
        let envelope = match message.eight_bit {
            true => envelope.body(BodyType::EightBitMime),
            false => envelope,
        };
        match tokio::fs::File::open(message.file.path()).await {
            Ok(file) => relay.send(envelope, &submitter.unwrap_or(MailAuth::UNKNOWN), file).await,
            Err(error) => refusal(&error),
        }
    }
}

impl Message {
    async fn discard(self) {
        // There is nobody to tell.
        let _ = spawn_blocking(move || drop(self)).await;
    }
}

/// Moves the message to `new`, and sees that it survives a power cut: it is the server's as soon as
/// the reply is sent (RFC 5321 §6.1).
async fn file(message: Message, host: Arc<Host>) -> Reply {
    let moved = on_disk(move || {
        // It syncs the file, but not the directory that then has its name.
        host.maildir.move_tmp_to_new(message.file).map_err(into_io)?;
        if cfg!(unix) {
            File::open(host.maildir.path().join("new"))?.sync_all()?;
        }
        Ok(())
    });
    match moved.await {
        Ok(()) => Reply::OK.with_text("Message stored"),
        Err(refusal) => refusal,
    }
}

/// Does what may wait for the disk where nobody but its own connection waits with it.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Reply> {
    let done = spawn_blocking(work).await.map_err(io::Error::from);
    done.and_then(|done| done).map_err(|error| refusal(&error))
}

/// A reply of this server's own, of fixed codes.
pub(crate) fn reply(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Reply {
    Reply::new(code, Some(enhanced), text).unwrap_or(Reply::LOCAL_ERROR)
}

fn refusal(error: &io::Error) -> Reply {
    log("maildir", error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reply::INSUFFICIENT_STORAGE,
        _ => Reply::LOCAL_ERROR,
    }
}

fn into_io(error: MaildirError) -> io::Error {
    match error {
        MaildirError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Every parameter has to be known.
fn check_names(parameters: Parameters<'_>, known: &[&str]) -> Result<(), Reply> {
    let is_known = |name: &str| known.iter().any(|known| known.eq_ignore_ascii_case(name));
    match parameters.iter().all(|parameter| is_known(parameter.name())) {
        true => Ok(()),
        false => Err(Reply::PARAMETER_NOT_RECOGNIZED),
    }
}

/// An address in UTF-8 needs SMTPUTF8 (RFC 6531 §3.5).
fn check_ascii(mailbox: Mailbox<'_>, smtputf8: bool) -> Result<(), Reply> {
    if smtputf8 || mailbox.is_ascii() {
        return Ok(());
    }
    Err(reply(553, (5, 6, 7), "An address beyond ASCII needs SMTPUTF8"))
}
