//! Every way from one state to another.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    panic::{self, AssertUnwindSafe},
};

use crate::world::without_counts;

/// Where the way begins.
pub(crate) const START: &str = "[*]";
/// Where something has happened that the exploration says must not.
const BROKEN: &str = "broken";

/// A session that is walked.
pub(crate) trait Side {
    const INPUTS: u8;

    fn new() -> Self;

    /// What the input is called here; `None` where it is not of the picture.
    fn cause(&mut self, input: u8) -> Option<Cause>;

    /// Has that happen; `false` where it cannot happen here, and nothing has changed.
    fn apply(&mut self, input: u8, cause: &Cause) -> bool;

    /// Where the session stands, by what it shows. `None` in the midst of a command: that the host
    /// is asked there is no state of the picture.
    fn place(&mut self) -> Option<&'static str>;

    /// The cause as the picture shows it, with what was replied; `None` where it is left out.
    fn shown(&self, edge: Edge) -> Option<Edge>;

    /// What the session shows of itself.
    fn session(&self) -> String;

    /// All that can influence what follows.
    fn fingerprint(&self) -> String;
}

/// What moves a session: what is said or done, and the code of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cause {
    pub(crate) what: &'static str,
    pub(crate) code: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) cause: Cause,
}

/// A command that the host is asked about: where it was said, and what the session was there.
#[derive(Clone)]
struct Begun {
    from: &'static str,
    cause: Cause,
    session: String,
}

/// Breadth first, each state once. What leaves a session as it was is no edge.
pub(crate) fn walk<S: Side>() -> BTreeSet<Edge> {
    let (mut seen, mut waiting, mut edges) = (HashSet::new(), VecDeque::new(), BTreeSet::new());
    let mut first = S::new();
    let to = first.place().expect("a place to begin");
    edges.extend(first.shown(Edge { from: START, to, cause: Cause::default() }));
    waiting.push_back((Vec::new(), None::<Begun>));
    while let Some((path, begun)) = waiting.pop_front() {
        let mut side = replay::<S>(&path);
        let (here, session) = (side.place(), text_of(&side.session()));
        let mut at_hand = Some(side);
        for input in 0..S::INPUTS {
            let mut side = at_hand.take().unwrap_or_else(|| replay::<S>(&path));
            let Some((cause, to)) = take(&mut side, input) else {
                // It is as it was.
                at_hand = Some(side);
                continue;
            };
            let begun = begun.clone().unwrap_or_else(|| {
                let from = here.expect("a command begins at a place");
                Begun { from, cause, session: session.clone() }
            });
            let Begun { from, cause, session } = begun.clone();
            if to == Some(BROKEN) {
                edges.insert(Edge { from, to: BROKEN, cause });
                continue;
            }
            if let Some(to) = to {
                let stays = || to == from && text_of(&side.session()) == session;
                edges.extend(side.shown(Edge { from, to, cause }).filter(|_| !stays()));
            }
            let begun = Some(begun).filter(|_| to.is_none());
            let origin = begun.as_ref().map(|begun| (begun.from, begun.cause.clone()));
            if seen.insert((to, origin, text_of(&side.fingerprint()))) {
                waiting.push_back(([&path[..], &[input]].concat(), begun));
            }
        }
    }
    edges
}

fn replay<S: Side>(path: &[u8]) -> S {
    let mut side = S::new();
    path.iter().for_each(|&input| assert!(take(&mut side, input).is_some()));
    side
}

/// Has that happen; what it is called, and where the session stands then.
fn take<S: Side>(side: &mut S, input: u8) -> Option<(Cause, Option<&'static str>)> {
    let cause = side.cause(input)?;
    match panic::catch_unwind(AssertUnwindSafe(|| side.apply(input, &cause))) {
        Ok(applied) => applied.then(|| (cause, side.place())),
        Err(_) => Some((cause, Some(BROKEN))),
    }
}

fn text_of(shown: &str) -> String {
    without_counts(shown).collect()
}
