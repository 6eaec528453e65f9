//! Configurations out of a file, and the stored forms of credentials (feature `serde`).

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use smtp_auth::{
    Secret, client,
    ehlo::Keyword,
    sasl::{
        self, BindingPolicy, Channel, ChannelBinding, CramSecret, Mechanism, ScramHash, ScramKeys,
    },
    server,
};
use std::sync::Arc;

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn error_of<T: DeserializeOwned>(value: Value) -> String {
    match serde_json::from_value::<T>(value) {
        Ok(_) => panic!("it was read"),
        Err(error) => error.to_string(),
    }
}

/// What a session of that configuration says to these lines.
fn replies(config: server::Config, lines: &[u8]) -> String {
    let mut session = server::Session::new(config.into());
    let mut out = Vec::new();
    session.receive(lines);
    while let server::Event::Hello(_) | server::Event::AuthFailed(_) = session.next(&mut out) {}
    String::from_utf8(out).unwrap()
}

#[test]
fn a_server_is_configured() {
    let config: server::Config = read(json!({
        "hostname": "mail.example.org",
        "sasl": {
            "hostname": "mail.example.org",
            "mechanisms": ["SCRAM-SHA-256", "plain", "OAUTHBEARER", "LOGIN"],
            "without": ["LOGIN"],
            "allow_cleartext": true,
            "salt_key": "the same over restarts",
            "scram_iterations": 10_000,
            "channel_binding": "none",
            "max_response": 8,
            "token_error": { "scope": "mail", "openid_configuration": "https://id.example.org/" },
        },
        "keywords": ["PIPELINING", "smtputf8", "DSN"],
        "max_message": 1_000_000,
        "max_attempts": 4,
        "max_commands": 7,
        "max_recipients": 200,
        "starttls": "off",
        "allow_unauthenticated": true,
        "legacy_auth_line": true,
    }));
    let keywords = [Keyword::Pipelining, Keyword::SmtpUtf8, Keyword::Dsn];
    let own = server::Config::builder("mail.example.org")
        .sasl(Arc::clone(config.sasl()))
        .keywords(keywords)
        .max_message(1_000_000)
        .max_attempts(4)
        .max_commands(7)
        .max_recipients(200)
        .starttls(server::StartTls::Off)
        .allow_unauthenticated(true)
        .legacy_auth_line(true)
        .build()
        .unwrap();
    assert_eq!(format!("{config:?}"), format!("{own:?}"));

    let salts = config.sasl().decoy_keys(ScramHash::Sha256, "tim").unwrap();
    assert_eq!(salts.iterations(), 10_000);
    let own = sasl::server::Config::builder("other")
        .mechanisms(Mechanism::COMPILED)
        .salt_key("the same over restarts")
        .scram_iterations(10_000)
        .build()
        .unwrap();
    let own = own.decoy_keys(ScramHash::Sha256, "tim").unwrap();
    assert_eq!(
        salts.to_text().expose().split('$').nth(1),
        own.to_text().expose().split('$').nth(1),
        "salts"
    );

    let said = replies(config, b"EHLO a\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
    assert_eq!(
        said,
        "220 mail.example.org ESMTP ready\r\n250-mail.example.org\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n\
         250-DSN\r\n250-SIZE 1000000\r\n250-AUTH SCRAM-SHA-256 PLAIN OAUTHBEARER\r\n\
         250 AUTH=SCRAM-SHA-256 PLAIN OAUTHBEARER\r\n500 5.5.6 The response is too long\r\n"
    );
}

/// What is on offer over a connection with binding data tells the policy.
#[test]
fn a_server_binds_to_the_connection() {
    let channel = Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]));
    let [plus, bare] = [Mechanism::ScramSha256Plus, Mechanism::ScramSha256];
    for (policy, expected) in
        [("none", &[bare][..]), ("preferred", &[plus, bare]), ("required", &[plus])]
    {
        let config: sasl::server::Config = read(json!({
            "hostname": "mail.example.org",
            "mechanisms": ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"],
            "channel_binding": policy,
        }));
        assert_eq!(config.offered(&channel).collect::<Vec<_>>(), expected, "{policy}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let host = json!({
        "hostname": "mail.example.org",
        "sasl": { "hostname": "mail.example.org", "mechanisms": ["CRAM-MD5", "PLAIN"] },
    });
    let own = server::Config::builder("mail.example.org")
        .sasl(
            sasl::server::Config::builder("mail.example.org")
                .mechanisms([Mechanism::CramMd5, Mechanism::Plain])
                .build()
                .unwrap(),
        )
        .build()
        .unwrap();
    assert_eq!(replies(read(host), b"EHLO a\r\n"), replies(own, b"EHLO a\r\n"));
    let (read, own) = (read::<sasl::client::Config>(json!({})), sasl::client::Config::default());
    assert_eq!(format!("{read:?}"), format!("{own:?}"));
}

