/// One connection, whose questions another thread answers.
pub(crate) fn serve(
    mut socket: std::net::TcpStream,
    config: std::sync::Arc<smtp_auth::server::Config>,
    users: &(dyn Authenticator + Sync),
) -> std::io::Result<()> {
    use smtp_auth::{reply::Reply, sasl::Channel, server::Event};
    use std::io::{Read, Write};

    let mut session = Session::new(config);
    session.tls_started(Channel::tls());
    let (workers, jobs) = std::sync::mpsc::channel();
    let (mut out, mut buffer, mut waits_for) = (Vec::new(), [0; 4096], None);
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                socket.write_all(&out)?;
                out.clear();
                match socket.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => session.receive(&buffer[..n]),
                }
            }
            Event::Query(query) => {
                ask(query, &mut waits_for, 7, &workers);
                // What is shown again is not asked again.
                if let Event::Query(query) = session.next(&mut out) {
                    ask(query, &mut waits_for, 7, &workers);
                }
                let (connection, mut job) = jobs.try_recv().unwrap();
                assert_eq!((connection, jobs.try_recv().is_err()), (7, true));
                std::thread::scope(|scope| {
                    scope.spawn(|| look_up(&mut job, users)).join().unwrap()
                });
                assert!(answered(&mut session, job));
            }
            Event::Command(_, ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
            Event::EndOfData(ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartTls | Event::Close => return socket.write_all(&out),
            _ => {}
        }
    }
}
