//! A handler that holds the body: in a collection of its own, in a future that it does not poll, or for ever.

use std::{
    future::{Future, pending, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use smtp_auth_tokio::{
    server::{Body, Handler, Limits, Peer, Server},
    smtp_auth::{
        Reply,
        command::{Mail, Rcpt},
        sasl::Immediate,
    },
};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

use crate::{
    faulty::{DIALOGUE, Listener, WHOLE, served},
    runtimes::{Pace, on_both},
    support::{Users, open},
};

/// What becomes of the body.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// It is moved into a future that is never polled, which is dropped late, forgotten, or held.
    UnpolledThenOk,
    UnpolledForgotten,
    UnpolledStall,
    /// The future has been polled once, and no more.
    OnceThenOk,
    OnceForgotten,
    OnceStall,
    /// It has been read to its end, and is held for as long as the handler goes on.
    WholeThenOk,
    WholeStall,
    /// Futures have it by turns, each dropped at its first poll that is not ready.
    DroppedByTurns,
}

struct Holder {
    held: Held,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
}

type Reading<'a> = Pin<Box<dyn Future<Output = Vec<u8>> + Send + 'a>>;

fn reading<'a>(mut body: Body<'a>) -> Reading<'a> {
    Box::pin(async move { body.read_all().await })
}

async fn once(reading: &mut Reading<'_>) {
    let polled = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
}

impl Handler for Holder {
    type Transaction = ();

    async fn mail(&self, _: &Peer, _: Mail<'_>) -> Result<(), Reply> {
        Ok(())
    }

    async fn rcpt(&self, _: &Peer, (): &mut (), _: Rcpt<'_>) -> Result<(), Reply> {
        Ok(())
    }

    async fn data(&self, _: &Peer, (): (), body: Body<'_>) -> Result<Reply, Reply> {
        match self.held {
            Held::UnpolledThenOk => drop((reading(body), yield_now().await)),
            Held::UnpolledForgotten => mem::forget(reading(body)),
            Held::UnpolledStall => {
                let _reading = reading(body);
                pending::<()>().await;
            }
            Held::OnceThenOk => once(&mut reading(body)).await,
            Held::OnceForgotten => {
                let mut reading = reading(body);
                once(&mut reading).await;
                mem::forget(reading);
            }
            Held::OnceStall => {
                let mut reading = reading(body);
                once(&mut reading).await;
                pending::<()>().await;
            }
            Held::WholeThenOk | Held::WholeStall => {
                let mut shelf = vec![body];
                let all = shelf[0].read_all().await;
                if let Held::WholeStall = self.held {
                    pending::<()>().await;
                }
                self.kept.lock().unwrap().push(all);
                yield_now().await;
                shelf.clear();
            }
            Held::DroppedByTurns => {
                let all = read_by_turns(body).await;
                self.kept.lock().unwrap().push(all);
            }
        }
        Ok(Reply::OK)
    }
}

/// Waits for each piece by futures that are dropped where they are not ready at once.
async fn read_by_turns(mut body: Body<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let polled = {
            let mut next = pin!(body.next());
            poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).map(|piece| piece.map(Vec::from))))
                .await
        };
        match polled {
            Poll::Ready(Some(piece)) => all.extend(piece),
            Poll::Ready(None) => return all,
            Poll::Pending => sleep(Duration::from_millis(1)).await,
        }
    }
}

#[test]
fn whoever_holds_the_body_holds_nothing_up() {
    on_both(async |pace: Pace| {
        for (held, code, after, kept) in [
            (Held::UnpolledThenOk, "451", 0, 0),
            (Held::UnpolledForgotten, "451", 0, 0),
            (Held::UnpolledStall, "451", 3, 0),
            (Held::OnceThenOk, "354 451", 0, 0),
            (Held::OnceForgotten, "354 451", 0, 0),
            (Held::OnceStall, "354 421", 7, 0),
            (Held::WholeThenOk, "354 250 221", 0, 1),
            (Held::WholeStall, "354 451", 5, 0),
            (Held::DroppedByTurns, "354 250 221", 0, 1),
        ] {
            let all = Arc::<Mutex<Vec<_>>>::default();
            let holder = Holder { held, kept: Arc::clone(&all) };
            let server = Server::new(open(), Immediate(Users), holder).limits(
                Limits::default()
                    .command(pace.units(3))
                    .message(pace.units(7))
                    .finish(pace.units(5))
                    // What is held of a message counts, and is given back.
                    .memory(16 << 10),
            );
            for _ in 0..2 {
                let (own, serving) = served(&server, 64);
                let (mut client, began) = (Listener::new(own), Instant::now());
                let mut heard = client.say_all(&DIALOGUE[..5]).await;
                let mut expected = pace.units(after);
                if heard.ends_with("354") {
                    // The handler's first poll finds nothing of the message.
                    sleep(pace.units(1) / 2).await;
                    client.write(DIALOGUE[5]).await;
                    heard = client.say_all(&DIALOGUE[6..]).await;
                    // The time of a message begins with the 354.
                    if !matches!(held, Held::OnceStall) {
                        expected += pace.units(1) / 2;
                    }
                }
                assert_eq!(heard, format!("220 250 252 250 250 {code}"), "{held:?}");
                // Which asks again and again, and waits in between.
                if !matches!(held, Held::DroppedByTurns) {
                    pace.assert_took(began, expected, held);
                }
                client.write("QUIT\r\n").await;
                drop(client);
                serving.await.unwrap();
            }
            let all = all.lock().unwrap();
            assert_eq!(all.len(), 2 * kept, "{held:?}");
            assert!(all.iter().all(|message| message == WHOLE), "{held:?}");
        }
    });
}
