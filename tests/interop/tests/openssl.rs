//! The driver inside the TLS of OpenSSL, on either side, by its two traits; the other side is rustls.

use std::{io, pin::Pin, sync::Arc};

use openssl::ssl::{Ssl, SslConnector, SslContext, SslMethod, SslRef, SslVerifyMode, SslVersion};
use smtp_auth_tokio::{
    BoxStream, Handshake, TlsAccept, TlsConnect, rustls,
    server::{Message, Server},
    smtp_auth::{
        Answer, Authenticator, Channel, Credentials, Mechanism, Reply,
        client::{self, Envelope, Event, Session},
        sasl::{self, ChannelBinding, Immediate, ScramKeys, ScramKeysFor},
        server::Config,
    },
    tls::provider,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    sync::mpsc,
};
use tokio_openssl::SslStream;

/// A server's side.
struct Accepts(SslContext);

impl TlsAccept for Accepts {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        Box::pin(async move {
            let mut stream = SslStream::new(Ssl::new(&self.0)?, stream)?;
            Pin::new(&mut stream).accept().await.map_err(io::Error::other)?;
            let own = stream.ssl().certificate().map(|own| own.to_der()).transpose()?;
            let channel = channel(stream.ssl(), own)?;
            Ok((Box::new(stream) as BoxStream, channel))
        })
    }
}

/// A client's side. The connector checks the certificate, and that it belongs to the host.
struct Connects(SslConnector);

impl TlsConnect for Connects {
    fn connect<'a>(&'a self, host: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async move {
            let mut stream = SslStream::new(self.0.configure()?.into_ssl(host)?, stream)?;
            Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
            let theirs = stream.ssl().peer_certificate().map(|own| own.to_der()).transpose()?;
            let channel = channel(stream.ssl(), theirs)?;
            Ok((Box::new(stream) as BoxStream, channel.verified()))
        })
    }
}

/// What binds authentication to the connection: `tls-exporter` under TLS 1.3, and the server's certificate.
fn channel(ssl: &SslRef, certificate: Option<Vec<u8>>) -> io::Result<Channel> {
    let mut channel = Channel::tls();
    if ssl.version2() == Some(SslVersion::TLS1_3) {
        let mut exported = [0; 32];
        ssl.export_keying_material(&mut exported, "EXPORTER-Channel-Binding", Some(&[]))?;
        channel = channel.with_binding(ChannelBinding::tls_exporter(exported));
    }
    let end_point = certificate.and_then(|der| ChannelBinding::tls_server_end_point_of(&der));
    Ok(end_point.into_iter().fold(channel, Channel::with_binding))
}

struct Users;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256Plus]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys =
            ScramKeys::from_password(ask.hash(), "tanstaaftanstaaf", b"a salt of his own", 4096);
        keys.filter(|_| ask.authcid() == "tim").into()
    }
}

