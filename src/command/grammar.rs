//! The grammar of the commands: one function for each ABNF rule, with the rule above it.
//!
//! The rules work on octets. Rules that allow characters outside ASCII first check that the rest of the line is UTF-8,
//! and return [`Utf8`], which converts to `&str` on demand. If a standard requires one space, one or more are accepted,
//! because some clients send two.

mod leaf;

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use nom::{
    Parser,
    branch::alt,
    combinator::{all_consuming, consumed, cut, map, map_opt, opt, recognize, verify},
    error::context,
    multi::{fold_many0, many0_count},
    sequence::{delimited, pair, preceded, separated_pair, terminated},
};

use self::leaf::{Fault, Res, envelope_utf8, many, octet, one, some, utf8, word};
use super::{
    Auth, BadPath, Command, EhloName, Error, Mail, Mailbox, Parameter, Parameters, Rcpt, Text,
    Unknown, Utf8,
};
use crate::set::{MAX_MECHANISM, MECH_CHAR, Set};

// An octet of 0x80 or above belongs to a character outside ASCII (RFC 6531 §3.3). No set contains C0 controls or DEL,
// and `utf8` refuses C1 controls and the like, so the application can log the text as one line.
static ALPHA: Set = Set::of(b"A-Za-z");
static DIGIT: Set = Set::of(b"0-9");
static HEXDIG: Set = Set::of(b"0-9A-Fa-f");
static DQUOTE: Set = Set::of(b"\"");
static SPACE: Set = Set::of(b" ");
static PRINTABLE: Set = Set::of(b"!-~");
static VISIBLE: Set = Set::of(b"!-~\x80-\xff");
static ATEXT: Set = Set::of(b"A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-");
static QTEXT: Set = Set::of(b" !#-[]-~\x80-\xff");
static QUOTABLE: Set = Set::of(b" -~");
static LET_DIG_HYPHEN: Set = Set::of(b"A-Za-z0-9\x80-\xff-");
static LDH: Set = Set::of(b"A-Za-z0-9-");
static DCONTENT: Set = Set::of(b"!-Z^-~");
static VALUE: Set = Set::of(b"!-<>-~\x80-\xff");
pub(super) static XCHAR: Set = Set::of(b"!-*,-<>-~");

/// Returns the value, if nothing is left of the line. Inlined so that a command is written directly to its final
/// location.
#[inline(always)]
fn finish<T>(octets: &[u8], result: Result<(&[u8], T), nom::Err<Fault>>) -> Result<T, Error> {
    let Fault { rule, left } = match result {
        Ok(([], value)) => return Ok(value),
        Ok((rest, _)) => Fault { rule: "end of line", left: rest.len() },
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => fault,
        // Unreachable: no rule for complete lines asks for more input.
        Err(nom::Err::Incomplete(_)) => Fault { rule: "line", left: 0 },
    };
    Err(Error { rule, offset: octets.len() - left })
}

/// Parses octets that must match one rule as a whole. Rules for names and texts refuse further characters themselves.
pub(super) fn whole<'a, T>(
    rule: impl Parser<&'a [u8], Output = T, Error = Fault>,
    octets: &'a [u8],
) -> Result<T, Error> {
    finish(octets, preceded(envelope_utf8, rule).parse(octets))
}

/// `command = verb [arguments]` (RFC 5321 §4.1.1)
///
/// The verb is folded to upper case and compared as one word.
pub(super) fn command(line: &[u8]) -> Result<Command<'_>, Error> {
    let Some((verb, i @ ([] | [b' ', ..]))) = line.split_first_chunk() else {
        return long_verb(line);
    };
    match &upper(*verb) {
        b"EHLO" => finish(line, preceded(sp, ehlo_name).parse(i)).map(Command::Ehlo),
        b"HELO" => finish(line, preceded(sp, ehlo_name).parse(i)).map(Command::Helo),
        b"AUTH" => finish(line, preceded(sp, auth).parse(i)).map(Command::Auth),
        b"MAIL" => finish(line, preceded(sp, mail).parse(i)).map(Command::Mail),
        b"RCPT" => finish(line, preceded(sp, rcpt).parse(i)).map(Command::Rcpt),
        b"DATA" => finish(line, Ok((i, Command::Data))),
        b"BDAT" => finish(line, preceded(sp, bdat).parse(i)),
        b"RSET" => finish(line, Ok((i, Command::Rset))),
        b"NOOP" => finish(line, opt(preceded(sp, cut(text))).parse(i)).map(Command::Noop),
        b"VRFY" => finish(line, preceded(sp, text).parse(i)).map(Command::Vrfy),
        b"EXPN" => finish(line, preceded(sp, text).parse(i)).map(Command::Expn),
        b"HELP" => finish(line, opt(preceded(sp, cut(text))).parse(i)).map(Command::Help),
        b"QUIT" => finish(line, Ok((i, Command::Quit))),
        _ => unknown(line),
    }
}

