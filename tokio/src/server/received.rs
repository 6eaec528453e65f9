//! The `Received:` header field.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{SystemTime, UNIX_EPOCH},
};

use super::Peer;

/// The `Received:` header field of a message (RFC 5321 §4.4), created by [`Peer::received`] or
/// [`Message::received`](super::Message::received).
///
/// `Display` writes the whole field, including its CRLF. Prepend this text to the message:
///
/// ```text
/// Received: from client.example.org ([192.0.2.1])
///  by mail.example.org with ESMTPSA id 4711;
///  Tue, 24 Nov 2026 17:25:51 +0000
/// ```
///
/// | part | meaning |
/// | --- | --- |
/// | `from` | the unverified name from the client's EHLO, and the client's [address](Peer::address) |
/// | `by` | the server's name from its configuration |
/// | `with` | the protocol (RFC 3848, RFC 6531 §4.3), which is `ESMTP`, or `UTF8SMTP` for a message with SMTPUTF8. The letter `S` is appended if the connection uses TLS. The letter `A` is appended if the client has authenticated, but not for a guest. After HELO, the protocol is always `SMTP`. |
/// | `id` | the message's identifier at this server, if [`id`](Self::id) was called |
///
/// The field contains neither the account nor the recipients, because everyone who gets the message can read the field.
///
/// The client's name cannot be used for header injection. A name that is neither a domain nor an address literal is
/// written in a comment, with a `?` for each character that could end the comment or the line.
#[derive(Clone, Debug)]
#[must_use = "prepend it to the message"]
pub struct Received<'a> {
    peer: &'a Peer,
    smtputf8: bool,
    id: &'a str,
    at: SystemTime,
}

impl Peer {
    /// Returns the `Received:` header field for a message that arrives from this client at the current time.
    pub fn received(&self) -> Received<'_> {
        Received { peer: self, smtputf8: false, id: "", at: SystemTime::now() }
    }
}

impl<'a> Received<'a> {
    /// Sets whether the client has declared SMTPUTF8 for the message.
    ///
    /// [`Message::received`](super::Message::received) already sets this. In your own [`Handler`](super::Handler), read
    /// `mail.parameters().get("SMTPUTF8").is_some()` in [`mail`](super::Handler::mail), and keep the result in the
    /// transaction. A client can declare SMTPUTF8 only if the configuration
    /// [lists](smtp_auth::server::Builder::keyword) the keyword.
    pub fn smtputf8(mut self, smtputf8: bool) -> Self {
        self.smtputf8 = smtputf8;
        self
    }

    /// Sets the message's identifier at this server, for example the identifier that your log uses. Characters that an
    /// atom must not contain (RFC 5322 §3.2.3) are written as `?`. The identifier is cut off after 255 characters.
    pub fn id(mut self, id: &'a str) -> Self {
        self.id = id;
        self
    }

    /// Sets the time at which the message arrived. By default, this is the time at which [`Peer::received`] was called.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.at = time;
        self
    }

    fn protocol(&self) -> &'static str {
        let is_known = self.peer.identity.as_ref().is_some_and(|who| !who.is_anonymous());
        match (self.peer.extended, self.smtputf8, self.peer.tls, is_known) {
            (false, ..) => "SMTP",
            (true, false, false, false) => "ESMTP",
            (true, false, true, false) => "ESMTPS",
            (true, false, false, true) => "ESMTPA",
            (true, false, true, true) => "ESMTPSA",
            (true, true, false, false) => "UTF8SMTP",
            (true, true, true, false) => "UTF8SMTPS",
            (true, true, false, true) => "UTF8SMTPA",
            (true, true, true, true) => "UTF8SMTPSA",
        }
    }
}

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, id, at, .. } = self;
        let (name, address) =
            (Name(&peer.hello), peer.address.map(|address| Literal(address.ip())));
        f.write_str("Received: from ")?;
        match (name.is_good(), address) {
            (true, Some(address)) => write!(f, "{} ({address})", name.0)?,
            (true, None) => f.write_str(name.0)?,
            (false, Some(address)) => write!(f, "{address} ({address}){name}")?,
            (false, None) => write!(f, "unknown{name}")?,
        }
        let own = Name(peer.config.hostname());
        match own.is_good() {
            true => write!(f, "\r\n by {}", own.0)?,
            false => write!(f, "\r\n by unknown{own}")?,
        }
        write!(f, " with {}", self.protocol())?;
        if !id.is_empty() {
            f.write_str(" id ")?;
            id.chars()
                .take(255)
                .try_for_each(|c| write!(f, "{}", if is_atext(c) { c } else { '?' }))?;
        }
        write!(f, ";\r\n {}\r\n", Date(*at))
    }
}

