//! Runs the code of the documents: `samples serve NAME` is a server, `samples sign-in …` a client,
//! `samples crowd` a crowd of clients at the guide's threads for argon2.
#![allow(
    dead_code,
    unused_imports,
    reason = "a piece of code in a document has more than is used here"
)]

mod argon2_memory;
mod argon2_workers;
mod auth;
mod client;
mod credentials;
mod event_loop;
mod kept;
mod migration;
mod oauth;
mod settle;
mod users;

use std::{
    env,
    io::{self, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use smtp_auth::{
    reply::Reply,
    sasl::{self, Authenticator, Channel, Mechanism, Query},
    server::{Config, Event, Session},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Users = Box<dyn Authenticator + Sync>;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        ["serve", name] => serve(name),
        ["sign-in", port, mechanism, user, secret] => {
            client::sign_in(port, mechanism, user, secret)
        }
        ["crowd", number, at_once] => {
            argon2_workers::crowd(number.parse().unwrap(), at_once.parse().unwrap())
        }
        _ => panic!("what is {words:?}"),
    }
}

/// One connection after the other.
fn serve_each(listener: &TcpListener, serve: impl Fn(TcpStream) -> io::Result<()>) {
    for socket in listener.incoming() {
        let _ = serve(socket.unwrap());
    }
}

/// The loop of a server in async tasks, whose questions are answered by that.
fn serve_async(listener: TcpListener, config: Arc<Config>, answer: impl AsyncFn(Query<'_>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = drive(&mut socket, Arc::clone(&config), &answer).await;
        }
    });
}

async fn drive(
    socket: &mut tokio::net::TcpStream,
    config: Arc<Config>,
    answer: &impl AsyncFn(Query<'_>),
) -> io::Result<()> {
    let mut session = Session::new(config);
    session.tls_started(Channel::tls());
    let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                socket.write_all(&out).await?;
                out.clear();
                match socket.read(&mut buffer).await? {
                    0 => return Ok(()),
                    n => session.receive(&buffer[..n]),
                }
            }
            Event::Query(query) => answer(query).await,
            Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
            Event::EndOfData(ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartTls | Event::Close => return socket.write_all(&out).await,
            _ => {}
        }
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
        let sasl = sasl::server::Config::builder("mail.example.org").mechanisms(mechanisms);
        let sasl = sasl.build().unwrap();
        Arc::new(Config::builder("mail.example.org").sasl(sasl).build().unwrap())
    };
    // What the store of the document says that it can answer for.
    let with = |users: Users| (offering(users.mechanisms()), users);
    let passwords = [Mechanism::Plain, Mechanism::Login];
    let (config, users) = match name {
        "users" => with(users::users()),
        "kept" => (offering(&passwords), users::users()),
        "auth" => {
            return serve_each(&listener, |socket| {
                auth::serve(socket, offering(&passwords).sasl(), &*users::users())
            });
        }
        "event-loop" => {
            return serve_each(&listener, |socket| {
                event_loop::serve(socket, offering(&passwords), &*users::users())
            });
        }
        "settle" => {
            return serve_async(
                listener,
                offering(&[Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login]),
                settle::answer,
            );
        }
        "argon2" => return serve_async(listener, offering(&passwords), argon2_workers::answers()),
        "credentials" => credentials::store(),
        "migration" => (offering(&[Mechanism::ScramSha256, Mechanism::Plain]), migration::users()),
        "oauth" => with(oauth::users()),
        _ => panic!("what is {name}"),
    };
    kept::run(listener, config, &users);
}
