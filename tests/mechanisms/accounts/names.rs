//! One account has one name, however it is written.

use super::*;

/// The mechanisms by which [`as_is`] can succeed.
const SUCCEED: [Mechanism; 4] =
    [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5, Mechanism::ScramSha256];

#[test]
fn an_account_has_one_name() {
    let server = config(None);
    for name in OTHERWISE {
        for mechanism in SUCCEED {
            let store = Store::default();
            let seen = as_is((&server, &store), mechanism, ("", name), PASSWORD);
            let own = Some(("tim".to_owned(), "tim".to_owned()));
            assert_eq!(seen.signed_in, own, "{mechanism} {name:?}: {seen:?}");
            let asked = store.asked.take();
            let [(_, folded, sent)] = &asked[..] else { panic!("{asked:?}") };
            assert_eq!((folded.as_str(), sent.as_str()), ("tim", name), "{mechanism}");
        }
        for mechanism in WITH_PASSWORD {
            let seen = as_is((&server, &Store::default()), mechanism, ("", name), "wrong");
            assert_eq!(seen.counted, ["tim"], "{mechanism} {name:?}: {seen:?}");
        }
    }
}

/// The salts of those who do not exist are made of the folded name.
#[test]
fn a_name_that_nobody_has_has_one_salt() {
    let server = config(None);
    for mechanism in [Mechanism::ScramSha1, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let first = |name: &str| {
            as_is((&server, &Store::default()), mechanism, ("", name), "wrong").replies.remove(0)
        };
        for other in ["bo\u{ad}b", "\u{ff42}\u{ff4f}\u{ff42}", "bob\u{200d}"] {
            assert_eq!(first(other), first("bob"), "{mechanism} {other:?}");
        }
        assert_ne!(first("rob"), first("bob"));
    }
    let decoy = |name: &str| {
        let keys = server.sasl().decoy_keys(ScramHash::Sha256, name).unwrap();
        keys.to_text().expose().split('$').nth(1).unwrap().to_owned()
    };
    assert_eq!(decoy("bo\u{ad}b"), decoy("bob"));
}

#[test]
fn case_is_folded_where_the_configuration_says_so() {
    let fold = |fold: Option<FoldName>, mechanism, name| {
        let store = Store::default();
        let seen = as_is((&config(fold), &store), mechanism, ("", name), PASSWORD);
        (seen.signed_in.map(|(who, _)| who), store.asked.take().remove(0).1)
    };
    for mechanism in SUCCEED {
        let tim = (Some("tim".to_owned()), "tim".to_owned());
        for name in ["TIM", "Tim", "\u{ff34}im"] {
            assert_eq!(fold(Some(prepare_lower_case), mechanism, name), tim, "{mechanism} {name}");
        }
        assert_eq!(fold(None, mechanism, "Tim"), (None, "Tim".to_owned()), "{mechanism}");
        let joined = "tim\u{200d}";
        assert_eq!(
            fold(Some(as_sent), mechanism, joined),
            (None, joined.to_owned()),
            "{mechanism}"
        );
    }
}

#[test]
fn an_alias_is_counted_at_its_account_and_seen_by_nobody() {
    let server = config(None);
    for mechanism in WITH_PASSWORD {
        let try_as =
            |name, password| as_is((&server, &Store::default()), mechanism, ("", name), password);
        let seen = try_as("t.i.m", "wrong");
        assert_eq!(seen.counted, ["t.i.m", "tim"], "{mechanism}");
        // Once, where the store names the account for its own name, too.
        assert_eq!(try_as("tim", "wrong").counted, ["tim"], "{mechanism}");
        let (alias, other) = (masked(seen.replies), masked(try_as("b.o.b", "wrong").replies));
        assert_eq!(alias, other, "{mechanism}");
        if SUCCEED.contains(&mechanism) {
            let seen = try_as("t.i.m", PASSWORD);
            assert_eq!(seen.signed_in, Some(("tim".into(), "tim".into())), "{mechanism}");
            // The server's proof is over the client's words, which name the alias.
            let own = try_as("tim", PASSWORD).replies;
            assert_eq!((own.first(), own.last()), (seen.replies.first(), seen.replies.last()));
        }
    }
}

/// Two names that show one salt have one account, which exists. So a name whose keys have a salt of their own is not
/// seen to be another's, and one that has its account's is.
#[test]
fn an_alias_shows_the_salt_of_its_keys() {
    let server = config(None);
    let first = |name: &str| {
        let store = Store::default();
        as_is((&server, &store), Mechanism::ScramSha256, ("", name), "wrong").replies.remove(0)
    };
    assert_eq!(first("t.i.m"), first("tim"));
    assert_ne!(first("t-i-m"), first("tim"));
    assert_ne!(first("b-o-b"), first("bob"));
    let store = Store::default();
    let seen = as_is((&server, &store), Mechanism::ScramSha256, ("", "t-i-m"), PASSWORD);
    assert_eq!(seen.signed_in, Some(("tim".into(), "tim".into())));
}

