//! Whole dialogues with the client's side of the core, over rustls and other streams.

use std::sync::Arc;

use smtp_auth_tokio::{
    BoxStream, Handshake, TlsAccept, TlsConnect, rustls,
    server::{Handler, Limits, Message, Server, StartTls},
    smtp_auth::{
        Channel, Credentials, Mechanism, Reply,
        client::{Config, Envelope, Event, Outcome, Session, Tls},
        sasl::{Immediate, client::Config as Sasl},
    },
    tls::{ClientCertificates, provider},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver},
};

use crate::support::{Certificate, Hand, Users, config};

/// A server whose messages arrive here.
pub(crate) fn collecting() -> (Server<Immediate<Users>, impl Handler>, UnboundedReceiver<Message>) {
    let (sender, arrived) = mpsc::unbounded_channel();
    let deliver = move |message: Message| {
        let sent = sender.send(message).map_err(|_| Reply::LOCAL_ERROR);
        std::future::ready(sent.map(|()| Reply::OK))
    };
    (Server::new(config().build().unwrap(), Immediate(Users), deliver), arrived)
}

/// What a client needs to know.
pub(crate) struct Client {
    pub(crate) tls: Box<dyn TlsConnect>,
    pub(crate) implicit: bool,
    pub(crate) credentials: Credentials,
    pub(crate) mechanisms: Vec<Mechanism>,
    /// The one kind of channel binding that it knows.
    pub(crate) binding: Option<&'static str>,
}

impl Client {
    pub(crate) fn new(tls: impl TlsConnect) -> Self {
        Self {
            tls: Box::new(tls),
            implicit: false,
            credentials: Credentials::password("tim", "tanstaaftanstaaf").unwrap(),
            mechanisms: vec![Mechanism::ScramSha256Plus, Mechanism::ScramSha256],
            binding: None,
        }
    }

    async fn begin_tls(&self, session: &mut Session, stream: BoxStream) -> BoxStream {
        let (stream, mut channel) = self.tls.connect("localhost", stream).await.unwrap();
        if let Some(kind) = self.binding {
            let only = channel.bindings().iter().filter(|own| own.name() == kind).cloned();
            channel = only.fold(Channel::tls(), Channel::with_binding);
            assert_eq!(channel.bindings().len(), 1, "{kind}");
        }
        session.tls_started(channel);
        stream
    }

    /// Authenticates and sends a message. The mechanism, or why not.
    async fn send(&self, stream: BoxStream) -> Result<Mechanism, String> {
        let sasl = Sasl::builder().mechanisms(&self.mechanisms).build().unwrap();
        let tls = if self.implicit { Tls::Never } else { Tls::Required };
        let config = Config::builder("client").sasl(sasl).tls(tls).build().unwrap();
        let mut session = Session::new(Arc::new(config), self.credentials.clone());
        let (mut stream, mut out, mut sent) = (stream, Vec::new(), false);
        let mut envelope =
            Some(Envelope::new(Some("tim@example.org"), ["ann@example.org"]).unwrap());
        if self.implicit {
            stream = self.begin_tls(&mut session, stream).await;
        }
        loop {
            match session.next(&mut out).map_err(|error| error.to_string())? {
                Event::NeedInput => {
                    stream.write_all(&out).await.map_err(|error| error.to_string())?;
                    stream.flush().await.map_err(|error| error.to_string())?;
                    out.clear();
                    let mut room = [0; 1024];
                    match stream.read(&mut room).await.map_err(|error| error.to_string())? {
                        0 => session.eof().map_err(|error| error.to_string())?,
                        read => session.receive(&room[..read]),
                    }
                }
                Event::StartTls => {
                    stream.write_all(&out).await.unwrap();
                    out.clear();
                    stream = self.begin_tls(&mut session, stream).await;
                }
                Event::Derive(ask) => ask.run(),
                Event::Custom(_) => unreachable!(),
                Event::NotAuthenticated(failed) => return Err(failed.error().to_string()),
                Event::Ready(ready) => match envelope.take() {
                    Some(envelope) => ready.send(envelope),
                    None => ready.quit(),
                },
                Event::Refused { refusal, .. } => return Err(refusal.to_string()),
                Event::Message(body) => {
                    body.write(b"Subject: Hello\r\n\r\n.\r\nHi\r\n", &mut out).unwrap();
                    body.end(&mut out).unwrap();
                }
                Event::Sent(outcome) => sent = matches!(outcome, Outcome::Accepted { .. }),
                Event::Close => {
                    stream.write_all(&out).await.unwrap();
                    assert!(sent);
                    return Ok(session.authenticated().unwrap());
                }
            }
        }
    }