/// Sends a message by a mechanism that binds to the connection, in this way alone if there is a choice.
async fn send(tls: &dyn TlsConnect, stream: BoxStream, binding: &str) -> Option<Mechanism> {
    let sasl = sasl::client::Config::builder().mechanisms([Mechanism::ScramSha256Plus]).build();
    let config = client::Config::builder("client").sasl(sasl.unwrap()).build().unwrap();
    let credentials = Credentials::password("tim", "tanstaaftanstaaf").unwrap();
    let mut session = Session::new(Arc::new(config), credentials);
    let mut envelope = Some(Envelope::new(Some("tim@example.org"), ["ann@example.org"]).unwrap());
    let (mut stream, mut out) = (stream, Vec::new());
    loop {
        match session.next(&mut out).unwrap() {
            Event::NeedInput => {
                stream.write_all(&out).await.unwrap();
                stream.flush().await.unwrap();
                out.clear();
                let mut room = [0; 1024];
                let read = stream.read(&mut room).await.unwrap();
                session.receive(&room[..read]);
            }
            Event::StartTls => {
                stream.write_all(&out).await.unwrap();
                out.clear();
                let (inside, channel) = tls.connect("localhost", stream).await.unwrap();
                stream = inside;
                let only = channel.bindings().iter().filter(|own| own.name() == binding).cloned();
                session.tls_started(only.fold(Channel::tls(), Channel::with_binding).verified());
            }
            Event::Derive(ask) => ask.run(),
            Event::Ready(ready) => match envelope.take() {
                Some(envelope) => ready.send(envelope),
                None => ready.quit(),
            },
            Event::Message(body) => {
                body.write(b"Subject: Hello\r\n\r\nHi\r\n", &mut out).unwrap();
                body.end(&mut out).unwrap();
            }
            Event::Sent(_) => {}
            Event::Close => return session.authenticated(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_binds_to_the_connection_on_either_side() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = own.signing_key.serialize_der();
    let certificate = openssl::x509::X509::from_der(own.cert.der()).unwrap();
    let openssl_server = || {
        let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
        context.set_certificate(&certificate).unwrap();
        context.set_private_key(&openssl::pkey::PKey::private_key_from_der(&key).unwrap()).unwrap();
        Accepts(context.build())
    };
    let openssl_client = |most| {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::PEER);
        connector.cert_store_mut().add_cert(certificate.clone()).unwrap();
        connector.set_max_proto_version(Some(most)).unwrap();
        Connects(connector.build())
    };
    let rustls_server = || {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.clone());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        Arc::new(config.with_single_cert(vec![own.cert.der().clone()], key.into()).unwrap())
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let rustls_client = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let rustls_client: Arc<dyn TlsConnect> = Arc::new(Arc::new(rustls_client));

    let sasl = sasl::server::Config::builder("localhost").answered_by(&Users).build().unwrap();
    let config = Arc::new(Config::builder("localhost").sasl(sasl).build().unwrap());
    let (sender, mut arrived) = mpsc::unbounded_channel();
    let deliver = move |message: Message| {
        let sent = sender.send(message).map_err(|_| Reply::LOCAL_ERROR);
        std::future::ready(sent.map(|()| Reply::OK))
    };
    let server = Server::new(config, Immediate(Users), deliver);
    let by_openssl = server.clone().tls(openssl_server());
    let by_rustls = server.tls(rustls_server());
    let (new, old): (Arc<dyn TlsConnect>, Arc<dyn TlsConnect>) = (
        Arc::new(openssl_client(SslVersion::TLS1_3)),
        Arc::new(openssl_client(SslVersion::TLS1_2)),
    );
    for (server, client, binding) in [
        (&by_openssl, &rustls_client, "tls-exporter"),
        (&by_openssl, &rustls_client, "tls-server-end-point"),
        (&by_openssl, &new, "tls-exporter"),
        (&by_openssl, &new, "tls-server-end-point"),
        (&by_openssl, &old, "tls-server-end-point"),
        (&by_rustls, &new, "tls-exporter"),
        (&by_rustls, &new, "tls-server-end-point"),
        (&by_rustls, &old, "tls-server-end-point"),
    ] {
        let (ours, theirs) = duplex(1 << 14);
        let server = server.clone();
        tokio::spawn(async move { server.serve_stream(theirs, None).await });
        let mechanism = send(&**client, Box::new(ours), binding).await;
        assert_eq!(mechanism, Some(Mechanism::ScramSha256Plus), "{binding}");
        let message = arrived.recv().await.unwrap();
        assert_eq!(message.octets, b"Subject: Hello\r\n\r\nHi\r\n");
        assert_eq!(message.peer.identity().unwrap().acts_as(), "tim");
    }
    // Another name is not proven.
    let (ours, theirs) = duplex(1 << 14);
    tokio::spawn(async move { by_openssl.serve_tls_stream(theirs, None).await });
    assert!(new.connect("example.org", Box::new(ours)).await.is_err());
}
