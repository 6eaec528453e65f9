//! The folder of a run, which goes with it.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::Result;

pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(within: &Path) -> Result<Self> {
        // Postfix and Dovecot read and write there as users of their own.
        let open = Permissions::from_mode(0o755);
        Ok(Self(tempfile::Builder::new().prefix("load-").permissions(open).tempdir_in(within)?))
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }
}
