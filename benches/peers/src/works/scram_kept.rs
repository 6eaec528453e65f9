//! SCRAM-SHA-256 on a client that has signed in before.

use super::{Row, Run, Work, scram_client::Ours};
use crate::{
    inputs::{CLIENT_NONCE, OtherSide, salted_password},
    rsasl,
};
use std::hint::black_box;

pub const WORK: Work = Work {
    name: "scram-kept",
    about: "SCRAM-SHA-256 on a client that kept the salted password of an earlier exchange",
    times: 100,
    parts: 1,
    rows: &[
        Row::ours(ours),
        Row::peer("rsasl", || rsasl::scram_client(Some(salted_password())))
            .note("draws a nonce; looks at no salt")
            .aside(server_alone),
    ],
};

fn ours() -> Run {
    let mut client = Ours::new().salted();
    Box::new(move || client.sign_in())
}

/// The other side to messages of the length that `rsasl` makes.
fn server_alone() -> Run {
    let server = OtherSide::new();
    let first = format!("n,,n=tim,r={CLIENT_NONCE}{:x<8}", "");
    let last = server.client_final('n', &OtherSide::server_first(&first));
    Box::new(move || {
        black_box(OtherSide::server_first(black_box(&first)));
        black_box(server.server_final(black_box(&first), black_box(&last)));
    })
}