#[test]
fn an_authzid_that_is_ones_own_is_no_foreign_one() {
    let server = config(None);
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256] {
        let own = [("tim", "tim"), ("tim", OTHERWISE[0]), (OTHERWISE[1], OTHERWISE[0])];
        let alias = [("t.i.m", "t.i.m"), ("tim", "t.i.m"), (OTHERWISE[2], "t.i.m")];
        for names in own.into_iter().chain(alias) {
            let store = Store::default();
            let seen = as_is((&server, &store), mechanism, names, PASSWORD);
            let tim = Some(("tim".into(), "tim".into()));
            assert_eq!(seen.signed_in, tim, "{mechanism} {names:?}: {seen:?}");
            let asked = store.asked.take();
            assert_eq!(asked.len(), 1, "{mechanism} {names:?}: {asked:?}");
        }
        let store = Store::default();
        let seen = as_is((&server, &store), mechanism, ("an\u{ad}n", "tim"), PASSWORD);
        assert_eq!(seen.why, Some(Failure::NotAuthorized));
        assert_eq!(store.asked.take().last().unwrap().1, "ann", "{mechanism}");
    }
    for name in OTHERWISE {
        let bearer = format!("n,a={name},\u{1}auth=Bearer abc\u{1}\u{1}");
        let xoauth2 = format!("user={name}\u{1}auth=Bearer abc\u{1}\u{1}");
        for (mechanism, first) in [("OAUTHBEARER", bearer), ("XOAUTH2", xoauth2)] {
            let store = Store::default();
            let command = format!("AUTH {mechanism} {}", STANDARD.encode(first));
            let seen = attempt(&server, &store, &command, |_| None);
            assert_eq!(seen.signed_in, Some(("tim".into(), "tim".into())), "{mechanism}: {seen:?}");
            let asked = store.asked.take();
            let [(_, authzid, _)] = &asked[..] else { panic!("{mechanism}: {asked:?}") };
            assert_eq!(authzid, "tim");
        }
    }
}

/// A name that turns out to be the client's own account's, or another's, when it is looked up.
#[test]
fn an_authzid_that_is_an_alias_of_ones_own_account_is_no_other() {
    struct Aliases(&'static str);
    impl Authenticator for Aliases {
        fn mechanisms(&self) -> &[Mechanism] {
            &WITH_PASSWORD
        }

        fn check_password(&self, _: &CheckPassword) -> Answer {
            Answer::accept(())
        }

        fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
            AuthorizeAnswer::AcceptAs(self.0.into())
        }
    }
    for (account, authzid) in [("tim", None), ("ann", Some("ann"))] {
        let mut exchange = sasl::server::Exchange::new(
            config(None).sasl(),
            &Channel::tls(),
            Mechanism::Plain,
            Some(b"t.i.m\0tim\0secret".to_vec()),
        );
        let who = loop {
            match exchange.step() {
                sasl::server::Step::Query(query) => query.answer_with(&Aliases(account)),
                sasl::server::Step::Done(outcome) => break outcome.cloned().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((who.authcid(), who.authzid(), who.acts_as()), ("tim", authzid, account));
    }
}

/// Cancelling in the middle is an attempt at the account that was named.
#[test]
fn an_exchange_that_is_broken_off_counts_at_its_account() {
    let server = config(None);
    let begins = [
        (Mechanism::Login, OTHERWISE[0].to_owned(), false),
        (Mechanism::ScramSha256, format!("n,,n={},r=fyko+d2lbbFgONRv9qkxdawL", OTHERWISE[0]), true),
    ];
    let ends: [Option<&[u8]>; 3] = [None, Some(b"\xff"), Some(b"")];
    for (mechanism, first, initial) in begins {
        for end in ends {
            let store = Store::default();
            let command = match initial {
                true => format!("AUTH {mechanism} {}", STANDARD.encode(&first)),
                false => format!("AUTH {mechanism}"),
            };
            let mut says = (!initial).then(|| Some(first.clone().into_bytes())).into_iter();
            let seen = attempt(&server, &store, &command, |_| {
                says.next().unwrap_or_else(|| end.map(<[u8]>::to_vec))
            });
            assert!(seen.why.is_some_and(Failure::is_attempt), "{mechanism} {seen:?}");
            assert_eq!(seen.counted, ["tim"], "{mechanism} {end:?} {seen:?}");
        }
    }
}

/// What becomes of whoever is proven is noted under the name that it gave, whether it is let in or not.
#[test]
fn who_is_proven_and_not_let_in_is_noted_as_who_is_not_proven() {
    struct Alias(AuthorizeAnswer);
    impl Authenticator for Alias {
        fn mechanisms(&self) -> &[Mechanism] {
            &WITH_PASSWORD
        }

        fn check_password(&self, ask: &CheckPassword) -> Answer {
            Answer::from(ask.password() == PASSWORD).of("tim")
        }

        fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
            self.0.clone()
        }
    }
    let noted = |name: &str, password: &str, answer: AuthorizeAnswer| {
        let users = Alias(answer);
        let builder = sasl::server::Config::builder("mail.example.org").mechanisms(WITH_PASSWORD);
        let config = Arc::new(builder.authorize_always(true).build().unwrap());
        let initial = Some(format!("\0{name}\0{password}").into_bytes());
        let mut exchange =
            sasl::server::Exchange::new(&config, &Channel::tls(), Mechanism::Plain, initial);
        while let sasl::server::Step::Query(query) = exchange.step() {
            query.answer_with(&users);
        }
        let failure = exchange.failure().unwrap();
        let own = |name: Option<&str>| name.map(str::to_owned);
        (failure.is_attempt(), own(exchange.authcid()), own(exchange.account()))
    };
    for (name, account) in [("t.i.m", Some("tim".to_owned())), ("tim", None)] {
        let expected = |counts| (counts, Some(name.to_owned()), account.clone());
        assert_eq!(noted(name, "wrong", AuthorizeAnswer::Accept), expected(true));
        assert_eq!(noted(name, PASSWORD, AuthorizeAnswer::Reject), expected(true));
        for answer in [
            AuthorizeAnswer::TempFail,
            AuthorizeAnswer::NotImplemented,
            RefusalKind::OverQuota.into(),
            AuthorizeAnswer::AcceptAs("a\0b".into()),
        ] {
            assert_eq!(noted(name, PASSWORD, answer), expected(false));
        }
    }
}
