/// One connection of a server that has a parser of its own.
pub(crate) fn serve(
    socket: std::net::TcpStream,
    config: &Arc<Config>,
    users: &dyn Authenticator,
) -> io::Result<()> {
    use std::io::{BufRead, Write};

    let channel = Channel::tls();
    let mut lines = io::BufReader::new(&socket).lines();
    let mut read = |out: &mut Vec<u8>| {
        (&socket).write_all(out)?;
        out.clear();
        lines.next().ok_or(io::ErrorKind::UnexpectedEof)?
    };
    let mut out = b"220 mail.example.org\r\n".to_vec();
    loop {
        let line = read(&mut out)?;
        match line.split_once(' ').map(|(verb, rest)| (verb.to_ascii_uppercase(), rest)) {
            Some((verb, _)) if verb == "EHLO" => {
                let mut keyword = Vec::new();
                smtp_auth::auth::advertise(config, &channel, &mut keyword);
                out = [b"250-mail.example.org\r\n250 ", &*keyword, b"\r\n"].concat();
            }
            Some((verb, args)) if verb == "AUTH" => {
                let next = |out: &mut Vec<u8>| read(out).map(String::into_bytes);
                out = auth(config, &channel, args.as_bytes(), users, next)?.1;
            }
            _ => out = b"502 5.5.1 Command not implemented\r\n".to_vec(),
        }
    }
}