    /// The same over a stream in memory.
    pub(crate) async fn send_to(
        &self,
        server: &Server<Immediate<Users>, impl Handler>,
    ) -> Result<Mechanism, String> {
        let (own, theirs) = duplex(1 << 14);
        let (server, implicit) = (server.clone(), self.implicit);
        tokio::spawn(async move {
            match implicit {
                true => server.serve_tls_stream(theirs, None).await.unwrap(),
                false => server.serve_stream(theirs, None).await,
            }
        });
        self.send(Box::new(own)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_and_channel_binding_of_both_kinds() {
    let own = Certificate::new();
    let (server, mut arrived) = collecting();
    let server = server.tls(own.server());
    for (versions, kinds) in [
        (rustls::ALL_VERSIONS, &[None, Some("tls-exporter"), Some("tls-server-end-point")][..]),
        (&[&rustls::version::TLS12], &[None, Some("tls-server-end-point")]),
    ] {
        for implicit in [false, true] {
            for &binding in kinds {
                let client = Client::new(own.client(versions));
                let client = Client { implicit, binding, ..client };
                // The second time it resumes the TLS session of the first.
                for _ in 0..2 {
                    let mechanism = client.send_to(&server).await.unwrap();
                    assert_eq!(mechanism, Mechanism::ScramSha256Plus, "{binding:?}");
                    let message = arrived.recv().await.unwrap();
                    assert_eq!(message.octets, b"Subject: Hello\r\n\r\n.\r\nHi\r\n");
                    assert_eq!(message.peer.identity().unwrap().acts_as(), "tim");
                    assert!(message.peer.is_tls());
                }
            }
        }
    }
    let mut wrong = Client::new(own.client(rustls::ALL_VERSIONS));
    wrong.credentials = Credentials::password("tim", "guess").unwrap();
    let refused = wrong.send_to(&server).await.unwrap_err();
    assert!(refused.contains("535 5.7.8"), "{refused}");
}

#[tokio::test]
async fn tls_can_be_required() {
    let own = Certificate::new();
    let (sender, mut arrived) = mpsc::unbounded_channel();
    let server = || {
        let sender = sender.clone();
        let deliver = move |message: Message| {
            let sent = sender.send(message).map_err(|_| Reply::LOCAL_ERROR);
            std::future::ready(sent.map(|()| Reply::OK))
        };
        // The harder for it: without TLS neither a password nor mail from anybody is too much.
        let config = config().starttls(StartTls::Required).allow_unauthenticated(true);
        Server::new(config.build().unwrap(), Immediate(Users), deliver)
    };
    let early = [
        "AUTH SCRAM-SHA-256 biwsbj10aW0scj1hYmM=\r\n",
        "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n",
        "MAIL FROM:<tim@example.org>\r\n",
        "RCPT TO:<ann@example.org>\r\n",
        "DATA\r\n",
    ];
    let with_tls = server().tls(own.server());
    // What is set afterwards does not bring back what the server without TLS was.
    let with_none = [server(), server().without_rate_limiter()];
    for server in with_none.iter().chain([&with_tls]) {
        let (mut hand, _serving) = Hand::to(server).await;
        let ehlo = hand.say("EHLO hand\r\n").await;
        assert!(!ehlo.contains("AUTH"), "{ehlo}");
        for line in early {
            hand.expect(line, &["530 5.7.0"]).await;
        }
        hand.expect("NOOP\r\n", &["250"]).await;
    }
    for server in &with_none {
        let (mut hand, _serving) = Hand::to(server).await;
        assert!(!hand.say("EHLO hand\r\n").await.contains("STARTTLS"));
        hand.expect("STARTTLS\r\nMAIL FROM:<a@b.c>\r\n", &["502", "530"]).await;
    }
    assert!(arrived.try_recv().is_err());
    for implicit in [false, true] {
        let client = Client { implicit, ..Client::new(own.client(rustls::ALL_VERSIONS)) };
        assert_eq!(client.send_to(&with_tls).await, Ok(Mechanism::ScramSha256Plus));
        assert!(arrived.recv().await.unwrap().peer.is_tls());
    }
}

/// Another certificate each time that one is asked for.
#[derive(Debug)]
struct Rotating(std::sync::atomic::AtomicUsize, Vec<Arc<rustls::sign::CertifiedKey>>);

impl rustls::server::ResolvesServerCert for Rotating {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        let n = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.1.get(n % self.1.len()).cloned()
    }
}

#[tokio::test]
async fn the_certificate_that_was_presented_is_bound_to() {
    let both = [Certificate::new(), Certificate::new()];
    let certified = both.each_ref().map(|own| {
        let key = provider().key_provider.load_private_key(own.key.clone_key()).unwrap();
        Arc::new(rustls::sign::CertifiedKey::new(own.chain.clone(), key))
    });
    let resolver = Rotating(0.into(), certified.to_vec());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let (server, _arrived) = collecting();
    let server = server.tls(Arc::new(config));
    for own in both.iter().chain(&both) {
        let client = Client::new(own.client(rustls::ALL_VERSIONS));
        let client = Client { binding: Some("tls-server-end-point"), ..client };
        assert_eq!(client.send_to(&server).await, Ok(Mechanism::ScramSha256Plus));
    }
}

#[tokio::test]
async fn a_client_certificate_names_whom_the_application_says() {
    let (own, clients) = (Certificate::new(), Certificate::new());
    let builder = || {
        rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
    };
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(clients.roots()),
        Arc::new(provider()),
    );
    let with_verifier =
        builder().with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap());
    let with_verifier =
        with_verifier.with_single_cert(own.chain.clone(), own.key.clone_key()).unwrap();
    let with_verifier = Arc::new(with_verifier);
    let without_function = Arc::clone(&with_verifier);
    let known = clients.chain[0].clone();
    let naming = move |name: Option<&'static str>| {
        let known = known.clone();
        ClientCertificates::new(Arc::clone(&with_verifier), move |chain| {
            assert_eq!(chain.first(), Some(&known));
            name.map(str::to_owned)
        })
    };
    let client = |shows: bool| {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(own.roots());
        let config = match shows {
            true => config
                .with_client_auth_cert(clients.chain.clone(), clients.key.clone_key())
                .unwrap(),
            false => config.with_no_client_auth(),
        };
        Client {
            credentials: Credentials::external(),
            mechanisms: vec![Mechanism::External],
            ..Client::new(Arc::new(config))
        }
    };
    let (server, _arrived) = collecting();
    let named = server.clone().tls(naming(Some("tim")));
    assert_eq!(client(true).send_to(&named).await, Ok(Mechanism::External));
    let other = server.clone().tls(naming(Some("tom")));
    assert!(client(true).send_to(&other).await.unwrap_err().contains("535"));
    // It is not even offered to a certificate that names nobody, to no certificate, and without a function.
    let nobody = server.clone().tls(naming(None));
    assert!(!client(true).send_to(&nobody).await.unwrap_err().contains("535"));
    assert!(client(false).send_to(&named).await.is_err());
    let plain = server.tls(without_function);
    assert!(client(true).send_to(&plain).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_from_the_first_octet_on_a_port() {
    let own = Certificate::new();
    let (server, mut arrived) = collecting();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(server.serve_tls_stream(duplex(1).0, None).await.is_err(), "it has no TLS");
    let server = server.tls(own.server());
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve_tls(listener).await }
    });
    let client = Client { implicit: true, ..Client::new(own.client(rustls::ALL_VERSIONS)) };
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(client.send(Box::new(socket)).await, Ok(Mechanism::ScramSha256Plus));
    assert_eq!(arrived.recv().await.unwrap().peer.address().unwrap().ip(), address.ip());
    // One that speaks in the clear, one that is not trusted; the server goes on.
    let mut clear = Hand::new(tokio::net::TcpStream::connect(address).await.unwrap());
    clear.write("EHLO hand\r\n").await;
    assert!(!clear.hear().await.starts_with("220"));
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let mistrusts = Certificate::new().client(rustls::ALL_VERSIONS);
    assert!(mistrusts.connect("localhost", Box::new(socket)).await.is_err());
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(client.send(Box::new(socket)).await, Ok(Mechanism::ScramSha256Plus));
    server.shutdown();
    serving.await.unwrap().unwrap();
}

