//! Questions that the application does not implement, or has nothing for.

use super::*;

/// Offers what it cannot answer.
struct Nothing;

impl Authenticator for Nothing {
    fn mechanisms(&self) -> &[Mechanism] {
        &[]
    }
}

#[test]
fn what_nobody_can_answer_is_the_servers_mistake() {
    let server = config(None);
    for name in ["tim", "bob"] {
        for mechanism in WITH_PASSWORD {
            let seen = as_is((&server, &Nothing), mechanism, ("", name), PASSWORD);
            assert_eq!(seen.why, Some(Failure::NotImplemented(mechanism.name())), "{seen:?}");
            let reply = seen.replies.last().unwrap();
            assert!(reply.starts_with("454 4.7.0 "), "{mechanism} {name}: {reply}");
            assert_eq!(seen.pauses, [Duration::ZERO], "{mechanism}");
            assert!(!seen.why.unwrap().is_attempt());
            let log = seen.why.unwrap().to_string();
            assert!(log.contains(&format!("offers {mechanism}, but its authenticator")), "{log}");
        }
        for mechanism in [Mechanism::OauthBearer, Mechanism::Xoauth2] {
            let seen = token(&server, &Nothing, mechanism, name, |_| None);
            assert!(seen.replies.last().unwrap().starts_with("454 4.7.0 "), "{seen:?}");
            assert_eq!(seen.why, Some(Failure::NotImplemented(mechanism.name())));
        }
    }
}

/// Has secrets for nobody, or says that an account has none.
struct Without(bool);

impl Without {
    fn answer<T>(&self, name: &str) -> Answer<T> {
        if self.0 && name == "tim" { Answer::no_secret() } else { Answer::reject() }
    }
}

impl Authenticator for Without {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::CramMd5, Mechanism::ScramSha512]
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.answer(ask.authcid())
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.answer(ask.authcid())
    }
}

#[test]
fn an_account_without_keys_of_a_hash_has_a_wrong_password() {
    let server = config(None);
    for mechanism in [Mechanism::CramMd5, Mechanism::ScramSha1, Mechanism::ScramSha512] {
        let none = honest(&server, &Without(true), mechanism, "tim", PASSWORD);
        let wrong = honest(&server, &Without(false), mechanism, "tim", PASSWORD);
        assert_eq!((none.why, wrong.why), (Some(Failure::NoSecret), Some(Failure::Rejected)));
        // The log says why, and nothing else does.
        assert_eq!(Seen { why: wrong.why, ..none }, wrong, "{mechanism}");
        assert_eq!(wrong.pauses, [Duration::from_secs(1)]);
    }
}