/// An address literal (RFC 5321 §4.1.3).
#[derive(Clone, Copy)]
struct Literal(IpAddr);

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_canonical() {
            IpAddr::V4(address) => write!(f, "[{address}]"),
            IpAddr::V6(address) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// An unverified name. `Display` writes it in a comment.
struct Name<'a>(&'a str);

impl Name<'_> {
    /// Returns whether the name is a domain or an address literal (RFC 5321 §4.1.2, §4.1.3).
    fn is_good(&self) -> bool {
        let literal = self.0.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match literal {
            Some(address) => match address.strip_prefix("IPv6:") {
                Some(address) => address.parse::<Ipv6Addr>().is_ok(),
                None => address.parse::<Ipv4Addr>().is_ok(),
            },
            None => self.0.len() <= 255 && self.0.split('.').all(is_sub_domain),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let good = |c: char| c.is_ascii_graphic() && !"()\\".contains(c);
        f.write_str(" (named ")?;
        self.0
            .chars()
            .take(255)
            .try_for_each(|c| write!(f, "{}", if good(c) { c } else { '?' }))?;
        f.write_str(")")
    }
}

/// `Let-dig [Ldh-str]`
fn is_sub_domain(label: &str) -> bool {
    let good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    !label.is_empty() && label.bytes().all(good) && !label.starts_with('-') && !label.ends_with('-')
}

/// `atext` (RFC 5322 §3.2.3)
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

