/// Signs in and sends a message. What came of it is the output.
pub(crate) fn sign_in(port: &str, mechanism: &str, user: &str, secret: &str) {
    use smtp_auth::{
        client::Config,
        sasl::{Mechanism, client},
    };
    let mechanism = Mechanism::from_name(mechanism).unwrap();
    let credentials = match mechanism.takes_token() {
        true => client::Credentials::token(user, secret),
        false => client::Credentials::password(user, secret),
    };
    let sasl = client::Config::builder().mechanisms([mechanism]).build().unwrap();
    let config = Config::builder("laptop.example.org").sasl(sasl).build().unwrap();
    let mut session = Session::new(config.into(), credentials.unwrap());
    let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.org"]).unwrap();
    let port = port.parse().unwrap();
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    session.tls_started(Channel::tls());
    let outcome =
        send(&mut socket, &mut session, &mut Some(envelope), b"Subject: hello\r\n\r\nHello\r\n");
    println!("authenticated: {}", session.authenticated().is_some());
    match outcome {
        Ok(fate) => println!("{}", fate.unwrap()),
        Err(error) => println!("{error}"),
    }
}
