//! A transcript's file, read.

use std::{fs, path::Path};

use smtp_auth::sasl::{BindingPolicy, Channel, ChannelBinding, Mechanism};

/// A file.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// The first has no octets: what the session does before it has received any.
    pub(crate) blocks: Vec<Block>,
    /// Whether the file has lines for queries, and for other events.
    queries: bool,
    events: bool,
    /// What must not be seen in a trace.
    pub(crate) secrets: Vec<String>,
    /// The peer's first line.
    pub(crate) opening: Vec<u8>,
}

/// What the peer says at once, and what comes of it.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) octets: Vec<u8>,
    pub(crate) line_ends: Vec<usize>,
    pub(crate) eof: bool,
    pub(crate) expected: Vec<Item>,
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
}

/// Something expected, and the file's line.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// The session says this line.
    Says(Vec<u8>),
    /// Its last reply has this line.
    Has(Vec<u8>),
    /// Or none that begins so.
    HasNot(Vec<u8>),
    /// A query, `!tls`, `!close` or another event.
    Event(String),
}

impl Script {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path);
        let mut script = Self {
            path: name.display().to_string(),
            headers: Vec::new(),
            blocks: vec![Block::default()],
            queries: false,
            events: false,
            secrets: Vec::new(),
            opening: Vec::new(),
        };
        for (n, line) in text.lines().enumerate() {
            script.take(n + 1, line);
        }
        for (key, value) in &script.headers {
            let place = match key.as_str() {
                "user" | "login" | "token" => 1,
                "on_failure" => 2,
                _ => continue,
            };
            let secret = value.split(' ').nth(place).map(text_of);
            // That one is a word of the trace and of `Debug` anyway.
            script.secrets.extend(secret.filter(|s| s.len() > 4 && s != "password"));
        }
        script
    }

    fn take(&mut self, number: usize, line: &str) {
        let at = || format!("{}:{number}", self.path);
        let (mark, rest) = line.split_at(line.len().min(2));
        let peer = if self.headers.iter().any(|(key, value)| key == "role" && value == "server") {
            "C:"
        } else {
            "S:"
        };
        let kind = match mark {
            "" | "# " | "#" => return,
            "! " => {
                let (key, value) = rest.split_once(':').unwrap_or_else(|| panic!("{}", at()));
                self.headers.push((key.trim().into(), value.trim().into()));
                return;
            }
            "C:" | "S:" => {
                assert!(rest.is_empty() || rest.starts_with(' '), "{}: no space", at());
                assert!(!rest.ends_with(' '), "{}: write the space at the end as \\s", at());
                let said = rest.get(1..).unwrap_or_default();
                let (said, crlf) = match said.strip_suffix("\\c") {
                    Some(said) => (said, &b""[..]),
                    None => (said, &b"\r\n"[..]),
                };
                let said = unescape(said).unwrap_or_else(|| panic!("{}: an escape", at()));
                if mark == peer {
                    if self.opening.is_empty() {
                        self.opening.clone_from(&said);
                    }
                    let block = self.open_block(number);
                    block.octets.extend([&said, crlf].concat());
                    block.line_ends.push(block.octets.len());
                    return;
                }
                Kind::Says(said)
            }
            "+ " => Kind::Has(unescape(rest).unwrap()),
            "- " => Kind::HasNot(unescape(rest).unwrap()),
            "!e" => {
                assert_eq!(line, "!eof", "{}", at());
                self.open_block(number).eof = true;
                return;
            }
            "? " | "= " | "!t" | "!c" => {
                self.queries |= mark == "? ";
                self.events |= mark == "= ";
                Kind::Event(line.into())
            }
            _ => panic!("{}: what is that: {line}", at()),
        };
        let block = self.blocks.last_mut().unwrap();
        block.last_line = number;
        block.expected.push(Item { line: number, kind });
    }

    /// The block that the peer's next line belongs to.
    fn open_block(&mut self, number: usize) -> &mut Block {
        let last = self.blocks.last().unwrap();
        if self.blocks.len() == 1 || !last.expected.is_empty() || last.eof {
            self.blocks.push(Block { first_line: number, ..Block::default() });
        }
        let block = self.blocks.last_mut().unwrap();
        block.last_line = number;
        block
    }

    pub(crate) fn is_server(&self) -> bool {
        self.header("role") == Some("server")
    }

    /// Whether that event is to be compared.
    pub(crate) fn compares(&self, event: &str) -> bool {
        match event.get(..2) {
            Some("? ") => self.queries,
            Some("= ") => self.events,
            _ => true,
        }
    }

    pub(crate) fn header(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// The values of a header that may stand more than once.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, key: &str, value: &str) -> bool {
        self.header(key) == Some(value)
    }

    pub(crate) fn mechanisms(&self) -> Option<Vec<Mechanism>> {
        let names = self.header("mechanisms")?.split(',').filter(|name| !name.is_empty());
        Some(names.map(|name| Mechanism::from_name(name).unwrap()).collect())
    }

    /// What is left out of them.
    pub(crate) fn without(&self) -> Vec<Mechanism> {
        let names = self.header("without").unwrap_or_default().split(',');
        names.filter_map(Mechanism::from_name).collect()
    }

    pub(crate) fn binding_policy(&self) -> BindingPolicy {
        match self.header("channel_binding") {
            Some("none") => BindingPolicy::None,
            None | Some("preferred") => BindingPolicy::Preferred,
            Some("required") => BindingPolicy::Required,
            Some(other) => panic!("{}: channel_binding: {other}", self.path),
        }
    }

    /// The connection once it is inside TLS.
    pub(crate) fn channel(&self) -> Channel {
        let mut channel = Channel::tls();
        for value in self.all("binding") {
            let (name, hex) = value.split_once(' ').unwrap();
            let data = octets(&text_of(hex));
            channel = channel.with_binding(match name {
                "tls-exporter" => ChannelBinding::tls_exporter(data.try_into().unwrap()),
                "tls-server-end-point" => ChannelBinding::tls_server_end_point(&data).unwrap(),
                "tls-unique" => {
                    ChannelBinding::tls_unique_with_extended_master_secret(&data).unwrap()
                }
                other => panic!("{}: binding: {other}", self.path),
            });
        }
        match self.header("certificate") {
            Some(value) => channel.with_identity(&words(value)[0]).unwrap(),
            None => channel,
        }
    }

    /// Whether the file shows the greeting.
    pub(crate) fn has_greeting(&self) -> bool {
        let first = self.blocks[0].expected.first();
        first.is_some_and(|item| matches!(&item.kind, Kind::Says(line) if line.starts_with(b"220")))
    }
}

fn octets(hex: &str) -> Vec<u8> {
    let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(octet).collect()
}

/// A header's value as words.
pub(crate) fn words(value: &str) -> Vec<String> {
    value.split(' ').filter(|word| !word.is_empty()).map(text_of).collect()
}

pub(crate) fn text_of(word: &str) -> String {
    String::from_utf8(unescape(word).unwrap()).unwrap()
}

pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let escape = rest.chars().next()?;
                rest = &rest[escape.len_utf8()..];
                out.push(match escape {
                    's' => b' ',
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '0' => 0,
                    '\\' => b'\\',
                    'x' => {
                        let octet = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
                        rest = &rest[2..];
                        octet
                    }
                    _ => return None,
                });
            }
            '{' => {
                let (inner, behind) = rest.split_once('}')?;
                let (unit, count) = inner.rsplit_once('*')?;
                out.extend(unescape(unit)?.repeat(count.parse().ok()?));
                rest = behind;
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some(out)
}
