//! The mail clients, and how each is told to sign in.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    Options, Result,
    home::Home,
    matrix::Fault,
    message::Form,
    process::{Beside, Processes},
    sign_in::{FROM, SignIn, TO, Transport, UNNAMED, USER, wire_name},
    thunderbird,
};

pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// What prints its version.
    version: Vec<String>,
    /// Why it has no such mechanism, or not in that transport.
    pub(crate) lacks: fn(&str, Transport) -> Option<&'static str>,
    /// What is to be known of it where it passes.
    pub(crate) remark: fn(&str, bool) -> Option<&'static str>,
    /// What it does wrong there, and fails for.
    pub(crate) fault: fn(&str) -> Option<Fault>,
    pub(crate) beside: Option<fn(&Home) -> Result<Beside>>,
    pub(crate) command: Box<dyn Fn(&SignIn<'_>) -> Result<Command>>,
    /// The mechanisms that it takes only where nothing else is offered.
    pub(crate) alone: &'static [&'static str],
    /// What it says where it is refused; empty where any failure will do.
    pub(crate) refused: &'static str,
    pub(crate) form: Form,
    pub(crate) sends_mail: bool,
    /// Why it sends no second message on a connection, or none at all; empty where it does.
    pub(crate) no_second: &'static str,
}

impl Client {
    pub(crate) fn version_command(&self) -> Command {
        let mut words = self.version.iter();
        let mut command = Command::new(words.next().map_or("false", String::as_str));
        command.args(words);
        command
    }

    /// Starts what all its commands need to run beside them, if anything.
    pub(crate) async fn start_beside(&self, home: &Home) -> Result<Processes> {
        match self.beside {
            Some(beside) => beside(home)?.start().await,
            None => Processes::start([]),
        }
    }

    /// The first word that looks like one.
    pub(crate) fn version(&self, said: &str) -> String {
        let looks = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let words = said.split(|c: char| c.is_whitespace() || c == ',');
        words.into_iter().find(looks).unwrap_or("?").into()
    }
}

/// An empty response is an empty line; the sign stands for it in the AUTH command only.
const EQUALS_SIGN: Fault = Fault {
    how: "it answers a challenge with \"=\" instead of an empty line (RFC 4954 §4)",
    seen: " S: 501 5.5.2 ",
};

const NO_RESPONSE: Fault = Fault {
    how: "it answers a challenge with the next command instead of an empty line",
    seen: " S: 501 5.5.2 ",
};

const SENDS_ONE: &str = "it sends one message and exits";

pub(crate) fn all(options: &Options) -> [Client; 8] {
    let python = options.peers.join("venv/bin/python");
    let modules = options.peers.join("node_modules");
    [
        swaks(),
        curl(),
        msmtp(),
        smtplib(&python),
        aiosmtplib(&python),
        nodemailer(modules),
        thunderbird(&python),
        gsasl(),
    ]
}

/// With nothing to read.
fn program(name: impl AsRef<Path>) -> Command {
    let mut command = Command::new(name.as_ref());
    command.stdin(Stdio::null());
    command
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.into()).collect()
}

fn nothing(_: &str, _: bool) -> Option<&'static str> {
    None
}

fn no_fault(_: &str) -> Option<Fault> {
    None
}

fn file<'a>(sign_in: &'a SignIn<'_>) -> Result<&'a Path> {
    Ok(sign_in.files.first().ok_or("no message")?)
}

