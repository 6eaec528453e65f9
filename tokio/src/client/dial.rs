//! Happy eyeballs (RFC 8305): connects to the first address of a server that answers.

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

/// The time after which the next address is tried in parallel with the earlier ones (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to one of the addresses, and drops the attempts that are slower.
///
/// # Errors
/// Returns the error of the address that failed last if all attempts failed, or an error if there is no address.
pub(super) async fn dial(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = interleaved(addresses).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the server's name has no address");
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
            // An attempt has failed, or the delay has passed.
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

/// Removes the first attempt that has completed, and returns its result.
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

/// Orders the addresses so that IPv6 and IPv4 alternate, starting with the family of the first address (RFC 8305 §4).
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
