//! The lines of both sides: what one side writes, the other reads, and whatever else comes is refused or means the same
//! when it is written again.

use std::net::IpAddr;

use proptest::{collection::vec, option, prelude::*, sample::select};
use smtp_auth::{
    dovecot::{
        ClientLine, Cookie, Data, FailCode, MAX_PARAMETERS, MAX_TEXT, Properties, Request,
        ServerLine,
    },
    sasl::Mechanism,
};

/// The line without its LF, which is the only one.
fn written(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(out.iter().position(|&octet| octet == b'\n'), Some(out.len() - 1));
    out.pop();
    out
}

fn request() -> impl Strategy<Value = Request> {
    let ends =
        (option::of(any::<(IpAddr, Option<u16>)>()), option::of(any::<(IpAddr, Option<u16>)>()));
    let texts = ("[^\\pC\\p{Zl}\\p{Zp}]{1,50}", option::of("[^\\pC\\p{Zl}\\p{Zp}]{0,50}"));
    let all = (any::<u32>(), "[A-Za-z0-9_-]{1,20}", texts, ends, option::of(any::<bool>()));
    all.prop_map(|(id, mechanism, (service, session), (local, remote), secured)| {
        let mut request = Request::new(id, &mechanism, &service).unwrap();
        if let Some((address, port)) = local {
            request = request.with_local(address, port);
        }
        if let Some((address, port)) = remote {
            request = request.with_remote(address, port);
        }
        if let Some(session) = session {
            request = request.with_local_name(&session).unwrap().with_session(&session).unwrap();
        }
        match secured {
            Some(true) => request.with_tls(),
            Some(false) => request.with_secured(),
            None => request,
        }
    })
}

fn data() -> impl Strategy<Value = Data> {
    vec(any::<u8>(), 0..60).prop_map(Data::new)
}

fn client_line() -> impl Strategy<Value = ClientLine> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(major, minor)| ClientLine::Version { major, minor }),
        any::<u32>().prop_map(ClientLine::Cpid),
        any::<u32>().prop_map(ClientLine::Cancel),
        (any::<u32>(), data()).prop_map(|(id, data)| ClientLine::Cont(id, data)),
        (request(), option::of(data()))
            .prop_map(|(request, resp)| ClientLine::Auth(request.into(), resp)),
    ]
}

fn server_line() -> impl Strategy<Value = ServerLine<'static>> {
    let codes =
        [FailCode::TempFail, FailCode::AuthzFail, FailCode::UserDisabled, FailCode::PassExpired];
    let fail = (any::<u32>(), option::of(".{0,20}"), option::of(select(codes.to_vec())));
    let mech = (".{1,20}", select(Mechanism::COMPILED.to_vec()));
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(major, minor)| ServerLine::Version { major, minor }),
        mech.prop_map(|(name, own)| {
            ServerLine::Mech(name.into(), Properties::of(own).unwrap_or_default())
        }),
        any::<u32>().prop_map(ServerLine::Spid),
        any::<u32>().prop_map(ServerLine::Cuid),
        any::<[u8; 16]>().prop_map(|octets| ServerLine::Cookie(Cookie::new(octets))),
        Just(ServerLine::Done),
        // Any text: TABs, line ends and the like are escaped.
        (any::<u32>(), option::of("(?s).{0,20}"))
            .prop_map(|(id, user)| ServerLine::Ok { id, user: user.map(Into::into) }),
        fail.prop_map(|(id, reason, code)| {
            ServerLine::Fail { id, reason: reason.map(Into::into), code }
        }),
        (any::<u32>(), data()).prop_map(|(id, data)| ServerLine::Cont(id, data)),
    ]
}