/// Clears the bit that distinguishes lower from upper case. Only the two cases of a letter yield that letter, so a verb
/// that matches consists of letters.
fn upper<const N: usize>(letters: [u8; N]) -> [u8; N] {
    letters.map(|letter| letter & 0xDF)
}

/// Parses a line if its verb does not have four letters. The only known verb of this kind is `STARTTLS` (RFC 3207 §4).
fn long_verb(line: &[u8]) -> Result<Command<'_>, Error> {
    match line.split_first_chunk() {
        Some((verb, i @ ([] | [b' ', ..]))) if &upper(*verb) == b"STARTTLS" => {
            finish(line, Ok((i, Command::StartTls)))
        }
        _ => unknown(line),
    }
}

/// `unknown = verb [SP text]`
///
/// Not inlined, because it is rare and its registers would slow down the other commands.
#[inline(never)]
fn unknown(line: &[u8]) -> Result<Command<'_>, Error> {
    let parsed = pair(verb, opt(preceded(sp, cut(text)))).parse(line);
    finish(line, parsed).map(|(verb, arguments)| {
        Command::Unknown(Unknown { verb: Utf8(verb), arguments: arguments.map(|text| text.0) })
    })
}

pub(super) const VERB: &str = "verb";

/// `verb = 1*ALPHA`, followed by a space or the end (RFC 5321 §2.4)
fn verb(i: &[u8]) -> Res<'_, &[u8]> {
    match context(VERB, some(&ALPHA)).parse(i)? {
        (rest @ ([] | [b' ', ..]), verb) => Ok((rest, verb)),
        (rest, _) => Err(Fault::new(VERB, rest)),
    }
}

/// `SP`, one or more
fn sp(i: &[u8]) -> Res<'_, &[u8]> {
    preceded(context("SP", one(&SPACE)), many(&SPACE)).parse(i)
}

/// `text = 1*visible *(SP 1*visible)`
///
/// RFC 5321 §4.1.1 calls this a String. Spaces at the end of a line are not part of the text.
pub(super) fn text(i: &[u8]) -> Res<'_, Text<'_>> {
    let words = pair(some(&VISIBLE), many0_count(preceded(sp, some(&VISIBLE))));
    let text = preceded(utf8, recognize(words));
    map(context("text", text), |text| Text(Utf8(text))).parse(i)
}

/// `ehlo-name = 1*visible`
///
/// RFC 5321 §4.1.1.1 requires a domain or an address literal. However, clients also send host names with underscores,
/// bare addresses and worse, and nothing depends on the name.
pub(super) fn ehlo_name(i: &[u8]) -> Res<'_, EhloName<'_>> {
    let name = preceded(utf8, some(&VISIBLE));
    map(context("ehlo-name", name), |name| EhloName(Utf8(name))).parse(i)
}

/// `auth = sasl-mech [SP initial-response]` (RFC 4954 §4)
pub(super) fn auth(i: &[u8]) -> Res<'_, Auth<'_>> {
    map(
        pair(sasl_mech, opt(preceded(sp, cut(initial_response)))),
        |(mechanism, initial_response)| Auth { mechanism, initial_response },
    )
    .parse(i)
}

/// `auth-args = *SP auth`
pub(super) fn auth_args(args: &[u8]) -> Result<Auth<'_>, Error> {
    finish(args, preceded(many(&SPACE), auth).parse(args))
}