fn swaks() -> Client {
    Client {
        name: "swaks",
        version: words(&["swaks", "--version"]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" => None,
            _ => Some("it supports only PLAIN, LOGIN, CRAM-MD5, DIGEST-MD5 and NTLM"),
        },
        remark: nothing,
        fault: no_fault,
        beside: None,
        command: Box::new(|sign_in| {
            let mut swaks = program("swaks");
            swaks
                .args(["--server", "localhost", "--timeout", "30", "--ehlo", "client.example.org"])
                .args(["--port", &sign_in.port.to_string(), "--from", FROM, "--to", TO])
                .args(["--auth", sign_in.mechanism, "--auth-user", sign_in.account.name])
                .args(["--auth-password", sign_in.secret(), "--data"])
                .arg(format!("@{}", file(sign_in)?.display()))
                .args(match sign_in.transport {
                    Transport::StartTls => &["-tls"][..],
                    Transport::Implicit => &["--tls-on-connect"],
                    Transport::Cleartext => &[],
                });
            if sign_in.transport.is_tls() {
                swaks.args(["--tls-verify", "--tls-ca-path"]).arg(&sign_in.home.ca);
            }
            Ok(swaks)
        }),
        alone: &[],
        refused: "",
        form: Form::NoLastEnd,
        sends_mail: true,
        no_second: SENDS_ONE,
    }
}

fn curl() -> Client {
    Client {
        name: "curl",
        version: words(&["curl", "--version"]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" | "OAUTHBEARER" | "XOAUTH2" | "EXTERNAL" | UNNAMED => {
                None
            }
            "SCRAM-SHA-1" | "SCRAM-SHA-256" => Some("Debian builds it without GNU SASL"),
            _ => Some("it does not support the mechanism"),
        },
        remark: |mechanism, right| {
            (mechanism == "XOAUTH2" && !right).then_some(
                "if a challenge contains an error, it disconnects without sending the empty response",
            )
        },
        fault: |mechanism| (mechanism == UNNAMED).then_some(EQUALS_SIGN),
        beside: None,
        command: Box::new(|sign_in| {
            let mut curl = program("curl");
            for (number, file) in sign_in.files.iter().enumerate() {
                if number > 0 {
                    curl.arg("--next");
                }
                curl_message(&mut curl, sign_in, file);
            }
            Ok(curl)
        }),
        // With a token it adds to the mechanism that it is told those that it prefers.
        alone: &["XOAUTH2"],
        refused: "",
        form: Form::Crlf,
        sends_mail: true,
        no_second: "",
    }
}

fn curl_message(curl: &mut Command, sign_in: &SignIn<'_>, file: &Path) {
    let scheme = if sign_in.transport == Transport::Implicit { "smtps" } else { "smtp" };
    curl.args(["--silent", "--show-error", "--max-time", "50", "--url"])
        .arg(format!("{scheme}://localhost:{}/client.example.org", sign_in.port))
        .args(["--mail-from", FROM, "--mail-rcpt", TO, "--login-options"])
        .arg(format!("AUTH={}", wire_name(sign_in.mechanism)))
        .arg("--upload-file")
        .arg(file);
    if sign_in.transport.is_tls() {
        curl.arg("--ssl-reqd").arg("--cacert").arg(&sign_in.home.ca);
    }
    if let Some(authzid) = sign_in.account.authzid {
        curl.args(["--sasl-authzid", authzid]);
    }
    if let Some(own) = sign_in.certificate() {
        let user = if sign_in.mechanism == UNNAMED { "" } else { USER };
        curl.args(["--user", &format!("{user}:"), "--cert"])
            .arg(&own.cert)
            .arg("--key")
            .arg(&own.key);
    } else if sign_in.takes_token() {
        let user = format!("{}:", sign_in.account.name);
        curl.args(["--user", &user, "--oauth2-bearer", sign_in.secret()]);
    } else {
        curl.args(["--user", &format!("{}:{}", sign_in.account.name, sign_in.secret())]);
    }
}

