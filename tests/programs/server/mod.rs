//! The example server among clients that are broken, many, or malicious, on a disk that fails, and
//! killed at work. All on loopback, which has more than one address on Linux alone.
//!
//! What takes a right that the user has not (to mount a small disk, to trace a program) is skipped,
//! with the reason on stderr.

mod crowds;
mod disks;
mod duties;
mod guesses;
mod hanging_disks;
mod senders;

use std::{
    collections::HashMap,
    fs::{self, File, FileTimes},
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    example_server::{Client, PASSWORD, Server},
    setup::{example, skip},
};
use base64::prelude::{BASE64_STANDARD, Engine};
use tempfile::tempdir;

const WRONG: &str = "535 5.7.8 The user name, password, token or certificate is wrong";

fn within_a_second(mut condition: impl FnMut() -> bool) -> bool {
    (0..50).any(|_| {
        let holds = condition();
        if !holds {
            thread::sleep(Duration::from_millis(20));
        }
        holds
    })
}

/// The messages in a folder of the Maildir, without the lines that the server adds. What goes while
/// this looks is not there.
fn messages(maildir: &Path, folder: &str) -> Vec<String> {
    let message = |file: io::Result<fs::DirEntry>| match fs::read_to_string(file.unwrap().path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        text => {
            let text = text.unwrap();
            Some(text.find("Subject: ").map_or_else(String::new, |start| text[start..].to_owned()))
        }
    };
    fs::read_dir(maildir.join(folder)).unwrap().filter_map(message).collect()
}

fn mounted(mount: &mut Command) -> Result<(), String> {
    match mount.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The octets of a message, its first line aside.
fn message(subject: &str, octets: usize) -> String {
    format!("Subject: {subject}\r\n\r\n{}", ("x".repeat(62) + "\r\n").repeat(octets / 64))
}