/// Octets that are nearly a line.
fn near() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "AUTH",
        "CONT",
        "CANCEL",
        "VERSION",
        "CPID",
        "MECH",
        "OK",
        "FAIL",
        "COOKIE",
        "SPID",
        "\t",
        "\t",
        "\t",
        "1",
        "PLAIN",
        "service=smtp",
        "resp=",
        "resp",
        "AA==",
        "=",
        "rip=::1",
        "secured",
        "secured=tls",
        "secured=no",
        "user=",
        "code=",
        "\x01",
        "\x01t",
        "\r",
        "\n",
        "\0",
        "\u{202e}",
    ];
    let word = prop_oneof![
        6 => select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..5),
    ];
    vec(word, 0..20).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn a_clients_line_is_read(line in client_line()) {
        let octets = written(|out| line.write(out));
        prop_assert_eq!(ClientLine::parse(&octets), Ok(line));
    }

    #[test]
    fn a_servers_line_is_read(line in server_line()) {
        let octets = written(|out| line.write(out));
        prop_assert_eq!(ServerLine::parse(&octets), Ok(Some(line)));
    }

    #[test]
    fn whatever_is_read_is_the_same_again(octets in near()) {
        if let Ok(line) = ClientLine::parse(&octets) {
            let again = written(|out| line.write(out));
            prop_assert_eq!(ClientLine::parse(&again), Ok(line));
        }
        if let Ok(Some(line)) = ServerLine::parse(&octets) {
            let again = written(|out| line.write(out));
            prop_assert_eq!(ServerLine::parse(&again), Ok(Some(line)));
        }
    }
}

fn read(line: &str) -> Result<Request, (Option<u32>, String)> {
    match ClientLine::parse(line.as_bytes()) {
        Ok(ClientLine::Auth(request, _)) => Ok(*request),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err((error.id(), error.to_string())),
    }
}

#[test]
fn a_request_has_what_the_client_said() {
    let request = read(
        "AUTH\t7\tplain\tservice=smtp\tnologin\tlip=::ffff:192.0.2.1\trip=2001:db8::7\tlport=587\trport=65535\t\
         local_name=mail.example.org\tsession=a\x01b\tsecured=tls\tresp=\tservice=other",
    )
    .unwrap();
    assert_eq!((request.id(), request.mechanism(), request.service()), (7, "plain", "smtp"));
    assert_eq!(request.lip(), Some([192, 0, 2, 1].into()));
    assert_eq!(request.rip(), "2001:db8::7".parse().ok());
    assert_eq!((request.lport(), request.rport()), (Some(587), Some(65535)));
    assert_eq!(request.local_name(), Some("mail.example.org"));
    assert_eq!(request.session(), Some("ab"));
    assert!(request.is_secured() && request.is_tls());

    let request =
        read("AUTH\t0\tX\tservice=s\trip=mail.example.org\trport=65536\tlport=-1\tsecured")
            .unwrap();
    assert_eq!((request.rip(), request.rport(), request.lport()), (None, None, None));
    assert_eq!((request.lip(), request.local_name(), request.session()), (None, None, None));
    assert!(request.is_secured() && !request.is_tls());
    assert!(!read("AUTH\t0\tX\tservice=s").unwrap().is_secured());
}

#[test]
fn every_value_of_secured_says_that_the_connection_is_secured_and_only_one_says_that_it_is_tls() {
    for (parameter, is_secured, is_tls) in [
        ("", false, false),
        ("\tsecured", true, false),
        ("\tsecured=", true, false),
        ("\tsecured=no", true, false),
        ("\tsecured=TLS", true, false),
        ("\tsecured=tls1", true, false),
        ("\tsecured=tls", true, true),
        ("\tSECURED", false, false),
        ("\tsecured2", false, false),
    ] {
        let request = read(&format!("AUTH\t0\tX\tservice=s{parameter}")).unwrap();
        assert_eq!((request.is_secured(), request.is_tls()), (is_secured, is_tls), "{parameter}");
    }
    for twice in ["secured\tsecured", "secured=tls\tsecured", "secured=\tsecured=tls"] {
        assert!(read(&format!("AUTH\t0\tX\tservice=s\t{twice}")).is_err(), "{twice}");
    }
}

