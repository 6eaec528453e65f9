//! How a connection comes about, and why it does not.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use smtp_auth_tokio::{
    BoxStream, Handshake, TlsAccept, TlsConnect,
    client::{Config, Connector, Credentials, Delivery, ErrorKind, Stage},
    rustls::{
        self, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    smtp_auth::{
        Answer, Authenticator, Channel, Mechanism, client,
        sasl::{Immediate, ScramKeys, ScramKeysFor, client as sasl},
    },
    tls,
};
use tokio::{
    io::{AsyncWriteExt, duplex},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::support::{
    GREETING, HELLO, Inbox, LOCALHOST, PASSWORD, certificate, cleartext, listening, pipe, scripts,
    server, serving, soon, starttls, tim, to, try_scripted,
};

#[tokio::test]
async fn the_strongest_mechanism_is_bound_to_tls() {
    let (address, server, inbox) = listening().await;
    let mut client = soon(starttls().addresses([address]).connect()).await.unwrap();
    assert_eq!(client.mechanism(), Some(Mechanism::ScramSha256Plus));
    assert!(client.extensions().offers("PIPELINING"));
    soon(client.noop()).await.unwrap();
    soon(client.quit()).await;
    assert_eq!(inbox.connections(), 1);

    // As a name is looked up.
    let client = soon(starttls().port(address.port()).connect()).await.unwrap();
    soon(client.quit()).await;

    let client = soon(starttls().connect_over(pipe(&server))).await.unwrap();
    assert_eq!(client.mechanism(), Some(Mechanism::ScramSha256Plus));
    soon(client.quit()).await;

    let (own, other) = duplex(4096);
    tokio::spawn(async move { server.serve_tls_stream(other, None).await });
    let implicit = Connector::tls("localhost").trust(tls::client(&LOCALHOST[0]).unwrap());
    let client = soon(implicit.credentials(tim()).connect_over(own)).await.unwrap();
    assert_eq!(client.mechanism(), Some(Mechanism::ScramSha256Plus));
    soon(client.quit()).await;
}

/// What makes a stream that needs no TLS count as one that has it, on both sides.
#[cfg(unix)]
struct AlreadySafe;

#[cfg(unix)]
impl TlsConnect for AlreadySafe {
    fn connect<'a>(&'a self, _: &'a str, stream: BoxStream) -> Handshake<'a> {
        Box::pin(async { Ok((stream, Channel::tls().verified())) })
    }
}

#[cfg(unix)]
impl TlsAccept for AlreadySafe {
    fn accept(&self, stream: BoxStream) -> Handshake<'_> {
        Box::pin(async { Ok((stream, Channel::tls())) })
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_as_safe_as_tls() {
    let (server, inbox) = server();
    let (own, other) = tokio::net::UnixStream::pair().unwrap();
    let server = server.tls(AlreadySafe);
    tokio::spawn(async move { server.serve_tls_stream(other, None).await });
    let connector = Connector::tls("localhost").trust(AlreadySafe).credentials(tim());
    let mut client = soon(connector.connect_over(own)).await.unwrap();
    assert_eq!(client.mechanism(), Some(Mechanism::ScramSha256));
    let _ = soon(client.send(&to(&["ann"]), HELLO)).await.unwrap();
    assert_eq!(inbox.messages(), [HELLO]);
}

/// The one thread for work that blocks has other things to do from the second connection on.
#[test]
fn the_salted_password_is_made_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (end, busy) = mpsc::channel::<()>();
    runtime.block_on(async {
        let (server, _) = server();
        let connector = starttls();
        let connect = |connector: &Connector, seconds| {
            let (connector, pipe) = (connector.clone(), pipe(&server));
            let limit = Duration::from_secs(seconds);
            async move { timeout(limit, connector.connect_over(pipe)).await }
        };
        drop(connect(&connector, 20).await.unwrap().unwrap());
        tokio::task::spawn_blocking(move || busy.recv());
        let again = connect(&connector, 20).await.expect("it waits for the thread").unwrap();
        assert_eq!(again.mechanism(), Some(Mechanism::ScramSha256Plus));
        assert!(connect(&starttls(), 1).await.is_err(), "another connector has none");
        // Nor has the same with other credentials.
        let other = connector.clone().credentials(tim());
        assert!(connect(&other, 1).await.is_err());
    });
    drop(end);
}

/// The account's password, with the same salt before and after it is changed.
struct Changing(AtomicBool);

impl Authenticator for Changing {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256]
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let password = if self.0.load(SeqCst) { "another" } else { PASSWORD };
        ScramKeys::from_password(ask.hash(), password, b"a salt of his own", 4096).into()
    }
}

