//! Relays messages to the next hop with the driver's client.

use std::{error::Error, path::Path, time::Duration};

use smtp_auth_tokio::{
    client::{self, Config, Connector, Envelope, ErrorKind, Outcome, Stage},
    smtp_auth::{
        Reply,
        client::{Error as Ended, NotSent},
        command::MailAuth,
    },
    tls,
};
use tokio::fs::File;

use crate::{log, maildir};

const NO_SMTPUTF8: Reply = Reply::constant("550 5.6.9 The next hop does not support SMTPUTF8");
const NO_8BITMIME: Reply = Reply::constant("554 5.6.3 The next hop does not support 8BITMIME");
const NEXT_HOP_DOWN: Reply =
    Reply::constant("451 4.4.1 The next hop is not available, try again later");

/// How long each step may take. RFC 5321 §4.5.3.2 recommends up to ten minutes, but here a client is waiting for the
/// reply.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Relay(Connector);

impl Relay {
    pub(crate) fn new(next_hop: &str, hostname: &str) -> Result<Self, Box<dyn Error>> {
        let parts = next_hop.rsplit_once(':');
        let parts = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) =
            parts.filter(|(host, _)| !host.is_empty()).ok_or("--relay needs HOST:PORT")?;
        // A relay that must authenticate its next hop would require TLS and verify the certificate.
        let connector = Connector::insecure_opportunistic(host.trim_matches(['[', ']']))
            .trust(tls::Unverified)
            .config(Config::builder(hostname).build()?);
        Ok(Self(connector.port(port).time_limit(PATIENCE)))
    }

    /// Relays the message, and returns the reply for the client.
    pub(crate) async fn send(
        &self,
        envelope: &Envelope,
        submitter: &MailAuth<'_>,
        message: &Path,
    ) -> Result<Reply, Reply> {
        let open = async || File::open(message).await.map_err(|error| maildir::refusal(&error));
        let mut client = self.0.connect().await.map_err(|error| refusal(&error))?;
        let mut sent = client.send_from(&envelope.clone().auth(submitter), open().await?).await;
        if sent.as_ref().is_err_and(is_unknown_parameter) {
            sent = client.send_from(envelope, open().await?).await;
        }
        // The outcome does not depend on QUIT.
        tokio::spawn(client.quit());
        match sent {
            // The message was accepted for every recipient, as the envelope requires.
            Ok(_) => Ok(Reply::OK.with_text("Message relayed")),
            Err(error) => Err(refusal(&error)),
        }
    }
}

/// Returns whether the server refused a parameter of MAIL. Some servers offer AUTH but do not support `AUTH=`
/// (aiosmtpd).
fn is_unknown_parameter(error: &client::Error) -> bool {
    error.stage() == Some(Stage::Mail) && error.reply().is_some_and(|reply| reply.code() == 555)
}

fn refusal(error: &client::Error) -> Reply {
    log("relay", error);
    match error.kind() {
        ErrorKind::NotAccepted(Outcome::Refused { refusal, recipients }) => {
            let first = recipients.iter().position(|recipient| recipient.refusal().is_some());
            // A `421` reply does not concern a recipient.
            let of_one = refusal.stage() == Stage::Rcpt && refusal.reply().code() != 421;
            pass_on(refusal.reply(), first.filter(|_| of_one))
        }
        ErrorKind::NotAccepted(Outcome::NotSent { why, .. }) => match why {
            NotSent::TooBig(_) => Reply::MESSAGE_TOO_BIG,
            NotSent::NeedsALabels => NO_SMTPUTF8,
            NotSent::NotOffered(keyword) if keyword == "SMTPUTF8" => NO_SMTPUTF8,
            NotSent::NotOffered(_) => NO_8BITMIME,
            _ => NEXT_HOP_DOWN,
        },
        ErrorKind::Session(Ended::Refused(refusal)) => pass_on(refusal.reply(), None),
        _ => NEXT_HOP_DOWN,
    }
}

/// Passes on the next hop's refusal, of one recipient or of the whole message, as this server's reply.
fn pass_on(refusal: &Reply, recipient: Option<usize>) -> Reply {
    if about_sign_in(refusal) {
        // The next hop's text is left out, because it may repeat credentials.
        return as_own(refusal, "The next hop requires TLS or authentication".to_owned());
    }
    let which = recipient.map(|n| format!(" for recipient {}", n + 1)).unwrap_or_default();
    as_own(refusal, format!("The next hop replied{which}: {}", refusal.text()))
}

/// Returns whether the refusal is about TLS or authentication at the next hop (RFC 4954 §6, RFC 5248). The client has
/// authenticated here, and would relate the text to its own authentication.
fn about_sign_in(refusal: &Reply) -> bool {
    let detail = refusal.enhanced_code().map(|enhanced| (enhanced.subject(), enhanced.detail()));
    matches!(refusal.code(), 432 | 523..=525 | 530 | 534 | 535 | 538)
        || matches!(detail, Some((7, 8 | 9 | 11 | 12 | 13)))
}

/// Creates a reply with the next hop's codes. A code that would mean something else in reply to a message, such as
/// `421` or `530`, is replaced by the general code of its class.
fn as_own(refusal: &Reply, text: String) -> Reply {
    let (code, class) = match refusal.code() {
        code @ 450..=459 => (code, 4),
        code @ 550..=559 => (code, 5),
        500.. => (554, 5),
        _ => (451, 4),
    };
    let enhanced = refusal.enhanced_code().map_or((class, 0, 0), |enhanced| {
        (enhanced.class(), enhanced.subject(), enhanced.detail())
    });
    Reply::new(code, Some(enhanced), text).unwrap_or(NEXT_HOP_DOWN)
}