#[test]
fn an_empty_initial_response_has_a_form_of_its_own() {
    let read = |resp: &str| {
        let line = format!("AUTH\t1\tPLAIN\tservice=smtp{resp}");
        match ClientLine::parse(line.as_bytes()) {
            Ok(ClientLine::Auth(request, resp)) => {
                let line = ClientLine::Auth(request, resp.clone());
                (resp, String::from_utf8(written(|out| line.write(out))).unwrap())
            }
            other => panic!("{other:?}"),
        }
    };
    for none in ["", "\tresp", "\tresp="] {
        let (resp, again) = read(none);
        assert_eq!(resp, None);
        assert!(!again.contains("resp"));
    }
    let (resp, again) = read("\tresp==");
    assert_eq!(resp, Some(Data::default()));
    assert!(again.ends_with("\tresp=="));
}

#[test]
fn a_request_is_bounded() {
    let most = "\tx".repeat(MAX_PARAMETERS - 1);
    assert!(read(&format!("AUTH\t1\tX\tservice=s{most}")).is_ok());
    assert!(read(&format!("AUTH\t1\tX\tservice=s{most}\tresp=")).is_err());
    let text = "x".repeat(MAX_TEXT);
    assert!(
        read(&format!("AUTH\t1\tX\tservice={text}\tsession={text}\tlocal_name={text}")).is_ok()
    );
    for name in ["service", "session", "local_name"] {
        let (id, _) = read(&format!("AUTH\t1\tX\tservice=s\t{name}=x{text}")).unwrap_err();
        assert_eq!(id, Some(1));
    }
    assert!(Request::new(1, "X", "s").unwrap().with_session(&format!("x{text}")).is_err());
    assert!(Request::new(1, &"X".repeat(21), "s").is_err() && Request::new(1, "", "s").is_err());
}

#[test]
fn what_could_end_a_line_of_a_log_is_refused() {
    for text in
        ["a\x01nb", "a\x01rb", "a\x01tb", "a\x010b", "a\x011b", "\u{202e}x", "\u{7f}", "a\x01"]
    {
        let (id, error) = read(&format!("AUTH\t1\tX\tservice=s\tsession={text}")).unwrap_err();
        assert_eq!(id, Some(1));
        assert!(!error.contains(text));
    }
}

#[test]
fn escapes_are_undone() {
    let user = |field: &str| match ServerLine::parse(format!("OK\t1\tuser={field}").as_bytes()) {
        Ok(Some(ServerLine::Ok { user, .. })) => user.map(|user| user.into_owned()),
        _ => None,
    };
    assert_eq!(user("a\x010\x011\x01t\x01r\x01n\x01l\x01xb").as_deref(), Some("a\0\x01\t\r\n\nxb"));
    assert_eq!(user("a\x01"), None);
    let mut out = Vec::new();
    ServerLine::Ok { id: 1, user: Some("a\0\x01\t\r\n".into()) }.write(&mut out);
    assert_eq!(out, b"OK\t1\tuser=a\x010\x011\x01t\x01r\x01n\n");
}

#[test]
fn an_ok_without_a_user_has_none() {
    assert_eq!(ServerLine::parse(b"OK\t1"), Ok(Some(ServerLine::Ok { id: 1, user: None })));
    assert_eq!(ServerLine::parse(b"NEWS\t1"), Ok(None));
    assert!(ServerLine::parse(b"OK\t+1\tuser=tim").is_err());
    assert!(ServerLine::parse(b"COOKIE\tzz").is_err());
}

#[test]
fn no_other_mechanism_is_offered() {
    for mechanism in Mechanism::COMPILED {
        let refused = mechanism.binds_channel() || *mechanism == Mechanism::External;
        assert_eq!(Properties::of(*mechanism).is_none(), refused, "{mechanism}");
    }
    assert_eq!(Properties::of(Mechanism::custom("X-OWN").unwrap()), None);
}
