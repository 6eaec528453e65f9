//! Thunderbird, without windows. One serves the whole check: it takes its orders by Marionette, from
//! `peers/thunderbird_client.py`.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    Result,
    home::{Home, write},
    process::Beside,
};

/// What the package has in the path is a script, which makes a profile in the home of whoever runs it.
pub(crate) const PROGRAM: &str = "/usr/lib/thunderbird/thunderbird";

/// Marionette turns off by itself what would call home. What it leaves finds no way out: all that does
/// not go to this machine is to take a proxy that is not there.
const PREFERENCES: &str = r#"user_pref("marionette.port", 0);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.socks", "127.0.0.1");
user_pref("network.proxy.socks_port", 1);
user_pref("network.proxy.socks5_remote_dns", true);
user_pref("intl.locale.requested", "en-US");
user_pref("mail.inappnotifications.enabled", false);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.smtp.useSenderForSmtpMailFrom", true);
user_pref("mail.smtpserver.default.hello_argument", "client.example.org");
"#;

/// The name of the profile's folder.
const PROFILE: &str = "thunderbird";

/// Says which port its Marionette listens on.
pub(crate) fn port_file(home: &Home) -> PathBuf {
    home.path(PROFILE).join("MarionetteActivePort")
}

pub(crate) fn beside(home: &Home) -> Result<Beside> {
    // That of an earlier start says where it listened.
    let _ = fs::remove_dir_all(home.path(PROFILE));
    let profile = home.folder(PROFILE)?;
    write(&profile.join("user.js"), PREFERENCES)?;
    let log = File::create(profile.join("log")).map_err(|error| error.to_string())?;
    let mut command = Command::new(PROGRAM);
    command
        .args(["--headless", "--no-remote", "--marionette", "--remote-allow-system-access"])
        .arg("--profile")
        .arg(&profile)
        .env("HOME", &profile)
        .stdout(Stdio::null())
        .stderr(Stdio::from(log));
    Ok(Beside { command, ready: port_file(home) })
}
