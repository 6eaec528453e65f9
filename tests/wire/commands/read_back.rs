//! Whatever is written reads back, and no octets do harm.

use super::*;

const NAME: &str = "[!-~ü€😀]{1,20}";

const TEXT: &str = "[!-~ü€😀]{1,5}( {1,2}[!-~ü]{1,5}){0,3}";

const ATOM: &str = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~ü-]{1,6}";

const LABEL: &str = "[a-z0-9ü]([a-z0-9-]{0,5}[a-z0-9])?";

fn mailbox_text() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        format!("{ATOM}(\\.{ATOM}){{0,2}}").as_str().prop_map_regex(),
        r#""([ !#-\[\]-~ü]|\\[ -~]){0,8}""#.prop_map_regex(),
    ];
    let domain = prop_oneof![
        format!("{LABEL}(\\.{LABEL}){{0,3}}").as_str().prop_map_regex(),
        r"\[x-y:[!-Z^-~]{1,8}\]".prop_map_regex(),
        any::<[u8; 4]>().prop_map(|ip| format!("[{}]", core::net::Ipv4Addr::from(ip))).boxed(),
        any::<[u8; 16]>()
            .prop_map(|ip| format!("[IPv6:{}]", core::net::Ipv6Addr::from(ip)))
            .boxed(),
    ];
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

fn parameters_text() -> impl Strategy<Value = String> {
    let parameter = "[A-Za-z0-9][A-Za-z0-9-]{0,5}(=[!-<>-~ü]{1,6})?";
    format!("({parameter}( {{1,2}}{parameter}){{0,3}})?").as_str().prop_map_regex()
}

trait Regex {
    fn prop_map_regex(&self) -> BoxedStrategy<String>;
}

impl Regex for str {
    fn prop_map_regex(&self) -> BoxedStrategy<String> {
        proptest::string::string_regex(self).unwrap().boxed()
    }
}

#[track_caller]
fn reads_back(command: Command<'_>) {
    let line = written(&command);
    let line = line.strip_suffix("\r\n").unwrap();
    assert!(!line.contains(['\r', '\n']), "{line:?}");
    assert_eq!(parse(line.as_bytes()), Ok(command), "{line:?}");
}

/// All the text that a command lends.
fn texts<'a>(command: &Command<'a>) -> Vec<&'a str> {
    fn parameters(parameters: Parameters<'_>) -> Vec<&str> {
        let parts = parameters.iter().flat_map(|p| [Some(p.name()), p.value()]).flatten();
        parts.chain([parameters.as_str()]).collect()
    }
    fn mailbox(mailbox: Mailbox<'_>) -> [&str; 3] {
        [mailbox.as_str(), mailbox.local_part(), mailbox.domain().unwrap_or_default()]
    }
    match command {
        Command::Ehlo(name) | Command::Helo(name) => vec![name.as_str()],
        Command::Auth(auth) => {
            [Some(auth.mechanism()), auth.initial_response()].into_iter().flatten().collect()
        }
        Command::Mail(mail) => {
            [mail.from().map(mailbox).unwrap_or_default().to_vec(), parameters(mail.parameters())]
                .concat()
        }
        Command::Rcpt(rcpt) => {
            [mailbox(rcpt.to()).to_vec(), parameters(rcpt.parameters())].concat()
        }
        Command::Noop(text) | Command::Help(text) => {
            text.map(|text| text.as_str()).into_iter().collect()
        }
        Command::Vrfy(text) | Command::Expn(text) => vec![text.as_str()],
        Command::Unknown(unknown) => {
            [Some(unknown.verb()), unknown.arguments()].into_iter().flatten().collect()
        }
        Command::StartTls
        | Command::Data
        | Command::Bdat { .. }
        | Command::Rset
        | Command::Quit => vec![],
    }
}

fn check_any(line: &[u8]) {
    match parse(line) {
        Ok(command) => {
            for text in texts(&command) {
                assert!(!text.contains(char::is_control), "{text:?}");
            }
            if let Command::Mail(mail) = command {
                if let Ok(Some(auth)) = mail.auth() {
                    assert!(!auth.mailbox().unwrap_or_default().contains(char::is_control));
                }
            }
            reads_back(command);
        }
        Err(error) => {
            assert!(error.offset() <= line.len());
            assert!(!error.rule().is_empty());
        }
    }
}

