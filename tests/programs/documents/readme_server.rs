/// The socket stays in the clear: what is said on it is what would be said inside TLS.
pub(crate) fn run(listener: TcpListener, config: Arc<server::Config>, users: &crate::Users) {
    listen(listener, Ok::<TcpStream, io::Error>, config, &**users);
}
