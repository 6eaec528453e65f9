//! What a server has logged since the log was last looked at.

use core::time::Duration;
use std::{fs, path::PathBuf};

use crate::process::wait_at_most;

/// How long until it has logged what its client has heard already.
const TELL: Duration = Duration::from_secs(2);

/// The file that a server logs to.
pub(crate) struct Log(pub(crate) PathBuf);

impl Log {
    /// How long it is.
    pub(crate) fn mark(&self) -> usize {
        self.octets().len()
    }

    /// Whether it comes to say one of these, from a mark on.
    pub(crate) async fn says(&self, mark: usize, words: &[&str]) -> bool {
        wait_at_most(TELL, || {
            let said = self.said(mark);
            words.iter().any(|words| said.contains(words))
        })
        .await
    }

    /// How often it says so.
    pub(crate) fn count(&self, mark: usize, words: &str) -> usize {
        self.said(mark).matches(words).count()
    }

    fn said(&self, mark: usize) -> String {
        let log = self.octets();
        String::from_utf8_lossy(log.get(mark..).unwrap_or_default()).into_owned()
    }

    fn octets(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap_or_default()
    }
}
