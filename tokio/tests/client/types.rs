//! What a multi-threaded runtime needs of the public types: they can be sent to another thread, and so can the futures.

use std::error::Error as StdError;

use smtp_auth_tokio::{
    Attempt, Blocking, MemoryRateLimiter, Network, NetworkError, client, server,
    smtp_auth::sasl::BoxedAuthenticator, tls,
};

fn sent<T: Send>() {}

fn shared<T: Send + Sync>() {}

/// Calls the function for each type, and returns the types' names.
macro_rules! each {
    ($check:ident: $($ty:ty),* $(,)?) => {
        [$({ $check::<$ty>(); stringify!($ty) }),*]
    };
}

#[test]
fn types_can_be_sent_to_another_thread() {
    // A stream need not be shared between threads, nor need those that hold one.
    let sent = each![sent: client::Client, server::Body<'_>];
    let shared = each![shared:
        Attempt<'_>, Blocking<()>, MemoryRateLimiter, Network, NetworkError,
        client::Connector, client::Delivery, client::Error, client::ErrorKind, client::Pool, client::Sent,
        server::Limits, server::Message, server::Peer, server::Received<'_>, server::Server<(), ()>,
        tls::ClientCertificates, tls::Replaceable, tls::Unverified,
    ];
    let listed: Vec<_> =
        sent.iter().chain(&shared).map(|ty| ty.split('<').next().unwrap()).collect();
    for line in include_str!("../api.txt").lines() {
        let ty = ["pub struct smtp_auth_tokio::", "pub enum smtp_auth_tokio::"]
            .iter()
            .find_map(|start| line.split_once(start));
        if let Some((_, ty)) = ty {
            let name = ty.split(['<', '(']).next().unwrap();
            assert!(listed.contains(&name), "{name} is not in the list");
        }
    }
}

/// With `?`, an error becomes one of a function that returns any error.
#[test]
fn errors_can_be_boxed() {
    fn boxed<E: StdError + Send + Sync + 'static>() {}
    boxed::<client::Error>();
    boxed::<NetworkError>();
}

/// Compiles only if a runtime may move the futures to another thread.
#[test]
fn futures_can_be_sent_to_another_thread() {
    fn sent<T: Send>(future: T) {
        drop(future);
    }
    async fn deliver(_: server::Message) -> Result<server::Reply, server::Reply> {
        Ok(server::Reply::OK)
    }
    fn of_client(
        connector: &client::Connector,
        client: &mut client::Client,
        pool: &client::Pool,
        envelope: &client::Envelope,
    ) {
        sent(connector.connect());
        sent(connector.connect_over(tokio::io::empty()));
        sent(client.send(envelope, b""));
        sent(client.send_from(envelope, tokio::io::empty()));
        sent(client.noop());
        sent(pool.send(envelope, b""));
        sent(pool.send_from(envelope, tokio::io::empty()));
        sent(pool.close());
    }
    fn of_server(config: server::Config, users: BoxedAuthenticator, body: &mut server::Body<'_>) {
        let server = server::Server::new(config, users, deliver);
        sent(server.listen("[::1]:0"));
        sent(server.listen_tls("[::1]:0"));
        sent(server.serve_stream(tokio::io::empty(), None));
        sent(server.serve_tls_stream(tokio::io::empty(), None));
        sent(body.next());
        sent(body.read_all());
    }
    let _ = (of_client, of_server);
}
