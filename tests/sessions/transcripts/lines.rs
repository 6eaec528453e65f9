//! The AUTH exchanges of the client's dialogues, with their replies handed in as code and lines: all goes as
//! with the same replies handed in as they came over the wire.

use smtp_auth::{
    auth::client::{Exchange, Step},
    reply::ReplyRef,
    sasl::{Channel, Mechanism},
};

use super::{
    all, client,
    script::{Kind, Script},
};

/// What a client's own parser makes of the first reply in the octets, and the octets that it had. `None` where
/// it is not whole, or its codes differ.
fn read(octets: &[u8]) -> Option<(u16, Vec<&[u8]>, usize)> {
    let (mut code, mut lines, mut length) = (None, Vec::new(), 0);
    loop {
        let rest = &octets[length..];
        let end = rest.iter().position(|&octet| octet == b'\n')?;
        let line = rest[..end].strip_suffix(b"\r")?;
        let own = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
        if *code.get_or_insert(own) != own {
            return None;
        }
        lines.push(line.get(4..).unwrap_or_default());
        length += end + 1;
        if line.get(3) != Some(&b'-') {
            return Some((own, lines, length));
        }
    }
}

/// All that an exchange wrote and came to.
fn exchange(script: &Script, mechanism: Mechanism, replies: &[&[u8]], by_lines: bool) -> String {
    let in_clear = script.is("tls", "none") && script.is("cleartext", "allowed");
    let channel = if in_clear { Channel::cleartext() } else { script.channel() };
    let credentials = client::credentials(script).unwrap();
    let mut exchange = Exchange::new(&client::sasl(script), &channel, mechanism, credentials);
    if script.is("initial_response", "never") {
        exchange = exchange.without_initial_response();
    }
    if script.is("challenges", "lenient") {
        exchange = exchange.lenient_challenges();
    }
    let (mut log, mut out, mut replies) = (String::new(), Vec::new(), replies.iter());
    loop {
        let step = exchange.step(&mut out);
        match step {
            Step::Derive(derive) => {
                let salted = derive.job().run();
                client::keep(&script.path, salted.clone());
                derive.answer(salted);
            }
            // No mechanism of our own is listed.
            Step::Custom(ask) => ask.fail(),
            Step::NeedReply(slot) => {
                let Some(block) = replies.next() else { break };
                log += "reply\n";
                let (code, lines, _) = read(block).unwrap();
                slot.reply(match by_lines {
                    true => ReplyRef::from_lines(code, &lines).unwrap(),
                    false => ReplyRef::parse(block).unwrap(),
                });
            }
            Step::Done(Ok(())) => break,
            Step::Done(Err(failure)) => {
                log += &format!("{failure:?} {failure} {}\n", failure.may_try_next());
                break;
            }
        }
    }
    let (proof, error) = (exchange.awaits_proof(), exchange.token_error());
    format!("{log}{} {proof} {error:?}", out.escape_ascii())
}

#[test]
fn code_and_lines() {
    let mut compared = 0;
    for path in all() {
        let script = Script::read(&path);
        if script.is_server() || client::credentials(&script).is_none() {
            continue;
        }
        for (n, block) in script.blocks.iter().enumerate() {
            let said = block.expected.iter().filter_map(|item| match &item.kind {
                Kind::Says(line) => line.strip_prefix(b"AUTH "),
                _ => None,
            });
            for words in said {
                let name = words.split(|&octet| octet == b' ').next().unwrap();
                let mechanism = Mechanism::from_name(std::str::from_utf8(name).unwrap()).unwrap();
                let replies: Vec<u8> =
                    script.blocks[n + 1..].iter().flat_map(|block| block.octets.clone()).collect();
                let (mut rest, mut cut) = (&replies[..], Vec::new());
                while let Some((reply, behind)) =
                    read(rest).and_then(|(.., length)| rest.split_at_checked(length))
                {
                    if ReplyRef::parse(reply).is_err() {
                        break;
                    }
                    cut.push(reply);
                    rest = behind;
                }
                let [one, other] =
                    [false, true].map(|by_lines| exchange(&script, mechanism, &cut, by_lines));
                assert_eq!(one, other, "{}", script.path);
                compared += usize::from(!cut.is_empty());
            }
        }
    }
    assert!(compared > 250, "{compared}");
}