/// `Tue, 24 Nov 2026 17:25:51 +0000` (RFC 5322 §3.3).
struct Date(SystemTime);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
        let seconds = self.0.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let days = seconds / 86_400;
        // Years that begin in March, counted from the year 0, have their leap day at the end. 400 years have 146,097
        // days (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
        let (era, era_day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
        let year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
        let year_day = era_day - (365 * year + year / 4 - year / 100);
        let month = (5 * year_day + 2) / 153;
        let day = year_day - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year + u64::from(month >= 10);
        let name = |names: &[&'static str], n: u64| {
            usize::try_from(n).ok().and_then(|n| names.get(n).copied()).unwrap_or_default()
        };
        let (weekday, month) = (name(&DAYS, days % 7), name(&MONTHS, month));
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{weekday}, {day} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc, time::Duration};

    use proptest::prelude::*;
    use smtp_auth::server::Config;

    use super::*;

    fn peer(hello: &str, address: Option<&str>) -> Peer {
        let address = address.map(|address| SocketAddr::new(address.parse().unwrap(), 25));
        let config = Config::builder("mail.example.org").allow_unauthenticated(true);
        let config = Arc::new(config.build().unwrap());
        Peer { hello: hello.into(), extended: true, ..Peer::new(config, address, true) }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn each_part_stands_in_its_place() {
        for (hello, address, start) in [
            ("client.example.org", Some("192.0.2.1"), "client.example.org ([192.0.2.1])"),
            ("client.example.org", Some("::ffff:192.0.2.1"), "client.example.org ([192.0.2.1])"),
            ("[192.0.2.1]", Some("2001:db8::1"), "[192.0.2.1] ([IPv6:2001:db8::1])"),
            ("[IPv6:2001:db8::1]", None, "[IPv6:2001:db8::1]"),
            ("localhost", None, "localhost"),
            ("my_pc", Some("192.0.2.1"), "[192.0.2.1] ([192.0.2.1]) (named my_pc)"),
            ("my_pc", None, "unknown (named my_pc)"),
            ("-a.b", None, "unknown (named -a.b)"),
            ("a..b", None, "unknown (named a..b)"),
            ("a-", None, "unknown (named a-)"),
            ("[IPv6:zz]", None, "unknown (named [IPv6:zz])"),
            ("", Some("192.0.2.1"), "[192.0.2.1] ([192.0.2.1])"),
            ("x)by\\bank(é;", None, "unknown (named x?by?bank??;)"),
        ] {
            let expected = format!(
                "Received: from {start}\r\n by mail.example.org with ESMTPS id 47-11?;\r\n Tue, 24 Nov 2026 17:25:51 +0000\r\n"
            );
            let peer = peer(hello, address);
            let field = peer.received().id("47-11\n").at(at(1_795_541_151)).to_string();
            assert_eq!(field, expected, "{hello}");
            assert!(is_received(&field), "{field}");
        }
        let without = peer("a", None).received().at(at(0)).to_string();
        let expected = "Received: from a\r\n by mail.example.org with ESMTPS;\r\n Thu, 1 Jan 1970 00:00:00 +0000\r\n";
        assert_eq!(without, expected);
        // The administrator has configured a name that is no domain.
        let mut odd = peer("a", None);
        let config = Config::builder("mail_1(x").allow_unauthenticated(true).build().unwrap();
        odd.config = Arc::new(config);
        assert!(odd.received().to_string().contains("\r\n by unknown (named mail_1?x) with"));
        assert!(is_received(&odd.received().to_string()));
    }

    #[test]
    fn a_date_is_that_of_the_calendar() {
        for (seconds, expected) in [
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 +0000"),
        ] {
            assert_eq!(Date(at(seconds)).to_string(), expected);
        }
    }

    /// RFC 3848, RFC 6531 §4.3. The tests of dialogues cover the protocols with an account.
    #[test]
    fn the_protocol_says_what_has_been_used() {
        for (extended, smtputf8, tls, expected) in [
            (false, false, false, "SMTP"),
            (true, false, false, "ESMTP"),
            (true, false, true, "ESMTPS"),
            (true, true, false, "UTF8SMTP"),
            (true, true, true, "UTF8SMTPS"),
        ] {
            let peer = Peer { extended, tls, ..peer("a", None) };
            assert_eq!(peer.received().smtputf8(smtputf8).protocol(), expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_calls_itself_the_field_is_one(
            hello in "(?s).{0,300}|[a-zA-Z0-9.-]{1,300}|\\[.{0,40}\\]", id in "(?s).{0,40}", is_ipv6: bool,
            has_address: bool,
        ) {
            let address = if is_ipv6 { "2001:db8::1" } else { "192.0.2.1" };
            let peer = peer(&hello, has_address.then_some(address));
            let field = peer.received().id(&id).to_string();
            prop_assert!(is_received(&field), "{field}");
            prop_assert!(field.is_ascii() && field.lines().all(|line| line.len() < 998));
        }
    }

    /// The rest of the text after a match, or `None` without a match.
    type Rest<'a> = Option<&'a str>;

    /// `Time-stamp-line` of RFC 5321 §4.4, unfolded: `From-domain By-domain Opt-info [CFWS] ";" FWS date-time`.
    fn is_received(field: &str) -> bool {
        let unfolded = field.replace("\r\n ", " ");
        let stamp = || -> Rest<'_> {
            let rest = unfolded.strip_prefix("Received: from ")?;
            let rest = comments(extended_domain(rest)?).strip_prefix(" by ")?;
            let rest = comments(extended_domain(rest)?).strip_prefix(" with ")?;
            let (protocol, rest) = rest.split_at(rest.find([' ', ';'])?);
            let known = ["SMTP", "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"];
            let known = known.contains(&protocol) || protocol.starts_with("UTF8SMTP");
            let rest = match rest.strip_prefix(" id ") {
                Some(id) => {
                    let (id, rest) = id.split_at(id.find(|c| !is_atext(c))?);
                    if id.is_empty() { return None } else { rest }
                }
                None => rest,
            };
            let date = rest.strip_prefix("; ")?.strip_suffix("\r\n")?;
            let is_date = date.ends_with(" +0000") && date.split(' ').count() == 6;
            (known && is_date && !date.contains(['\r', '\n'])).then_some("")
        };
        stamp() == Some("")
    }

    /// `Domain / ( Domain FWS "(" TCP-info ")" ) / ( address-literal FWS "(" TCP-info ")" )`. An address literal alone
    /// also counts: it is the domain of a client that has none.
    fn extended_domain(text: &str) -> Rest<'_> {
        let (name, rest) = text.split_at(text.find(' ')?);
        let label = |label: &str| {
            let mut octets = label.bytes();
            let ends = label.as_bytes().first().zip(label.as_bytes().last());
            ends.is_some_and(|(a, z)| a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric())
                && octets.all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        };
        if !literal(name) && !name.split('.').all(label) {
            return None;
        }
        match rest.strip_prefix(" ([") {
            Some(info) => {
                let (address, rest) = info.split_at(info.find(')')?);
                literal(&format!("[{address}")).then_some(rest.strip_prefix(')')?)
            }
            None => Some(rest),
        }
    }

    fn literal(text: &str) -> bool {
        let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        address.is_some_and(|address| match address.strip_prefix("IPv6:") {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
            None => address.parse::<Ipv4Addr>().is_ok(),
        })
    }

    /// Skips any comments.
    fn comments(text: &str) -> &str {
        let Some(comment) = text.strip_prefix(" (") else { return text };
        let end = comment
            .find([')', '(', '\\', '\r', '\n'])
            .filter(|end| comment[*end..].starts_with(')'));
        end.map_or(text, |end| comments(&comment[end + 1..]))
    }
}
