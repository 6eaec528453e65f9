//! The server to send to: it knows Tim, and keeps what he sends to `example.org`.

use std::{
    io::{self, Read, Write},
    mem,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use smtp_auth::{
    command::Command,
    reply::Reply,
    sasl::{self, Answer, Authenticator, Mechanism, ScramHash, ScramKeys, ScramKeysFor},
    server::{Config, Event, Session},
};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};

use crate::mailer::{self, Result, flush, limited};

struct Host {
    tim: ScramKeys,
    config: Arc<Config>,
    tls: Arc<ServerConfig>,
    arrived: Sender<Vec<u8>>,
}

impl Authenticator for Host {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256Plus]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        (ask.authcid() == "tim").then(|| self.tim.clone()).into()
    }
}

/// Starts it, for as long as the program runs. Returns its port, its certificate, and what arrives.
pub(crate) fn start(password: &str) -> Result<(u16, CertificateDer<'static>, Receiver<Vec<u8>>)> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let certificate = own.cert.der().clone();
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    // Bound to TLS or not at all, so that a sign-in shows that the mailer has bound it.
    let sasl = sasl::server::Config::builder("localhost")
        .mechanisms([Mechanism::ScramSha256Plus])
        .build()?;
    let keys = ScramKeys::generate(ScramHash::Sha256, password, 4096);
    let tim = keys.ok_or("SCRAM cannot have this password")?;
    let (arrived, arriving) = channel();
    let config = Config::builder("localhost").sasl(sasl).build()?;
    let (config, tls) = (Arc::new(config), Arc::new(tls));
    let host = Host { tim, config, tls, arrived };

    let listener = TcpListener::bind("localhost:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        // One at a time, as they come here. One that breaks off is no concern of the next.
        for socket in listener.incoming().flatten() {
            drop(serve(&host, socket));
        }
    });
    Ok((port, certificate, arriving))
}

fn serve(host: &Host, socket: TcpStream) -> Result<()> {
    let mut socket = limited(socket)?;
    let mut session = Session::new(Arc::clone(&host.config));
    if !dialogue(host, &mut session, &mut socket)? {
        return Ok(());
    }
    let mut tls = ServerConnection::new(Arc::clone(&host.tls))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    session.tls_started(mailer::channel(&tls));
    let mut stream = StreamOwned::new(tls, socket);
    dialogue(host, &mut session, &mut stream)?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

/// Returns whether TLS is to begin. If not, it is over.
fn dialogue(
    host: &Host,
    session: &mut Session,
    stream: &mut (impl Read + Write),
) -> io::Result<bool> {
    let (mut out, mut buffer, mut message) = (Vec::new(), [0; 4096], Vec::new());
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                flush(stream, &mut out)?;
                match stream.read(&mut buffer)? {
                    0 => return Ok(false),
                    n => session.receive(buffer.get(..n).unwrap_or_default()),
                }
            }
            Event::Query(query) => query.answer_with(host),
            Event::AuthFailed(failed) => thread::sleep(failed.pause),
            Event::Command(Command::Mail(_), ask) => ask.reply(Reply::SENDER_OK),
            Event::Command(Command::Rcpt(rcpt), ask) => ask.reply(match rcpt.to().domain() {
                Some("example.org") => Reply::RECIPIENT_OK,
                _ => Reply::MAILBOX_UNAVAILABLE,
            }),
            Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartOfData(permission) => permission.accept(),
            Event::Data(octets) => message.extend_from_slice(octets),
            Event::EndOfData(ask) => ask.reply(match host.arrived.send(mem::take(&mut message)) {
                Ok(()) => Reply::OK,
                Err(_) => Reply::LOCAL_ERROR,
            }),
            Event::Reset => message.clear(),
            Event::Hello(_) | Event::Authenticated(_) => {}
            Event::StartTls => return flush(stream, &mut out).map(|()| true),
            Event::Close => return flush(stream, &mut out).map(|()| false),
        }
    }
}
