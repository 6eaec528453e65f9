//! What the tests need beside themselves: the example programs, and peers that may not be there.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

/// An example program, built if need be.
pub fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "server", "--example", "client"]);
        build.args(["--example", "minimal_server", "--example", "minimal_client"]);
        build.args(["--example", "demo"]);
        build.args(["--example", "guide_server", "--example", "guide_client"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells a test of its package: ring would be built anew for it, and again by the
        // next build without it.
        for (name, _) in env::vars_os() {
            let told = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if told.iter().any(|told| name.to_string_lossy().starts_with(told)) {
                build.env_remove(name);
            }
        }
        assert!(build.status().unwrap().success());
    });
    let own = env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// Whether the peer is there; if not, it is [skipped](skip).
pub fn present(name: &str, found: Result<(), String>) -> bool {
    if let Err(reason) = &found {
        skip(name, reason);
    }
    found.is_ok()
}

/// Says why something is not tested, or fails where nothing may be skipped.
pub fn skip(what: &str, reason: &str) {
    assert!(env::var_os("SMTP_AUTH_NO_SKIP").is_none(), "{what}: {reason}");
    // Past the test runner, which would keep it for itself.
    let _ = writeln!(io::stderr(), "skipped: {what}: {reason}");
}

/// Whether the program ends well; what it says if not.
pub fn runs(program: &str, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// All that it printed.
pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}
