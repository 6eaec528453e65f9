//! A message in any pieces is the same message.

use super::*;

/// What matters in a message, and an octet that does not.
fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let part = select(vec!["\r\n", "\r\n", "\r\n.", ".", "..", "x", "xyz", "\r", "\n"]);
    vec(part, 0..most).prop_map(|parts| parts.concat().into_bytes())
}

/// Cuts the octets after so many, again and again.
fn pieces<'a>(octets: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (octets, Vec::new());
    for cut in cuts.iter().cycle().take(octets.len()) {
        let (piece, more) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

/// What a server sends, the messages that its application gets, and how many events are about something else.
fn received(pieces: &[&[u8]], max_message: u64) -> (String, Vec<Vec<u8>>, usize) {
    let config = server_builder().allow_unauthenticated(true).max_message(max_message);
    let config = config.build().unwrap();
    let mut session = server::Session::new(config.into());
    let (mut out, mut messages, mut message, mut others) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for piece in pieces {
        session.receive(piece);
        loop {
            match session.next(&mut out) {
                server::Event::NeedInput | server::Event::Close => break,
                server::Event::StartOfData(permission) => permission.accept(),
                server::Event::Data(octets) => message.extend_from_slice(octets),
                server::Event::EndOfData(ask) => {
                    ask.reply(Reply::OK);
                    messages.push(std::mem::take(&mut message));
                }
                server::Event::Command(_, ask) => {
                    // How much of a message came before its refusal depends on the pieces.
                    message.clear();
                    ask.reply(Reply::OK);
                }
                _ => others += 1,
            }
        }
    }
    (String::from_utf8(out).unwrap(), messages, others)
}

/// A client's octets of a message, in these pieces, and the end mark; `None` at a bare CR or LF.
fn sent(pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let config = client::Config::builder("c").tls(client::Tls::Never).build().unwrap();
    let mut session = client::Session::without_credentials(config.into());
    let mut out = Vec::new();
    session.receive(b"220 s\r\n");
    loop {
        match session.next(&mut out).unwrap() {
            client::Event::NeedInput if out.starts_with(b"DATA") => {
                session.receive(b"354 go on\r\n")
            }
            client::Event::NeedInput => session.receive(b"250 OK\r\n"),
            client::Event::Ready(ready) => {
                ready.send(client::Envelope::new(None, ["b@example.org"]).unwrap());
            }
            client::Event::Message(body) => {
                let mut written = Vec::new();
                for (n, piece) in pieces.iter().enumerate() {
                    match n % 2 {
                        0 => body.write(piece, &mut written).ok()?,
                        _ => body.pieces(piece).ok()?.for_each(|part| written.extend(part)),
                    }
                }
                return body.end(&mut written).ok().map(|()| written);
            }
            other => panic!("{other:?}"),
        }
        out.clear();
    }
}

fn is_good(message: &[u8]) -> bool {
    let text = std::str::from_utf8(message).unwrap().replace("\r\n", "");
    !text.contains(['\r', '\n'])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn to_a_server(
        first in octets(40),
        second in octets(40),
        cuts in vec(1..60_usize, 1..8),
        max_message in select(vec![0, 1, 5, 30, u64::MAX]),
    ) {
        let begin = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n";
        let chunk = format!("BDAT {}\r\n", second.len());
        let dialogue = [
            b"EHLO c\r\n",
            begin.as_bytes(), b"DATA\r\n", &first, b"\r\n.\r\n",
            begin.as_bytes(), chunk.as_bytes(), &second, b"BDAT 0 LAST\r\n",
            begin.as_bytes(), b"DATA\r\n", &second, b"\r\n.\r\nNOOP\r\n",
        ]
        .concat();
        let whole = received(&[&dialogue], max_message);
        prop_assert_eq!(&received(&pieces(&dialogue, &cuts), max_message), &whole);
        let octet_by_octet: Vec<_> = dialogue.chunks(1).collect();
        prop_assert_eq!(&received(&octet_by_octet, max_message), &whole);
        // What is taken is what was sent.
        if max_message == u64::MAX {
            prop_assert_eq!(whole.1.contains(&second), is_good(&second), "{:?}", whole);
        }
    }

    #[test]
    fn by_a_client(message in octets(60), cuts in vec(0..150_usize, 1..8)) {
        let whole = sent(&[&message]);
        prop_assert_eq!(&sent(&pieces(&message, &cuts)), &whole);
        let octet_by_octet: Vec<_> = message.chunks(1).collect();
        prop_assert_eq!(&sent(&octet_by_octet), &whole);
        prop_assert_eq!(whole.is_some(), is_good(&message));
        // And it comes back out of a server.
        if let Some(wire) = whole {
            let begin = b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";
            let (_, messages, _) = received(&[begin, &wire], u64::MAX);
            let end: &[u8] = if message.is_empty() || message.ends_with(b"\r\n") { b"" } else { b"\r\n" };
            prop_assert_eq!(messages, [[&message, end].concat()]);
        }
    }
}