/// A stream that is as safe as TLS.
struct Safe;

impl TlsAccept for Safe {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        Box::pin(async { Ok((stream, Channel::tls())) })
    }
}

#[cfg(unix)]
#[tokio::test]
async fn over_a_unix_socket() {
    let (server, _) = collecting();
    let server = server.tls(Safe);
    let (own, theirs) = tokio::net::UnixStream::pair().unwrap();
    tokio::spawn(async move { server.serve_tls_stream(theirs, None).await });
    let mut hand = Hand::new(own);
    hand.expect("EHLO hand\r\n", &["220", "250"]).await;
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nQUIT\r\n", &["235", "221"]).await;
    hand.ends().await;
}

#[tokio::test]
async fn what_is_said_before_tls_counts_for_nothing() {
    let (server, _) = collecting();
    let server = server.tls(Safe).limits(Limits::default());
    let (mut hand, _) = Hand::to(&server).await;
    let reply = hand.say("EHLO hand\r\n").await;
    assert!(reply.contains("STARTTLS"), "{reply}");
    // Whatever comes in one piece with STARTTLS is dropped.
    hand.expect("STARTTLS\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["220"]).await;
    hand.expect("MAIL FROM:<a@b.c>\r\n", &["503"]).await;
    let reply = hand.say("EHLO hand\r\n").await;
    assert!(!reply.contains("STARTTLS"), "{reply}");
    hand.expect("STARTTLS\r\n", &["503"]).await;
    // Without TLS it is not offered at all.
    let (server, _) = collecting();
    let (mut hand, _) = Hand::to(&server).await;
    let reply = hand.say("EHLO hand\r\n").await;
    assert!(!reply.contains("STARTTLS"), "{reply}");
    hand.expect("STARTTLS\r\n", &["502"]).await;
}

#[tokio::test]
async fn a_configuration_from_files() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cert = write("own.cert.pem", own.cert.pem());
    let key = write("own.key.pem", own.signing_key.serialize_pem());
    let wrong = write("other.key.pem", other.signing_key.serialize_pem());
    let trusting = Certificate {
        chain: vec![own.cert.der().clone()],
        key: rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into(),
    };
    let (server, _arrived) = collecting();
    let server = server.tls(smtp_auth_tokio::tls::server(&cert, &key).unwrap());
    let client = Client::new(trusting.client(rustls::ALL_VERSIONS));
    assert_eq!(client.send_to(&server).await, Ok(Mechanism::ScramSha256Plus));
    // Which file is wrong is said.
    for (cert, key, named) in [
        (&cert, &folder.join("missing.pem"), "missing.pem"),
        (&folder.join("missing.pem"), &key, "missing.pem"),
        (&cert, &cert, "own.cert.pem"),
        (&cert, &wrong, "own.cert.pem"),
    ] {
        let error = smtp_auth_tokio::tls::server(cert, key).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