fn msmtp() -> Client {
    Client {
        name: "msmtp",
        version: words(&["msmtp", "--version"]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" | "SCRAM-SHA-1" | "SCRAM-SHA-256" | "OAUTHBEARER"
            | "XOAUTH2" | "EXTERNAL" | UNNAMED => None,
            _ => Some("it does not support the mechanism"),
        },
        remark: nothing,
        fault: |mechanism| (mechanism == UNNAMED).then_some(NO_RESPONSE),
        beside: None,
        command: Box::new(|sign_in| {
            let mut msmtp = Command::new("msmtp");
            let message = File::open(file(sign_in)?).map_err(|error| error.to_string())?;
            msmtp
                .args(["--file=/dev/null", "--host=localhost", "--timeout=30"])
                .args(["--domain=client.example.org", &format!("--from={FROM}")])
                .arg(format!("--port={}", sign_in.port))
                .arg(format!("--auth={}", wire_name(sign_in.mechanism).to_ascii_lowercase()))
                .arg("--passwordeval=printenv SECRET")
                .env("SECRET", sign_in.secret())
                .args(match sign_in.transport {
                    Transport::StartTls => &["--tls=on", "--tls-starttls=on"][..],
                    Transport::Implicit => &["--tls=on", "--tls-starttls=off"],
                    Transport::Cleartext => &["--tls=off"],
                })
                .stdin(Stdio::from(message));
            if sign_in.transport.is_tls() {
                msmtp.arg(format!("--tls-trust-file={}", sign_in.home.ca.display()));
            }
            if sign_in.mechanism != UNNAMED {
                msmtp.arg(format!("--user={}", sign_in.account.name));
            }
            if let Some(own) = sign_in.certificate() {
                msmtp.arg(format!("--tls-cert-file={}", own.cert.display()));
                msmtp.arg(format!("--tls-key-file={}", own.key.display()));
            }
            msmtp.arg(TO);
            Ok(msmtp)
        }),
        alone: &[],
        refused: "",
        form: Form::Lf,
        sends_mail: true,
        no_second: SENDS_ONE,
    }
}

fn smtplib(python: &Path) -> Client {
    let path = python.to_owned();
    Client {
        name: "smtplib",
        version: words(&[&path.to_string_lossy(), "--version"]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" => None,
            _ => Some("it supports only PLAIN, LOGIN and CRAM-MD5"),
        },
        remark: nothing,
        fault: no_fault,
        beside: None,
        command: Box::new(move |sign_in| Ok(script(&path, "smtplib_client.py", sign_in))),
        alone: &[],
        refused: "",
        form: Form::Crlf,
        sends_mail: true,
        no_second: "",
    }
}

fn aiosmtplib(python: &Path) -> Client {
    let path = python.to_owned();
    let version = "import aiosmtplib; print(aiosmtplib.__version__)";
    Client {
        name: "aiosmtplib",
        version: words(&[&path.to_string_lossy(), "-c", version]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" | "XOAUTH2" => None,
            _ => Some("it supports only PLAIN, LOGIN, CRAM-MD5 and XOAUTH2"),
        },
        remark: nothing,
        fault: no_fault,
        beside: None,
        command: Box::new(move |sign_in| Ok(script(&path, "aiosmtplib_client.py", sign_in))),
        alone: &[],
        refused: "",
        form: Form::Crlf,
        sends_mail: true,
        no_second: "",
    }
}

fn nodemailer(modules: PathBuf) -> Client {
    let package = modules.join("nodemailer/package.json");
    let version = format!("console.log(require({:?}).version)", package.to_string_lossy());
    Client {
        name: "nodemailer",
        version: words(&["node", "-e", &version]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" | "XOAUTH2" => None,
            _ => Some("it supports only PLAIN, LOGIN, CRAM-MD5 and XOAUTH2"),
        },
        remark: nothing,
        fault: no_fault,
        beside: None,
        command: Box::new(move |sign_in| {
            let mut node = script(Path::new("node"), "nodemailer_client.cjs", sign_in);
            node.env("NODE_PATH", &modules);
            Ok(node)
        }),
        alone: &[],
        refused: "",
        form: Form::Crlf,
        sends_mail: true,
        no_second: "",
    }
}