/// `sasl-mech = 1*20mech-char` (RFC 4422 §3.1; both cases are accepted here)
pub(super) fn sasl_mech(i: &[u8]) -> Res<'_, Utf8<'_>> {
    let name = verify(some(&MECH_CHAR), |name: &[u8]| name.len() <= MAX_MECHANISM);
    map(context("sasl-mech", name), Utf8).parse(i)
}

pub(super) const INITIAL_RESPONSE: &str = "initial-response";

/// `initial-response = 1*%d33-126`
///
/// RFC 4954 §8 requires base64 or `=`. This is checked when the response is decoded, because errors in it get a
/// different reply.
pub(super) fn initial_response(i: &[u8]) -> Res<'_, Utf8<'_>> {
    // It extends to the end of most lines, and a check of all octets at once is the fastest.
    if i.iter().fold(!i.is_empty(), |all, octet| all & matches!(octet, b'!'..=b'~')) {
        return Ok((&[], Utf8(i)));
    }
    match context(INITIAL_RESPONSE, some(&PRINTABLE)).parse(i)? {
        (rest @ [0x80..=0xff, ..], _) => Err(Fault::new(INITIAL_RESPONSE, rest)),
        (rest, response) => Ok((rest, Utf8(response))),
    }
}

/// `mail = "FROM:" *SP reverse-path [SP parameters]` (RFC 5321 §4.1.1.2)
///
/// RFC 5321 forbids the space after the colon, but many clients send it.
fn mail(i: &[u8]) -> Res<'_, Mail<'_>> {
    map(
        preceded(
            (envelope_utf8, word("FROM:"), many(&SPACE)),
            pair(reverse_path, trailing_parameters),
        ),
        |(from, parameters)| Mail { from, parameters },
    )
    .parse(i)
}

/// `rcpt = "TO:" *SP forward-path [SP parameters]` (RFC 5321 §4.1.1.3)
fn rcpt(i: &[u8]) -> Res<'_, Rcpt<'_>> {
    map(
        preceded(
            (envelope_utf8, word("TO:"), many(&SPACE)),
            pair(forward_path, trailing_parameters),
        ),
        |(to, parameters)| Rcpt { to, parameters },
    )
    .parse(i)
}

/// Returns which path makes a MAIL or RCPT line invalid, or `None` if the line is invalid for another reason.
pub(super) fn bad_path(line: &[u8]) -> Option<BadPath> {
    let (verb, args) = line.split_first_chunk()?;
    let head = |name| recognize((sp, word(name), many(&SPACE)));
    let (bad, path) = match &upper(*verb) {
        b"MAIL" => {
            let (i, _) = head("FROM:").parse(args).ok()?;
            (BadPath::Sender, recognize(reverse_path).parse(i))
        }
        b"RCPT" => {
            let (i, _) = head("TO:").parse(args).ok()?;
            (BadPath::Recipient, recognize(forward_path).parse(i))
        }
        _ => return None,
    };
    match path {
        Ok(([] | [b' ', ..], path)) if envelope_utf8(path).is_ok() => None,
        _ => Some(bad),
    }
}

/// `bdat = chunk-size [SP "LAST"]` (RFC 3030 §2)
fn bdat(i: &[u8]) -> Res<'_, Command<'_>> {
    map(pair(chunk_size, opt(preceded(sp, cut(word("LAST"))))), |(size, last)| Command::Bdat {
        size,
        last: last.is_some(),
    })
    .parse(i)
}

/// `chunk-size = 1*DIGIT` (RFC 3030 §2)
fn chunk_size(i: &[u8]) -> Res<'_, u64> {
    context("chunk-size", map_opt(some(&DIGIT), |digits| Utf8(digits).as_str().parse().ok()))
        .parse(i)
}

/// `reverse-path = path / "<>" / bare-path` (RFC 5321 §4.1.2)
fn reverse_path(i: &[u8]) -> Res<'_, Option<Mailbox<'_>>> {
    alt((map(path, Some), map(word("<>"), |_| None), map(bare_path, Some))).parse(i)
}

/// `forward-path = path / "<Postmaster>" / bare-path / "Postmaster"` (RFC 5321 §4.1.1.3)
fn forward_path(i: &[u8]) -> Res<'_, Mailbox<'_>> {
    alt((path, delimited(octet("<"), postmaster, octet(">")), bare_path, postmaster)).parse(i)
}

