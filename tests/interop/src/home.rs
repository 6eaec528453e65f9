//! The folder of a run, which goes with it, and the certificates in it.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::{
    Result,
    sign_in::{PASSWORD, TOKEN, USER},
};

pub(crate) struct Home {
    folder: TempDir,
    pub(crate) ca: PathBuf,
    pub(crate) server: Pair,
    /// Whose certificate names the account.
    pub(crate) user: Pair,
    /// Whose certificate is good, and names no account.
    pub(crate) nobody: Pair,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Home {
    pub(crate) fn new(keep: bool) -> Result<Self> {
        // Some servers read and write there as users of their own.
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("interop-").permissions(open).tempdir();
        let mut folder = folder.map_err(|error| error.to_string())?;
        if keep {
            eprintln!("the run's folder: {}", folder.path().display());
            folder.disable_cleanup(true);
        }
        let path = folder.path();
        let issuer = issuer().map_err(|error| error.to_string())?;
        let ca = path.join("ca.pem");
        write(&ca, issuer.pem())?;
        let pair = |name| Pair::new(path, name, &issuer);
        let (server, user, nobody) = (pair("localhost")?, pair(USER)?, pair("nobody")?);
        for (name, secret) in [
            ("password", PASSWORD),
            ("token", TOKEN),
            ("wrong-password", "x"),
            ("wrong-token", "x"),
        ] {
            write(&path.join(name), secret)?;
        }
        Ok(Self { folder, ca, server, user, nobody })
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Pair {
    fn new(folder: &Path, name: &str, issuer: &CertifiedIssuer<'_, KeyPair>) -> Result<Self> {
        let own = Self {
            cert: folder.join(format!("{name}.cert.pem")),
            key: folder.join(format!("{name}.key.pem")),
        };
        let (cert, key) = certificate(name, issuer).map_err(|error| error.to_string())?;
        write(&own.cert, cert)?;
        write(&own.key, key)?;
        Ok(own)
    }
}

fn issuer() -> core::result::Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.distinguished_name.push(DnType::CommonName, "the CA of this run");
    CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)
}

/// As PEM, with its key.
fn certificate(
    name: &str,
    issuer: &CertifiedIssuer<'_, KeyPair>,
) -> core::result::Result<(String, String), rcgen::Error> {
    let mut parameters = CertificateParams::new(vec![name.to_owned()])?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    Ok((parameters.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, contents).map_err(|error| format!("{}: {error}", path.display()))
}

/// A port that nobody listens on, for the moment.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(|error| error.to_string())?.port())
}