fn thunderbird(python: &Path) -> Client {
    let path = python.to_owned();
    Client {
        name: "Thunderbird",
        version: words(&[thunderbird::PROGRAM, "--version"]),
        lacks: |mechanism, _| match mechanism {
            "PLAIN" | "LOGIN" | "CRAM-MD5" | "XOAUTH2" => None,
            _ => Some("it supports only PLAIN, LOGIN, CRAM-MD5, XOAUTH2, GSSAPI and NTLM"),
        },
        remark: |mechanism, right| match (mechanism, right) {
            ("PLAIN", false) => {
                Some("when PLAIN is refused, it sends the same password with LOGIN")
            }
            ("XOAUTH2", true) => Some(
                "the test supplies the token, because Thunderbird requests tokens only from servers on the web",
            ),
            _ => None,
        },
        fault: no_fault,
        beside: Some(thunderbird::beside),
        command: Box::new(move |sign_in| {
            let mut thunderbird = script(&path, "thunderbird_client.py", sign_in);
            thunderbird.env("PORT_FILE", thunderbird::port_file(sign_in.home));
            Ok(thunderbird)
        }),
        alone: &["LOGIN"],
        refused: "Unable to authenticate",
        form: Form::Crlf,
        sends_mail: true,
        no_second: "",
    }
}

/// A script in `peers`; all take the same arguments.
fn script(interpreter: &Path, name: &str, sign_in: &SignIn<'_>) -> Command {
    let mut command = program(interpreter);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name))
        .args([&sign_in.port.to_string(), sign_in.transport.argument(), sign_in.mechanism])
        .args([sign_in.account.name, sign_in.secret()])
        .arg(&sign_in.home.ca)
        .args([FROM, TO])
        .args(&sign_in.files);
    command
}

fn gsasl() -> Client {
    Client {
        name: "gsasl",
        version: words(&["gsasl", "--version"]),
        lacks: |mechanism, transport| match (mechanism, transport) {
            ("OAUTHBEARER" | "XOAUTH2" | "SCRAM-SHA-512" | "SCRAM-SHA-512-PLUS", _) => {
                Some("it does not support the mechanism")
            }
            (_, Transport::Implicit) => Some("its command-line program supports only STARTTLS"),
            _ => None,
        },
        remark: |mechanism, right| match (mechanism, right) {
            (_, false) => None,
            ("ANONYMOUS", true) => Some("anonymous clients may authenticate, but not send mail"),
            (_, true) => Some("its command-line program authenticates, but sends no mail"),
        },
        fault: no_fault,
        beside: None,
        command: Box::new(|sign_in| {
            let mut gsasl = program("gsasl");
            gsasl
                .args(["--smtp", "--connect", &format!("localhost:{}", sign_in.port)])
                .args(["--mechanism", wire_name(sign_in.mechanism)]);
            if sign_in.transport.is_tls() {
                gsasl
                    .arg("--starttls")
                    .arg(format!("--x509-ca-file={}", sign_in.home.ca.display()));
            } else {
                gsasl.arg("--no-starttls");
            }
            // Inside TLS it never uses SCRAM without -PLUS, unless it is told to do without binding.
            if !sign_in.mechanism.ends_with("-PLUS") {
                gsasl.arg("--no-cb");
            }
            if let Some(own) = sign_in.certificate() {
                gsasl.arg(format!("--x509-cert-file={}", own.cert.display()));
                gsasl.arg(format!("--x509-key-file={}", own.key.display()));
                if sign_in.mechanism != UNNAMED {
                    gsasl.arg(format!("--authorization-id={USER}"));
                }
            } else if sign_in.mechanism == "ANONYMOUS" {
                gsasl.arg(format!("--anonymous-token={}", sign_in.trace()));
            } else {
                gsasl.arg(format!("--authentication-id={}", sign_in.account.name));
                gsasl.arg(format!("--password={}", sign_in.secret()));
            }
            Ok(gsasl)
        }),
        alone: &[],
        refused: "",
        form: Form::Crlf,
        sends_mail: false,
        no_second: "its command-line program authenticates, but sends no mail",
    }
}
