//! Who is locked, and who does not exist.

use super::*;

/// Replies, round trips, salts, iteration counts, lengths, pauses, and what the store is asked.
#[test]
fn a_locked_account_is_told_apart_by_nothing() {
    let server = config(None);
    for mechanism in WITH_PASSWORD {
        let seen = |name, locked: bool, password| {
            let locked = if locked { vec!["tim", "bob"] } else { vec![] };
            let store = Store { locked, ..Store::default() };
            let seen = honest(&server, &store, mechanism, name, password);
            let asked: Vec<_> = store.asked.take().into_iter().map(|(kind, ..)| kind).collect();
            let log = if store.locked.is_empty() { Failure::Rejected } else { Failure::Locked };
            assert_eq!(seen.why, Some(log), "{mechanism} {name} {seen:?}");
            assert_eq!(seen.counted, [name]);
            (seen.replies, seen.pauses, asked)
        };
        let known = seen("tim", false, "wrong");
        assert_eq!(seen("tim", true, "wrong"), known, "{mechanism}");
        assert_eq!(seen("tim", true, PASSWORD), known, "{mechanism}");
        let unknown = seen("bob", false, "wrong");
        assert_eq!(seen("bob", true, "wrong"), unknown, "{mechanism}");
        assert_eq!(seen("bob", true, PASSWORD), unknown, "{mechanism}");
        let shape = |(replies, pauses, asked)| (masked(replies), pauses, asked);
        assert_eq!(shape(known), shape(unknown), "{mechanism}");
        let right = honest(&server, &Store::default(), mechanism, "tim", PASSWORD);
        assert!(right.signed_in.is_some(), "{mechanism} {right:?}");
    }
}

/// That is the application's mistake, and tells nothing of the password.
#[test]
fn an_alias_of_an_account_that_none_can_be_is_a_temporary_failure() {
    struct Wrong;

    impl Authenticator for Wrong {
        fn mechanisms(&self) -> &[Mechanism] {
            &[Mechanism::Plain]
        }

        fn check_password(&self, ask: &CheckPassword) -> Answer {
            Answer::from(ask.password().expose() == PASSWORD).of("x\u{7}y")
        }
    }

    let server = config(None);
    for password in [PASSWORD, "wrong"] {
        let seen = honest(&server, &Wrong, Mechanism::Plain, "tim", password);
        assert_eq!((seen.why, seen.counted), (Some(Failure::TempFail), vec!["tim".to_owned()]));
        assert!(seen.replies.last().unwrap().starts_with("454 "), "{:?}", seen.replies);
    }
}

/// An account that is locked under its own name is locked under each other.
#[test]
fn a_locked_account_is_locked_by_its_aliases_too() {
    let server = config(None);
    for mechanism in WITH_PASSWORD {
        let store = Store { locked: vec!["tim"], ..Store::default() };
        let locked = honest(&server, &store, mechanism, "t.i.m", PASSWORD);
        assert_eq!(locked.why, Some(Failure::Locked), "{mechanism}");
        let wrong = honest(&server, &Store::default(), mechanism, "t.i.m", "wrong");
        assert_eq!(locked.replies, wrong.replies, "{mechanism}");
    }
}