/// `bare-path = dot-string "@" domain`
///
/// No standard defines this form, but devices such as printers and RAID controllers send it, and it is unambiguous.
fn bare_path(i: &[u8]) -> Res<'_, Mailbox<'_>> {
    mailbox_of(dot_string, domain, i)
}

/// `postmaster = "Postmaster"`
fn postmaster(i: &[u8]) -> Res<'_, Mailbox<'_>> {
    map(word("Postmaster"), |text| Mailbox { text: Utf8(text), at: text.len() }).parse(i)
}

/// `path = "<" [source-route] mailbox ">"` (RFC 5321 §4.1.2)
fn path(i: &[u8]) -> Res<'_, Mailbox<'_>> {
    delimited(octet("<"), preceded(opt(source_route), mailbox), octet(">")).parse(i)
}

/// `source-route = at-domain *("," at-domain) ":"` (RFC 5321 §4.1.2)
///
/// It must be accepted and ignored (§4.1.1.3, appendix C).
fn source_route(i: &[u8]) -> Res<'_, &[u8]> {
    let domains = pair(at_domain, many0_count(preceded(octet(","), cut(at_domain))));
    recognize(terminated(domains, cut(octet(":")))).parse(i)
}

/// `at-domain = "@" domain` (RFC 5321 §4.1.2)
fn at_domain(i: &[u8]) -> Res<'_, &[u8]> {
    preceded(octet("@"), cut(domain)).parse(i)
}

/// `mailbox = local-part "@" (domain / address-literal)` (RFC 5321 §4.1.2)
pub(super) fn mailbox(i: &[u8]) -> Res<'_, Mailbox<'_>> {
    mailbox_of(local_part, alt((domain, address_literal)), i)
}

fn mailbox_of<'a>(
    local_part: impl Parser<&'a [u8], Output = &'a [u8], Error = Fault>,
    domain: impl Parser<&'a [u8], Output = &'a [u8], Error = Fault>,
    i: &'a [u8],
) -> Res<'a, Mailbox<'a>> {
    let parts = consumed(separated_pair(local_part, octet("@"), domain));
    map(parts, |(text, (local, _))| Mailbox { text: Utf8(text), at: local.len() }).parse(i)
}

/// `local-part = dot-string / quoted-string` (RFC 5321 §4.1.2)
fn local_part(i: &[u8]) -> Res<'_, &[u8]> {
    alt((dot_string, quoted_string)).parse(i)
}

/// `dot-string = atom *("." atom)` (RFC 5321 §4.1.2)
fn dot_string(i: &[u8]) -> Res<'_, &[u8]> {
    recognize(pair(atom, many0_count(preceded(octet("."), cut(atom))))).parse(i)
}

/// `atom = 1*atext` (RFC 5321 §4.1.2, RFC 6531 §3.3)
fn atom(i: &[u8]) -> Res<'_, &[u8]> {
    context("atom", some(&ATEXT)).parse(i)
}

/// `quoted-string = DQUOTE *(1*qtext / quoted-pair) DQUOTE` (RFC 5321 §4.1.2, RFC 6531 §3.3)
fn quoted_string(i: &[u8]) -> Res<'_, &[u8]> {
    let content = many0_count(alt((some(&QTEXT), quoted_pair)));
    let quote = || context("quoted-string", one(&DQUOTE));
    recognize(delimited(quote(), content, cut(quote()))).parse(i)
}

/// `quoted-pair = "\" %d32-126` (RFC 5321 §4.1.2)
fn quoted_pair(i: &[u8]) -> Res<'_, &[u8]> {
    let escaped = cut(context("quoted-pair", one(&QUOTABLE)));
    recognize(preceded(octet("\\"), escaped)).parse(i)
}

/// `domain = sub-domain *("." sub-domain)` (RFC 5321 §4.1.2)
fn domain(i: &[u8]) -> Res<'_, &[u8]> {
    recognize(pair(sub_domain, many0_count(preceded(octet("."), cut(sub_domain))))).parse(i)
}