#[test]
fn the_salted_password_is_made_anew_after_a_refusal() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (end, busy) = mpsc::channel::<()>();
    runtime.block_on(async {
        let users = Arc::new(Changing(AtomicBool::new(false)));
        let server = serving(Immediate(Arc::clone(&users)), Inbox::default());
        let connector = starttls();
        drop(soon(connector.connect_over(pipe(&server))).await.unwrap());
        users.0.store(true, SeqCst);
        let error = soon(connector.connect_over(pipe(&server))).await.unwrap_err();
        assert_eq!(error.reply().map(|reply| reply.code()), Some(535));
        users.0.store(false, SeqCst);
        tokio::task::spawn_blocking(move || busy.recv());
        let again = connector.connect_over(pipe(&server));
        assert!(timeout(Duration::from_secs(1), again).await.is_err(), "it is still there");
    });
    drop(end);
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_wrong() {
    let (server, _) = server();
    let wrong = Credentials::password("tim", "sesame-open").unwrap();
    let connector = starttls().credentials(wrong);
    let error = soon(connector.connect_over(pipe(&server))).await.unwrap_err();
    assert_eq!((error.stage(), error.is_transient()), (Some(Stage::Auth), false));
    assert_eq!(error.reply().map(|reply| reply.code()), Some(535));
    assert_eq!(error.delivery(), Delivery::NotSent);
    let text = error.to_string();
    assert!(text.starts_with("the server refused the user name, password"), "{text}");
    let shown = format!("{text} {error:?} {connector:?}");
    assert!(!shown.contains("sesame"), "{shown}");
}

#[tokio::test]
async fn a_connector_shows_nothing_secret() {
    let (server, _) = server();
    let connector = starttls();
    let client = soon(connector.connect_over(pipe(&server))).await.unwrap();
    let shown = format!("{connector:?} {client:?}");
    assert!(shown.contains("localhost") && shown.contains("ScramSha256Plus"), "{shown}");
    assert!(!shown.contains("tanstaaf") && !shown.contains("tim"), "{shown}");
}

#[tokio::test]
async fn certificates_are_checked() {
    let (address, ..) = listening().await;
    let mut old = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let [other, _] =
        certificate("other", rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap());
    let trust = |path| tls::client(path).unwrap();
    for (connector, expected) in [
        (starttls().trust(trust(&other)), "not signed by a CA that this client trusts"),
        (
            Connector::starttls("example.org").trust(trust(&LOCALHOST[0])),
            "for another name: connect with the name",
        ),
        // What the operating system trusts, if there is any such thing.
        (Connector::starttls("localhost"), "CA"),
    ] {
        let error = soon(connector.addresses([address]).connect()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Tls { .. }), "{error:?}");
        assert_eq!((error.stage(), error.is_transient()), (Some(Stage::StartTls), false));
        let text = error.to_string();
        assert!(text.contains("TLS handshake with ") && text.contains(expected), "{text}");
    }

    let [cert, key] = certificate("old", old);
    let server = server().0.tls(tls::server(&cert, &key).unwrap());
    let error = soon(starttls().trust(trust(&cert)).connect_over(pipe(&server))).await.unwrap_err();
    assert!(error.to_string().contains("expired: ask its operator"), "{error}");
}

/// As `openssl req -x509` marks it.
#[tokio::test]
async fn a_servers_own_certificate_may_be_marked_as_a_cas() {
    let mut authority = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let [cert, key] = certificate("authority", authority);
    let server = server().0.tls(tls::server(&cert, &key).unwrap());
    let own = CertificateDer::from_pem_file(&cert).unwrap();
    for config in [tls::client(&cert).unwrap(), tls::trusting([own]).unwrap()] {
        let client = soon(starttls().trust(config).connect_over(pipe(&server))).await.unwrap();
        assert_eq!(client.mechanism(), Some(Mechanism::ScramSha256Plus));
    }
    let other = starttls().trust(tls::client(&LOCALHOST[0]).unwrap());
    let error = soon(other.connect_over(pipe(&server))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("not signed by a CA that this client trusts, or cannot be"), "{text}");
    assert!(text.contains("add it to the certificates that this client trusts"), "{text}");
}

