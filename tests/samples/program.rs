//! Runs the code of the documents: `samples serve NAME` is a server, `samples sign-in …` a client,
//! `samples crowd` a crowd of clients at the guide's threads for argon2, `samples password-store` one at
//! those of the example.
#![allow(
    dead_code,
    unused_imports,
    reason = "a piece of code in a document has more than is used here"
)]

mod argon2_memory;
mod argon2_workers;
mod client;
mod credentials;
mod kept;
mod migration;
mod oauth;
mod password_store;
mod readme_client;
mod readme_server;
mod readme_users;
mod users;

#[path = "../../examples/password_store/check.rs"]
mod check;
#[path = "../../examples/password_store/store.rs"]
mod store;
#[path = "../../examples/password_store/worker.rs"]
mod worker;

use std::{env, io::Write, net::TcpListener, sync::Arc};

use smtp_auth::{
    sasl::{self, Authenticator, Mechanism},
    server::Config,
};

type Users = Box<dyn Authenticator + Sync>;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        ["serve", name] => serve(name),
        ["sign-in", port, mechanism, user, secret] => {
            client::sign_in(port, mechanism, user, secret)
        }
        ["begin", port] => client::begin(port),
        ["crowd", number, at_once] => {
            argon2_workers::crowd(number.parse().unwrap(), at_once.parse().unwrap())
        }
        ["password-store", number, at_once] => {
            password_store::crowd(number.parse().unwrap(), at_once.parse().unwrap());
        }
        _ => panic!("what is {words:?}"),
    }
}

/// Prints the most memory that the process has had.
fn print_most() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
}

fn serve(name: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    let offering = |mechanisms: &[Mechanism]| {
        let sasl = sasl::server::Config::new("mail.example.org").unwrap();
        Arc::new(Config::new(sasl.mechanisms(mechanisms).unwrap()))
    };
    let passwords = [Mechanism::Plain, Mechanism::Login];
    let (config, users) = match name {
        "readme" => (readme_users::shared(), readme_users::users()),
        "users" => (offering(&passwords), users::users()),
        "kept" => return kept::run(listener, offering(&passwords), &users::users()),
        "credentials" => credentials::store(),
        "migration" => (offering(&[Mechanism::ScramSha256, Mechanism::Plain]), migration::users()),
        "oauth" => (offering(&[Mechanism::OauthBearer, Mechanism::Xoauth2]), oauth::users()),
        _ => panic!("what is {name}"),
    };
    readme_server::run(listener, config, &users);
}
