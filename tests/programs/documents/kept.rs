/// The socket stays in the clear: what is said on it is what would be said inside TLS. It prints again and again how many
/// messages it has.
pub(crate) fn run(listener: TcpListener, config: Arc<Config>, users: &crate::Users) {
    let stored = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(100));
                println!("stored {}", stored.lock().unwrap().len());
            }
        });
        listen(listener, Ok::<TcpStream, io::Error>, config, &**users, &stored);
    });
}