/// Under TLS 1.3 the client learns it when it is through with the handshake.
#[tokio::test]
async fn a_server_that_wants_a_certificate_is_understood() {
    let [cert, key] = &*LOCALHOST;
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_file(cert).unwrap();
    roots.add(own.clone()).unwrap();
    let (roots, provider) = (Arc::new(roots), Arc::new(tls::provider()));
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let clients = clients.build().unwrap();
    for version in rustls::ALL_VERSIONS {
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients.clone())
            .with_single_cert(vec![own.clone()], PrivateKeyDer::from_pem_file(key).unwrap());
        let server = server().0.tls(Arc::new(config.unwrap()));
        let error = soon(starttls().connect_over(pipe(&server))).await.unwrap_err();
        let text = error.to_string();
        let expected =
            "the server refused this client's certificate, or requires one and was sent none";
        assert!(text.ends_with(expected), "{version:?}: {text}");
        assert!(!error.is_transient(), "{version:?}");

        let showing = tls::with_certificate(&tls::client(cert).unwrap(), cert, key).unwrap();
        let connector = starttls().trust(showing);
        let client = soon(connector.connect_over(pipe(&server))).await.unwrap();
        assert!(client.mechanism().is_some(), "{version:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_name_gives_its_address() {
    let laptop = Config::builder("laptop").build().unwrap();
    for (connector, hello) in [
        (cleartext(), "C: EHLO [127.0.0.1]"),
        (cleartext().config(laptop.clone()), "C: EHLO laptop"),
        (cleartext().config(laptop).sasl(sasl::Config::default()), "C: EHLO [127.0.0.1]"),
    ] {
        let script = GREETING.replace("C: EHLO", hello) + "C: QUIT\nS: 221 bye";
        let (address, _) = scripts(&[script.clone(), script]).await;
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
        for address in [address, SocketAddr::new(mapped, address.port())] {
            // There may be no IPv6.
            if address.is_ipv4() || TcpSocket::new_v6().is_ok() {
                let connector = connector.clone().addresses([address]);
                soon(soon(connector.connect()).await.unwrap().quit()).await;
            }
        }
    }
    let (client, _) = try_scripted(&cleartext(), &GREETING.replace("EHLO", "EHLO localhost")).await;
    let _ = client.unwrap();
}

#[tokio::test]
async fn what_is_not_tls_is_told() {
    let (address, ..) = listening().await;
    let connector = Connector::tls("localhost").addresses([address]);
    let error = soon(connector.connect()).await.unwrap_err();
    assert!(error.to_string().contains("did not answer in TLS: it may expect STARTTLS"), "{error}");

    let starttls = Connector::starttls("localhost");
    let (result, _) = try_scripted(&starttls, GREETING).await;
    let error = result.unwrap_err();
    let expected = client::Error::TlsNotOffered;
    assert!(matches!(error.kind(), ErrorKind::Session(found) if *found == expected), "{error:?}");
    assert_eq!((error.stage(), error.is_transient()), (Some(Stage::StartTls), false));
}

#[tokio::test]
async fn cleartext_keeps_the_password() {
    let connector = cleartext().credentials(tim());
    let script =
        "S: 220 script\nC: EHLO\nS: 250-script\nS: 250 AUTH PLAIN LOGIN\nC: QUIT\nS: 221 bye";
    let (result, playing) = try_scripted(&connector, script).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("safe without TLS"), "{text}");
    playing.await.unwrap();
}

#[tokio::test]
async fn tls_is_taken_where_it_is_offered() {
    let opportunistic = Connector::insecure_opportunistic("localhost");
    let (result, playing) =
        try_scripted(&opportunistic, &format!("{GREETING}C: QUIT\nS: 221 bye")).await;
    soon(result.unwrap().quit()).await;
    playing.await.unwrap();
    let (server, _) = server();
    let trusting = opportunistic.trust(tls::client(&LOCALHOST[0]).unwrap()).credentials(tim());
    let client = soon(trusting.connect_over(pipe(&server))).await.unwrap();
    assert_eq!(client.mechanism(), Some(Mechanism::ScramSha256Plus));
    // A certificate that nobody trusts, for another name, which is none of the DNS.
    let unverified = Connector::insecure_opportunistic("my_next hop").trust(tls::Unverified);
    let client = soon(unverified.connect_over(pipe(&server))).await.unwrap();
    // STARTTLS is not offered inside TLS.
    assert!(!client.extensions().offers("STARTTLS"));
    // That server could be anybody's, so no credentials go there.
    let error = soon(unverified.credentials(tim()).connect_over(pipe(&server))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unverified { .. }), "{error}");
    assert_eq!((error.stage(), error.is_transient()), (Some(Stage::StartTls), false));
}