#[test]
fn a_token_error_is_told() {
    let config: Arc<sasl::server::Config> = Arc::new(read(json!({
        "hostname": "mail.example.org",
        "mechanisms": ["OAUTHBEARER"],
        "token_error": { "scope": "mail", "openid_configuration": "https://id.example.org/" },
    })));
    let first = b"n,,\x01auth=Bearer t\x01\x01".to_vec();
    let mechanism = Mechanism::OauthBearer;
    let mut exchange =
        sasl::server::Exchange::new(&config, &Channel::tls(), mechanism, Some(first));
    match exchange.step() {
        sasl::server::Step::Query(query) => query.reject(),
        step => panic!("{step:?}"),
    }
    let sasl::server::Step::Challenge(challenge) = exchange.step() else { panic!("no challenge") };
    assert_eq!(
        serde_json::from_slice::<Value>(challenge.data()).unwrap(),
        json!({
            "status": "invalid_token",
            "scope": "mail",
            "openid-configuration": "https://id.example.org/",
        })
    );
}

#[test]
fn a_client_is_configured() {
    let read: client::Config = read(json!({
        "hostname": "laptop.example.org",
        "sasl": {
            "mechanisms": ["SCRAM-SHA-256"],
            "allow_cleartext": true,
            "scram_iterations": [5000, 6000],
            "channel_binding": "required",
        },
        "tls": "if_offered",
        "initial_response": false,
        "try_next": "if_unusable",
        "max_tries": 2,
        "x_exps": true,
        "lenient_challenges": true,
    }));
    let sasl = sasl::client::Config::builder()
        .mechanisms([Mechanism::ScramSha256])
        .allow_cleartext(true)
        .scram_iterations(5000, 6000)
        .channel_binding(BindingPolicy::Required)
        .build()
        .unwrap();
    let own = client::Config::builder("laptop.example.org")
        .sasl(sasl)
        .tls(client::Tls::IfOffered)
        .initial_response(false)
        .try_next(client::TryNext::IfUnusable)
        .max_tries(2)
        .x_exps(true)
        .lenient_challenges(true)
        .build()
        .unwrap();
    assert_eq!(format!("{read:?}"), format!("{own:?}"));
}

#[test]
fn what_is_wrong_is_said_and_no_secret_shown() {
    for (wrong, said) in [
        (
            json!({ "hostname": "a b", "mechanisms": ["PLAIN"] }),
            "the host name is empty or too long, or contains spaces",
        ),
        (
            json!({ "hostname": "a", "mechanisms": ["PLAINTEXT"] }),
            "not a mechanism that the crate knows",
        ),
        (json!({ "hostname": "a", "allow_clear_text": true }), "unknown field `allow_clear_text`"),
        (json!({ "hostname": "a", "channel_binding": "always" }), "unknown variant `always`"),
        (json!({}), "missing field `hostname`"),
        (json!({ "hostname": "a" }), "missing field `mechanisms`"),
    ] {
        let error = error_of::<sasl::server::Config>(wrong);
        assert!(error.contains(said), "{error}");
    }
    let keywords =
        json!({ "sasl": { "hostname": "a", "mechanisms": ["PLAIN"] }, "keywords": ["SIZE"] });
    assert!(error_of::<server::Config>(keywords).starts_with("not one of PIPELINING, "));
    let [keys, states] = ["SCRAM-SHA-256$4096:hunter2", "{CRAM-MD5}hunter2"].map(Value::from);
    let key = error_of::<sasl::server::Config>(json!({ "hostname": "a", "salt_key": ["hunter2"] }));
    let number = error_of::<Secret>(json!(777_888));
    for error in [error_of::<ScramKeys>(keys), error_of::<CramSecret>(states), key, number] {
        assert!(!error.contains("hunter2") && !error.contains("777"), "{error}");
    }
}

#[test]
fn stored_forms_are_their_text() {
    let keys = ScramKeys::generate(ScramHash::Sha256, "pencil", 4096).unwrap();
    let stored = serde_json::to_value(&keys).unwrap();
    assert_eq!(stored, Value::from(keys.to_text().expose()));
    assert!(read::<ScramKeys>(stored).check_password("pencil"));

    let states = CramSecret::from_password("pencil");
    let stored = serde_json::to_value(&states).unwrap();
    assert_eq!(stored, Value::from(states.to_text().expose()));
    assert!(read::<CramSecret>(stored).check_password("pencil"));
}

#[test]
fn names_are_read_as_they_are_written() {
    for &mechanism in Mechanism::COMPILED {
        assert_eq!(read::<Mechanism>(serde_json::to_value(mechanism).unwrap()), mechanism);
    }
    for policy in [BindingPolicy::None, BindingPolicy::Preferred, BindingPolicy::Required] {
        assert_eq!(read::<BindingPolicy>(serde_json::to_value(policy).unwrap()), policy);
    }
    assert_eq!(serde_json::to_value(client::TryNext::IfUnusable).unwrap(), "if_unusable");
    assert_eq!(serde_json::to_value(server::StartTls::Unavailable).unwrap(), "unavailable");
    assert_eq!(serde_json::to_value(server::StartTls::Required).unwrap(), "required");
}