const LINES: &[&str] = &[
    "EHLO client.example.org",
    "HELO [192.0.2.1]",
    "AUTH PLAIN AGFubgBzZWNyZXQ=",
    "STARTTLS",
    "MAIL FROM:<ann@example.org> SIZE=1000 BODY=8BITMIME AUTH=ann+2Bx@example.org",
    "MAIL FROM:<@a,@b:\"a \\\" b\"@[IPv6:2001:db8::1]>",
    "RCPT TO:<grüße@bücher.example> NOTIFY=NEVER",
    "RCPT TO:<Postmaster>",
    "MAIL FROM:ann@example.org SIZE=1000",
    "RCPT TO: postmaster NOTIFY=NEVER",
    "DATA",
    "BDAT 1000 LAST",
    "NOOP a  b",
    "VRFY ann",
    "HELP",
    "QUIT",
    "XFOO bar",
];

proptest! {
    #[test]
    fn names_and_texts_read_back(name in NAME, text in TEXT, verb in "[A-Za-z]{1,10}") {
        let name = EhloName::new(&name).unwrap();
        let text = Text::new(&text).unwrap();
        reads_back(Command::Ehlo(name));
        reads_back(Command::Helo(name));
        for command in [Command::Noop(None), Command::Help(None), Command::StartTls] {
            reads_back(command);
        }
        for command in [Command::Data, Command::Rset, Command::Quit] {
            reads_back(command);
        }
        reads_back(Command::Noop(Some(text)));
        reads_back(Command::Help(Some(text)));
        reads_back(Command::Vrfy(text));
        reads_back(Command::Expn(text));
        if let Ok(unknown) = Unknown::new(&verb, None) {
            reads_back(Command::Unknown(unknown));
            let unknown = Unknown::new(&verb, Some(text.as_str())).unwrap();
            reads_back(Command::Unknown(unknown));
        }
    }

    #[test]
    fn auth_and_bdat_read_back(
        mechanism in "[A-Za-z0-9_-]{1,20}",
        response in proptest::option::of("[!-~]{1,40}"),
        size: u64,
        last: bool,
    ) {
        reads_back(Command::Auth(Auth::new(&mechanism, response.as_deref()).unwrap()));
        reads_back(Command::Bdat { size, last });
    }

    #[test]
    fn mail_and_rcpt_read_back(mailbox in mailbox_text(), parameters in parameters_text()) {
        let mailbox = Mailbox::parse(&mailbox).unwrap();
        let parameters = Parameters::parse(&parameters).unwrap();
        reads_back(Command::Mail(Mail::new(None, parameters).unwrap()));
        reads_back(Command::Mail(Mail::new(Some(mailbox), parameters).unwrap()));
        reads_back(Command::Rcpt(Rcpt::new(mailbox, parameters)));
        reads_back(Command::Rcpt(Rcpt::new(Mailbox::POSTMASTER, parameters)));
    }

    #[test]
    fn mail_auth_reads_back(mailbox in mailbox_text()) {
        let auth = MailAuth::new(mailbox.as_str()).unwrap();
        let line = format!("MAIL FROM:<> AUTH={auth}");
        prop_assert!(line.is_ascii());
        prop_assert_eq!(mail_of(&line).auth(), Ok(Some(auth)));
    }

    /// Whatever a constructor takes, not just what it is meant for, reads back.
    #[test]
    fn constructors_take_nothing_that_reads_as_something_else(text in "\\PC{0,6}|(?s:.{0,6})") {
        if let Ok(name) = EhloName::new(&text) {
            reads_back(Command::Ehlo(name));
        }
        if let Ok(text) = Text::new(&text) {
            reads_back(Command::Vrfy(text));
        }
        if let Ok(unknown) = Unknown::new(&text, None) {
            reads_back(Command::Unknown(unknown));
        }
        if let Ok(unknown) = Unknown::new("XFOO", Some(&text)) {
            reads_back(Command::Unknown(unknown));
        }
        if let Ok(auth) = Auth::new("PLAIN", Some(&text)) {
            reads_back(Command::Auth(auth));
        }
        if let Ok(auth) = Auth::new(&text, None) {
            reads_back(Command::Auth(auth));
        }
        if let Ok(parameters) = Parameters::parse(&text) {
            reads_back(Command::Rcpt(Rcpt::new(Mailbox::POSTMASTER, parameters)));
        }
    }

    #[test]
    fn any_octets(line: Vec<u8>) {
        check_any(&line);
    }

    #[test]
    fn mutated_lines(
        line in proptest::sample::select(LINES),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 0..4),
    ) {
        let mut line = line.as_bytes().to_vec();
        for (position, octet, edit) in edits {
            let position = position.index(line.len() + 1);
            match edit {
                0 => line.insert(position, octet),
                1 => line.truncate(position),
                2 => line.splice(position..position, *b"\xc2\x85").for_each(drop),
                _ if position < line.len() => line[position] = octet,
                _ => line.push(b' '),
            }
        }
        check_any(&line);
    }
}
