//! What a configuration offers, and which contradict themselves, in whatever order they are put together.

use core::cell::RefCell;

use smtp_auth::{
    ehlo::Keyword,
    sasl::{
        Answer, Authenticator,
        BindingPolicy::{None as NoBinding, Preferred, Required},
        Channel, ChannelBinding, CheckPassword, ConfigError,
        Mechanism::{self, Plain, ScramSha1, ScramSha1Plus, ScramSha256, ScramSha256Plus},
        ScramKeys, ScramKeysFor, client,
        server::{Builder, Config},
    },
    server,
};

fn builder() -> Builder {
    Config::builder("mail.example.org")
}

fn channel() -> Channel {
    Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]))
}

fn offered(config: &Config, channel: &Channel) -> Vec<Mechanism> {
    config.offered(channel).collect()
}

#[test]
fn what_binds_comes_with_what_does_not() {
    let named = builder().mechanisms([ScramSha256, Plain]).build().unwrap();
    assert_eq!(offered(&named, &channel()), [ScramSha256Plus, ScramSha256, Plain]);
    // And nowhere else.
    assert_eq!(offered(&named, &Channel::tls()), [ScramSha256, Plain]);
    let twice = builder().mechanisms([Plain, ScramSha256, ScramSha256Plus]).build().unwrap();
    let mut all = offered(&twice, &channel());
    assert_eq!(all.len(), 3);
    all.sort_by_key(|own| own.name());
    assert_eq!(all, [Plain, ScramSha256, ScramSha256Plus]);
    let client = client::Config::builder().mechanisms([ScramSha256]).build().unwrap();
    let list = "SCRAM-SHA-256 SCRAM-SHA-256-PLUS";
    let tim = client::Credentials::password("tim", "tanstaaf").unwrap();
    assert_eq!(client.choose(&tim, &channel(), list), Ok(ScramSha256Plus));
}

#[test]
fn one_is_taken_out_by_name_wherever_that_is_said() {
    for config in [
        builder().without([ScramSha256Plus]).mechanisms([ScramSha256, ScramSha1]),
        builder().mechanisms([ScramSha256, ScramSha1]).without([ScramSha256Plus]),
    ] {
        let config = config.build().unwrap();
        assert_eq!(offered(&config, &channel()), [ScramSha256, ScramSha1Plus, ScramSha1]);
    }
}

#[test]
fn what_is_required_and_cannot_be_is_an_error_in_any_order() {
    let nothing = |config: Builder| config.build().err();
    let binds = Some(ConfigError::NothingBinds);
    assert_eq!(nothing(builder().mechanisms([Plain]).channel_binding(Required)), binds);
    assert_eq!(nothing(builder().channel_binding(Required).mechanisms([Plain])), binds);
    let without = builder().channel_binding(Required).without([ScramSha256Plus]);
    assert_eq!(nothing(without.mechanisms([ScramSha256])), binds);
    for policy in [NoBinding, Preferred] {
        assert_eq!(nothing(builder().mechanisms([Plain]).channel_binding(policy)), None);
    }
    let required = builder().channel_binding(Required).mechanisms([Plain, ScramSha256]);
    assert_eq!(offered(&required.build().unwrap(), &channel()), [ScramSha256Plus]);
    // A client's, too.
    let client = client::Config::builder().channel_binding(Required).mechanisms([Plain]).build();
    assert_eq!(client.err(), binds);
}

/// Lists what it is told, and answers questions about passwords and SCRAM alone.
struct Users(Vec<Mechanism>, RefCell<Vec<String>>);

impl Users {
    fn listing(mechanisms: impl Into<Vec<Mechanism>>) -> Self {
        Self(mechanisms.into(), RefCell::default())
    }
}

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.0
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        self.1.borrow_mut().push(ask.authcid().to_owned());
        Answer::reject()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.1.borrow_mut().push(ask.authcid().to_owned());
        Answer::reject()
    }
}

/// Answers nothing.
struct Nothing(Vec<Mechanism>);

impl Authenticator for Nothing {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.0
    }
}

#[test]
fn what_an_authenticator_lists_it_has_to_answer_for() {
    let users = Users::listing([ScramSha256, Plain]);
    let config = builder().answered_by(&users).build().unwrap();
    assert_eq!(offered(&config, &channel()), [ScramSha256Plus, ScramSha256, Plain]);
    // About nobody whom there could be.
    assert_eq!(users.1.take(), ["nobody@smtp-auth.invalid"; 2]);
    for &own in Mechanism::COMPILED {
        let nothing = Nothing(vec![own]);
        let unanswered = |builder: Builder| match builder.build() {
            Err(error @ ConfigError::NotImplemented(missing)) => {
                // SCRAM brings its -PLUS form along.
                assert!(missing.name().starts_with(own.name()), "{own}: {error}");
                let method = if own.name().starts_with("SCRAM") { "scram_keys" } else { "" };
                assert!(error.to_string().contains(method), "{own}: {error}");
            }
            other => panic!("{own}: {other:?}"),
        };
        unanswered(builder().answered_by(&nothing));
        // However the list is made afterwards.
        unanswered(builder().answered_by(&nothing).mechanisms([own]));
        unanswered(builder().answered_by(&users).answered_by(&nothing));
        if own == ScramSha256 {
            unanswered(builder().answered_by(&nothing).without([own]));
            unanswered(builder().answered_by(&nothing).mechanisms([ScramSha256Plus]));
        }
        // The last one counts.
        assert!(builder().answered_by(&nothing).answered_by(&users).build().is_ok());
    }
    // What is not listed is not answered either.
    let error = Some(ConfigError::NotImplemented(Mechanism::CramMd5));
    if Mechanism::CramMd5.is_compiled() {
        let more = builder().answered_by(&users).mechanisms([Plain, Mechanism::CramMd5]);
        assert_eq!(more.build().err(), error);
        let users = Users::listing([Plain, Mechanism::CramMd5]);
        assert_eq!(builder().answered_by(&users).build().err(), error);
        assert!(builder().without([Mechanism::CramMd5]).answered_by(&users).build().is_ok());
    }
    // A mechanism of one's own is asked with its client alone.
    let own = Nothing(vec![Mechanism::custom("X-OWN").unwrap()]);
    assert!(builder().answered_by(&own).build().is_ok());
}

#[test]
fn what_is_missing_or_too_short_is_an_error() {
    assert_eq!(builder().build().err(), Some(ConfigError::NoMechanism));
    let left = builder().mechanisms([Plain]).without([Plain]).build();
    assert_eq!(left.err(), Some(ConfigError::NoMechanism));
    let keyed = |key: &str| builder().mechanisms([ScramSha256]).salt_key(key).build().err();
    assert_eq!(keyed("fifteen octets."), Some(ConfigError::SaltKey));
    assert_eq!(keyed(""), Some(ConfigError::SaltKey));
    assert_eq!(keyed("sixteen octets.."), None);
    let session = |config: server::Builder| config.build().err();
    let hostname = "mail.example.org";
    assert_eq!(session(server::Config::builder(hostname)), Some(ConfigError::NoSasl));
    assert_eq!(session(server::Config::builder(hostname).allow_unauthenticated(true)), None);
    for own in [Keyword::StartTls, Keyword::Size(Some(1))] {
        let sasl = builder().mechanisms([Plain]).build().unwrap();
        let config = server::Config::builder(hostname).sasl(sasl).keywords([own]);
        assert_eq!(session(config), Some(ConfigError::Keyword));
    }
}