/// An address whose listener takes no more connections: the system drops what asks for one.
async fn dead() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(socket) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(socket.unwrap());
        assert!(waiting.len() < 100, "the system takes more than it is told to");
    }
    (address, listener, waiting)
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "others refuse where a backlog is full")]
async fn the_first_address_that_answers_is_used() {
    let (dead, _listener, _waiting) = dead().await;
    let (address, ..) = listening().await;
    let began = Instant::now();
    let client = soon(starttls().addresses([dead, address]).connect()).await.unwrap();
    let took = began.elapsed();
    assert!(took > Duration::from_millis(240) && took < Duration::from_secs(2), "{took:?}");
    drop(client);

    // Those that refuse are not waited for.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = closed.local_addr().unwrap();
    drop(closed);
    let began = Instant::now();
    let many = std::iter::repeat_n(refusing, 40).chain([address]);
    let client = soon(starttls().addresses(many).connect()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(client);

    let impatient = starttls().addresses([dead, refusing]).time_limit(Duration::from_secs(1));
    let error = soon(impatient.connect()).await.unwrap_err();
    assert!(error.to_string().contains("did not answer in time; check the name"), "{error}");
    let error = soon(starttls().addresses([refusing]).connect()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unreachable { port: 587, .. }), "{error:?}");
    assert_eq!((error.stage(), error.is_transient()), (None, true));
    assert!(error.to_string().contains("cannot connect to localhost, port 587: "), "{error}");
    let error = soon(starttls().addresses([]).connect()).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("has no address"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    for (script, stage, seconds) in [
        ("WAIT", Stage::Greeting, 300),
        ("S: 220-script\nWAIT", Stage::Greeting, 300),
        ("S: 220 script\nC: EHLO\nWAIT", Stage::Ehlo, 300),
        (
            "S: 220 script\nC: EHLO\nS: 250-script\nS: 250 STARTTLS\nC: STARTTLS\nWAIT",
            Stage::StartTls,
            300,
        ),
        (
            "S: 220 script\nC: EHLO\nS: 250-script\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nWAIT",
            Stage::StartTls,
            300,
        ),
    ] {
        let began = tokio::time::Instant::now();
        let (result, _) = try_scripted(&Connector::starttls("localhost"), script).await;
        let error = result.unwrap_err();
        assert_eq!((error.stage(), error.is_transient()), (Some(stage), true), "{error:?}");
        assert_eq!(began.elapsed().as_secs(), seconds, "{script}");
        let limited = Connector::starttls("localhost").time_limit(Duration::from_secs(7));
        let began = tokio::time::Instant::now();
        assert!(try_scripted(&limited, script).await.0.is_err());
        assert_eq!(began.elapsed().as_secs(), 7, "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn octets_of_a_line_that_does_not_end_win_no_time() {
    let (own, mut other) = duplex(64);
    tokio::spawn(async move {
        while other.write_all(b"2").await.is_ok() {
            sleep(Duration::from_secs(60)).await;
        }
    });
    let began = tokio::time::Instant::now();
    let error = cleartext().connect_over(own).await.unwrap_err();
    assert_eq!(error.stage(), Some(Stage::Greeting));
    assert_eq!(began.elapsed().as_secs(), 300);
}

/// What the server said is worth more than that it closed.
#[tokio::test]
async fn a_server_that_sends_away_is_heard() {
    let (result, _) = try_scripted(&cleartext(), "S: 421 4.3.2 Too many connections").await;
    let error = result.unwrap_err();
    assert_eq!((error.stage(), error.is_transient()), (Some(Stage::Greeting), true));
    assert!(error.to_string().contains("421 4.3.2 Too many"), "{error}");
}

/// Both features of rustls may be on, and then it has no provider of its own.
#[test]
fn the_process_has_no_provider() {
    let _ = tls::client(&LOCALHOST[0]).unwrap();
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    let none = tls::client("/nowhere/ca.pem").unwrap_err();
    assert!(none.to_string().starts_with("/nowhere/ca.pem: "), "{none}");
    let empty = tls::client(&LOCALHOST[1]).unwrap_err();
    assert!(empty.to_string().ends_with("no certificate found"), "{empty}");
    assert_eq!(empty.kind(), io::ErrorKind::Other);
    let config = tls::client(&LOCALHOST[0]).unwrap();
    let [other, _] = certificate("unfit", rcgen::CertificateParams::default());
    let unfit = tls::with_certificate(&config, &other, &LOCALHOST[1]).unwrap_err();
    for file in [&other, &LOCALHOST[1]] {
        assert!(unfit.to_string().contains(&*file.to_string_lossy()), "{unfit}");
    }
}

/// Nor do lines of a reply that does not end.
#[tokio::test(start_paused = true)]
async fn lines_of_a_reply_that_does_not_end_win_no_time() {
    let script = "S: 220-and more\nP: 60000\n".repeat(100);
    let began = tokio::time::Instant::now();
    let (result, _) = try_scripted(&cleartext(), &script).await;
    assert_eq!(result.unwrap_err().stage(), Some(Stage::Greeting));
    assert_eq!(began.elapsed().as_secs(), 300);
}
