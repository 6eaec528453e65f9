//! Every state that a session can get into is visited, with the real code, and what must hold
//! is looked at on each way there.
//!
//! Breadth first: each state by each input, until no new one is found. A state is told apart by all
//! that `Debug` shows of the session and by what was said in the exchange under way, of which
//! `Debug` shows nothing that is secret. `EXPLORE_DEPTH` bounds how far it goes: 4 inputs unless it
//! says otherwise, `all` for no bound.
#![cfg(feature = "default")]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io::{self, Write},
    time::Instant,
};

mod client;
mod diagrams;
mod server;
mod world;

use world::{World, without_counts};

/// Visits each state once; the numbers of states and of transitions.
fn explore<W: World>(name: &str) {
    let depth = match std::env::var("EXPLORE_DEPTH").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().unwrap(),
        Err(_) => 4,
    };
    let begun = Instant::now();
    let (mut seen, mut waiting, mut shown) = (HashSet::new(), VecDeque::new(), String::new());
    let (mut transitions, mut deepest) = (0u64, 0);
    let mut is_new = |world: &W, shown: &mut String| {
        shown.clear();
        world.fingerprint(shown);
        let mut hasher = DefaultHasher::new();
        without_counts(shown).for_each(|part| part.hash(&mut hasher));
        seen.insert(hasher.finish())
    };
    is_new(&W::new(), &mut shown);
    waiting.push_back(Vec::new());
    while let Some(path) = waiting.pop_front() {
        deepest = path.len();
        if path.len() >= depth {
            continue;
        }
        let mut at_hand = None;
        for input in 0..W::INPUTS {
            let mut world = at_hand.take().unwrap_or_else(|| replay::<W>(&path));
            if !world.apply(input) {
                // It is as it was.
                at_hand = Some(world);
                continue;
            }
            transitions += 1;
            if is_new(&world, &mut shown) {
                waiting.push_back([&path[..], &[input]].concat());
            }
        }
    }
    let states = seen.len();
    let seconds = begun.elapsed().as_secs();
    // Past the test runner, which would keep it for itself.
    let _ = writeln!(
        io::stderr(),
        "{name}: {states} states, {transitions} transitions, {deepest} deep, {seconds} s"
    );
}

fn replay<W: World>(path: &[u8]) -> W {
    let mut world = W::new();
    path.iter().for_each(|&input| assert!(world.apply(input)));
    world
}

#[test]
fn server() {
    explore::<server::World<{ server::USUAL }>>("server");
}

#[test]
fn server_that_takes_passwords_in_cleartext() {
    explore::<server::World<{ server::CLEARTEXT }>>("server, cleartext allowed");
}

#[test]
fn server_that_requires_tls() {
    explore::<server::World<{ server::REQUIRED }>>("server, TLS required");
}

#[test]
fn client() {
    explore::<client::World<false>>("client");
}

#[test]
fn client_with_a_token() {
    explore::<client::World<true>>("client with a token");
}
