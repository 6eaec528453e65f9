//! Every public type can be sent to another thread and shared, and none has grown unnoticed.

use smtp_auth::{Advance, Mask, Secret, Side, auth, client, command, ehlo, reply, sasl, server};

/// The types with their most octets, as a table of name, size, and that most.
macro_rules! table {
    ($($ty:ty: $most:literal)*) => {
        [$((stringify!($ty), shared::<$ty>(), $most)),*]
    };
}

fn shared<T: Send + Sync>() -> usize {
    size_of::<T>()
}

/// With `?`, an error becomes one of a function that returns any error.
#[test]
fn errors_can_be_boxed() {
    fn boxed<E: core::error::Error + Send + Sync + 'static>() {}
    boxed::<auth::client::Failure>();
    boxed::<client::AuthError>();
    boxed::<client::EnvelopeError>();
    boxed::<client::Error>();
    boxed::<client::Limit>();
    boxed::<command::Error>();
    boxed::<reply::Error>();
    boxed::<reply::InvalidReply>();
    boxed::<sasl::ConfigError>();
    boxed::<sasl::CramSecretError>();
    boxed::<sasl::Failure>();
    boxed::<sasl::NonceError>();
    boxed::<sasl::ScramKeysError>();
    boxed::<sasl::client::Failure>();
    boxed::<sasl::client::NoMechanism>();
}

#[test]
fn sizes_and_threads() {
    let table = table! {
        Secret: 32
        Mask: 24
        Side: 1
        Advance: 1
        auth::client::Exchange: 208
        auth::client::Failure: 72
        auth::client::NeedReply<'_>: 8
        auth::client::Step<'_>: 16
        auth::server::Exchange: 152
        auth::server::NeedLine<'_>: 16
        auth::server::Step<'_>: 24
        client::AuthError: 72
        client::NotAuthenticated<'_>: 40
        client::Body: 16
        client::BodyType: 1
        client::Builder: 88
        client::Config: 88
        client::Envelope: 144
        client::EnvelopeError: 16
        client::Error: 72
        client::Event<'_>: 40
        client::Extensions: 48
        client::Limit: 8
        client::Limits: 24
        client::NotSent: 24
        client::Notify: 2
        client::NotifyOn: 1
        client::Outcome: 72
        client::Ready<'_>: 16
        client::Recipient: 80
        client::RecipientOutcome: 72
        client::RecipientStatus: 48
        client::Refusal: 48
        client::Ret: 1
        client::Session: 504
        client::Stage: 1
        client::Tls: 1
        client::TryNext: 1
        command::Auth<'_>: 32
        command::Command<'_>: 48
        command::EhloName<'_>: 16
        command::Error: 24
        command::Mail<'_>: 40
        command::MailAuth<'_>: 24
        command::Mailbox<'_>: 24
        command::Parameter<'_>: 32
        command::Parameters<'_>: 16
        command::Rcpt<'_>: 40
        command::Text<'_>: 16
        command::Unknown<'_>: 32
        ehlo::Ehlo<'_>: 32
        ehlo::Keyword<'_>: 40
        ehlo::MechanismNames<'_>: 16
        reply::EnhancedCode: 6
        reply::Error: 24
        reply::InvalidReply: 1
        reply::Reply: 40
        reply::ReplyRef<'_>: 32
        sasl::Answer: 16
        sasl::Authorize: 144
        sasl::AuthorizeAnswer: 40
        sasl::BindingPolicy: 1
        sasl::Channel: 16
        sasl::ChannelBinding: 24
        sasl::CheckAnonymous: 40
        sasl::CheckExternal: 72
        sasl::CheckPassword: 120
        sasl::CheckToken: 160
        sasl::ConfigError: 32
        sasl::CramSecret: 8
        sasl::CramSecretError: 0
        sasl::CramSecretFor: 120
        sasl::Custom: 128
        sasl::CustomAnswer: 48
        sasl::CustomName: 24
        sasl::Failure: 24
        sasl::BoxedAuthenticator: 16
        sasl::Identity: 64
        sasl::Immediate<()>: 0
        sasl::Mechanism: 24
        sasl::Nonce: 136
        sasl::NonceError: 0
        sasl::Answer: 16
        sasl::Query<'_>: 16
        sasl::QueryJob: 160
        sasl::Refusal: 24
        sasl::RefusalKind: 1
        sasl::SaltedPassword: 8
        sasl::ScramHash: 1
        sasl::ScramKeys: 8
        sasl::ScramKeysError: 0
        sasl::ScramKeysFor: 72
        sasl::ScramParts<'_>: 56
        sasl::TokenAnswer: 56
        sasl::TokenError: 48
        sasl::client::Builder: 88
        sasl::client::Custom: 104
        sasl::client::Config: 56
        sasl::client::Credentials: 40
        sasl::client::CustomResponse: 32
        sasl::client::Derive: 176
        sasl::client::DeriveJob: 64
        sasl::client::Exchange: 128
        sasl::client::Failure: 24
        sasl::client::NoMechanism: 1
        sasl::client::Response: 48
        sasl::client::Step<'_>: 24
        sasl::server::Builder: 240
        sasl::server::Challenge: 56
        sasl::server::Config: 152
        sasl::server::Exchange: 144
        sasl::server::Step<'_>: 24
        server::PendingReply<'_>: 16
        server::AuthFailed<'_>: 56
        server::Builder: 168
        server::Config: 384
        server::Event<'_>: 64
        server::Hello<'_>: 24
        server::Permission<'_>: 16
        server::Session: 224
        server::StartTls: 1
    };
    // These are listed below, as they need a feature.
    check(&table, |name| !name.starts_with("dovecot::"));
}

/// Checks the sizes, and that the table has each public type of those modules.
fn check(table: &[(&str, usize, usize)], belongs: impl Fn(&str) -> bool) {
    let listed: Vec<_> =
        table.iter().map(|(name, ..)| name.replace("<'_>", "").replace("<()>", "")).collect();
    let mut wrong = String::new();
    for line in include_str!("../api.txt").lines() {
        let ty =
            line.split_once("pub struct smtp_auth::").or(line.split_once("pub enum smtp_auth::"));
        let name = ty.map_or("", |(_, ty)| ty.split(['<', '(']).next().unwrap_or_default());
        // At the root stands what stands elsewhere, too.
        let again = format!("::{name}");
        let known = |own: &String| own == name || !name.contains(':') && own.ends_with(&again);
        if !name.is_empty() && belongs(name) && !listed.iter().any(known) {
            wrong += &format!("{name} is not in the table\n");
        }
    }
    for &(name, size, most) in table {
        println!("{name}: {size}");
        if size > most {
            wrong += &format!("{name} has {size} octets, over {most}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[cfg(feature = "dovecot-auth")]
#[test]
fn of_dovecots_protocol() {
    use smtp_auth::dovecot;
    let table = table! {
        dovecot::AuthFailed<'_>: 80
        dovecot::ClientLine: 40
        dovecot::CloseReason: 40
        dovecot::Cookie: 16
        dovecot::Data: 24
        dovecot::Event<'_>: 80
        dovecot::FailCode: 1
        dovecot::Held: 8
        dovecot::LineError: 32
        dovecot::Properties: 7
        dovecot::Request: 144
        dovecot::ServerLine<'_>: 64
        dovecot::Session: 224
    };
    check(&table, |name| name.starts_with("dovecot::"));
}
