//! The messages that are sent, and how what is stored is compared with them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    Result,
    home::{Home, write},
};

/// Lines that begin with dots, octets over 127, a line of spaces.
const BODY: &[u8] =
    b".\r\n..\r\n.one dot\r\n  \r\n\r\ncaf\xe9 \xff\xfe\r\nFrom the beginning\r\n\r\n.\r\nthe end\r\n";

/// What a big message has at least.
const BIG: usize = 10 << 20;

/// One that there is only once. Lines end in CRLF, the last one too.
pub(crate) struct Message {
    pub(crate) octets: Vec<u8>,
    pub(crate) file: PathBuf,
}

/// How a client wants to be given a message so that it sends just that.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Crlf,
    /// Lines that end in LF.
    Lf,
    /// Without the last line's end, which the client adds.
    NoLastEnd,
}

impl Message {
    pub(crate) fn small(home: &Home, form: Form) -> Result<Self> {
        Self::new(home, form, BODY)
    }

    pub(crate) fn big(home: &Home, form: Form) -> Result<Self> {
        let mut body = Vec::with_capacity(BIG + 100);
        for line in 0.. {
            if body.len() >= BIG {
                break;
            }
            body.extend_from_slice(
                format!(".line {line} of a message of ten megabytes\r\n").as_bytes(),
            );
        }
        Self::new(home, form, &body)
    }

    fn new(home: &Home, form: Form, body: &[u8]) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // All that a client may miss and add.
        let header = format!(
            "From: <tim@example.org>\r\nTo: <ann@example.org>\r\nDate: Tue, 24 Nov 2026 17:25:51 +0000\r\n\
            Message-ID: <{number}@client.example.org>\r\nSubject: message {number}\r\n\
            MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
            Content-Transfer-Encoding: 8bit\r\n\r\n"
        );
        let octets = [header.as_bytes(), body].concat();
        let file = home.path(format!("message-{number}"));
        write(&file, form.of(&octets))?;
        Ok(Self { octets, file })
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // It goes with the run's folder at the latest.
        let _ = fs::remove_file(&self.file);
    }
}

impl Form {
    fn of(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Crlf => octets.to_vec(),
            Self::Lf => without_cr(octets),
            Self::NoLastEnd => octets.strip_suffix(b"\r\n").unwrap_or(octets).to_vec(),
        }
    }
}

/// Line ends as files have them; the messages have no other CR.
pub(crate) fn without_cr(octets: &[u8]) -> Vec<u8> {
    octets.iter().copied().filter(|&octet| octet != b'\r').collect()
}

/// What lies in a Maildir's `new`, and takes it out.
pub(crate) fn take_all(maildir: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(maildir.join("new")).into_iter().flatten().flatten();
    let take = |file: fs::DirEntry| {
        let octets = fs::read(file.path()).unwrap_or_default();
        let _ = fs::remove_file(file.path());
        octets
    };
    files.map(take).collect()
}

/// Why these are not those that were sent, each once; `added` takes off what the server has put in
/// front, or says what is wrong there.
pub(crate) fn compare(
    stored: &[Vec<u8>],
    sent: &[Message],
    added: impl Fn(&[u8]) -> Result<&[u8]>,
) -> Result<()> {
    if stored.len() != sent.len() {
        return Err(format!("{} messages arrived instead of {}", stored.len(), sent.len()));
    }
    let stored = stored.iter().map(|octets| added(octets)).collect::<Result<Vec<_>>>()?;
    for message in sent {
        if !stored.contains(&message.octets.as_slice()) {
            let first = stored.first().copied().unwrap_or_default();
            return Err(difference(first, &message.octets));
        }
    }
    Ok(())
}

fn difference(stored: &[u8], sent: &[u8]) -> String {
    let same = stored.iter().zip(sent).take_while(|(a, b)| a == b).count();
    let around = |octets: &[u8]| {
        let piece = octets.get(same..octets.len().min(same + 24)).unwrap_or_default();
        piece.escape_ascii().to_string()
    };
    format!(
        "the message differs at octet {same}: stored \"{}\", sent \"{}\"",
        around(stored),
        around(sent)
    )
}