/// `sub-domain = let-dig [*(let-dig / "-") let-dig]` (RFC 5321 §4.1.2, RFC 6531 §3.3)
fn sub_domain(i: &[u8]) -> Res<'_, &[u8]> {
    let hyphens_inside = |label: &[u8]| !matches!(label, [b'-', ..] | [.., b'-']);
    context("sub-domain", verify(some(&LET_DIG_HYPHEN), hyphens_inside)).parse(i)
}

/// `address-literal = "[" (IPv4 / "IPv6:" IPv6 / tag ":" 1*dcontent) "]"` (RFC 5321 §4.1.3)
fn address_literal(i: &[u8]) -> Res<'_, &[u8]> {
    let address = context("address-literal", verify(some(&DCONTENT), is_address));
    recognize(delimited(octet("["), cut(address), cut(octet("]")))).parse(i)
}

fn is_address(text: &[u8]) -> bool {
    let text = Utf8(text).as_str();
    match text.split_once(':') {
        None => text.parse::<Ipv4Addr>().is_ok(),
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => {
            address.parse::<Ipv6Addr>().is_ok()
        }
        Some((tag, content)) => {
            !content.is_empty()
                && !tag.ends_with('-')
                && all_consuming(some(&LDH)).parse(tag.as_bytes()).is_ok()
        }
    }
}

/// `*(SP parameter)`
fn trailing_parameters(i: &[u8]) -> Res<'_, Parameters<'_>> {
    let list = recognize(many0_count(preceded(sp, cut(parameter))));
    map(list, |list: &[u8]| Parameters(Utf8(list.trim_ascii_start()))).parse(i)
}

/// `parameters = parameter *(SP parameter)` (RFC 5321 §4.1.2)
///
/// The parameters are checked here, and are split again on demand.
pub(super) fn parameters(i: &[u8]) -> Res<'_, Parameters<'_>> {
    let list = pair(parameter, many0_count(preceded(sp, cut(parameter))));
    map(recognize(list), |list| Parameters(Utf8(list))).parse(i)
}

/// `parameter = keyword ["=" value]` (RFC 5321 §4.1.2)
fn parameter(i: &[u8]) -> Res<'_, Parameter<'_>> {
    let parts = pair(keyword, opt(preceded(octet("="), cut(value))));
    map(parts, |(name, value)| Parameter { name: Utf8(name), value: value.map(Utf8) }).parse(i)
}

/// `next-parameter = *SP parameter`
pub(super) fn next_parameter(i: &[u8]) -> Res<'_, Parameter<'_>> {
    preceded(many(&SPACE), parameter).parse(i)
}

/// `keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")` (RFC 5321 §4.1.2)
pub(super) fn keyword(i: &[u8]) -> Res<'_, &[u8]> {
    context("esmtp-keyword", verify(some(&LDH), |name: &[u8]| !name.starts_with(b"-"))).parse(i)
}

/// `value = 1*(%d33-60 / %d62-126 / UTF8-non-ascii)` (RFC 5321 §4.1.2, RFC 6531 §3.3)
pub(super) fn value(i: &[u8]) -> Res<'_, &[u8]> {
    context("esmtp-value", some(&VALUE)).parse(i)
}

/// `xtext = *(xchar / hexchar)` (RFC 3461 §4), decoded
pub(super) fn xtext(i: &[u8]) -> Res<'_, Vec<u8>> {
    fold_many0(alt((xchar, hexchar)), Vec::new, |mut decoded, octet| {
        decoded.push(octet);
        decoded
    })
    .parse(i)
}

/// `xchar = %d33-42 / %d44-60 / %d62-126` (RFC 3461 §4)
fn xchar(i: &[u8]) -> Res<'_, u8> {
    context("xchar", one(&XCHAR)).parse(i)
}

/// `hexchar = "+" 2HEXDIG` (RFC 3461 §4; upper- and lowercase digits are both accepted here)
fn hexchar(i: &[u8]) -> Res<'_, u8> {
    let digits = recognize(pair(one(&HEXDIG), one(&HEXDIG)));
    let octet_of = map_opt(digits, |digits| u8::from_str_radix(Utf8(digits).as_str(), 16).ok());
    preceded(octet("+"), cut(context("hexchar", octet_of))).parse(i)
}
