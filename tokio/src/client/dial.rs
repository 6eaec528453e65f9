//! Happy eyeballs (RFC 8305): a server of several addresses is connected to by the first that answers.

use std::{
    future::{Future, poll_fn},
    io, mem,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// How long one address is waited for before the next is tried beside it (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to one of the addresses. The attempts that come too late are dropped.
///
/// # Errors
/// That of the last address which failed, if all did; or there was none.
pub(super) async fn dial(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = interleaved(addresses).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut delay = pin!(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let polled = poll_attempts(&mut attempts, cx);
            let is_pending = polled.is_pending();
            match polled {
                Poll::Ready(Ok(socket)) => return Poll::Ready(Ok(socket)),
                Poll::Ready(Err(error)) => failed = error,
                Poll::Pending if !attempts.is_empty() && delay.as_mut().poll(cx).is_pending() => {
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
            // One has failed, or takes its time.
            match addresses.next() {
                Some(address) => {
                    attempts.push(Box::pin(TcpStream::connect(address)));
                    delay.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
                }
                None if attempts.is_empty() => {
                    let failed = mem::replace(&mut failed, io::ErrorKind::NotFound.into());
                    return Poll::Ready(Err(failed));
                }
                None if is_pending => return Poll::Pending,
                None => {}
            }
        }
    })
    .await
}

/// The first of them that has come to something, which is one of them no more.
fn poll_attempts(attempts: &mut Vec<Attempt>, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
    let done =
        attempts.iter_mut().enumerate().find_map(|(n, attempt)| match attempt.as_mut().poll(cx) {
            Poll::Ready(done) => Some((n, done)),
            Poll::Pending => None,
        });
    match done {
        Some((n, done)) => {
            drop(attempts.swap_remove(n));
            Poll::Ready(done)
        }
        None => Poll::Pending,
    }
}

/// IPv6 and IPv4 by turns, beginning with the first, as far as there are both (RFC 8305 §4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(first.next());
        all.extend(second.next());
        if all.len() == before {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_come_by_turns() {
        let of = |list: &[&str]| {
            let all = list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 25)).collect();
            interleaved(all).iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        let (six, four) = (["::1", "::2", "::3"], ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(
            of(&[six[0], six[1], six[2], four[0], four[1]]),
            [six[0], four[0], six[1], four[1], six[2]]
        );
        assert_eq!(of(&[four[0], four[1], six[0]]), [four[0], six[0], four[1]]);
        assert_eq!(of(&[]), [""; 0]);
    }
}
