//! The edges as they are drawn: one for each pair of states, with one label.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::Edge;

/// How one side is drawn.
pub(crate) struct Frame {
    pub(crate) places: &'static [Place],
    /// From the first state to the dot that all begins at.
    pub(crate) dot: (i32, i32),
    pub(crate) group: Group,
    pub(crate) routes: &'static [Route],
    /// The codes that are said to it. Where all of a class do the same, the class is named.
    pub(crate) codes: &'static [u16],
}

/// A state, and where the middle of its box is.
pub(crate) struct Place {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) at: (i32, i32),
}

/// States that lie in one box. What all of them have in common begins at the box.
pub(crate) struct Group {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) members: &'static [&'static str],
    /// The left upper corner, and the right lower one.
    pub(crate) corners: [(i32, i32); 2],
}

/// How an edge is led.
pub(crate) struct Route {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// How far its middle lies to the left of the straight way.
    pub(crate) bend: i32,
    /// From the middles of both boxes to where it aims.
    pub(crate) aim: [(i32, i32); 2],
    /// From the edge's middle to the label's.
    pub(crate) label: (i32, i32),
    /// Where an edge from a box to itself lies.
    pub(crate) side: Beside,
}

#[derive(Clone, Copy)]
pub(crate) enum Beside {
    Above,
    Right,
    Below,
}

impl Route {
    pub(crate) const fn new(from: &'static str, to: &'static str) -> Self {
        Self { from, to, bend: 0, aim: [(0, 0); 2], label: (0, 0), side: Beside::Above }
    }

    pub(crate) const fn bend(self, bend: i32) -> Self {
        Self { bend, ..self }
    }

    pub(crate) const fn aim(self, from: (i32, i32), to: (i32, i32)) -> Self {
        Self { aim: [from, to], ..self }
    }

    pub(crate) const fn label(self, right: i32, down: i32) -> Self {
        Self { label: (right, down), ..self }
    }

    pub(crate) const fn side(self, side: Beside) -> Self {
        Self { side, ..self }
    }
}

type Causes = BTreeMap<&'static str, BTreeSet<Option<u16>>>;

pub(crate) struct Graph {
    pub(crate) frame: &'static Frame,
    /// What causes the edge from one state, or from the group, to another.
    pub(crate) labels: BTreeMap<(&'static str, &'static str), Vec<String>>,
}

impl Graph {
    pub(crate) fn new(frame: &'static Frame, edges: &BTreeSet<Edge>) -> Self {
        let mut causes: BTreeMap<_, Causes> = BTreeMap::new();
        for edge in edges {
            let from = if frame.group.have(edges, edge) { frame.group.id } else { edge.from };
            let causes = causes.entry((from, edge.to)).or_default();
            causes.entry(edge.cause.what).or_default().insert(edge.cause.code);
        }
        let label =
            |causes: &Causes| causes.iter().map(|(what, codes)| frame.label(what, codes)).collect();
        let labels = causes.iter().map(|(ends, causes)| (*ends, label(causes))).collect();
        Self { frame, labels }
    }
}

impl Group {
    /// Whether this leads out of the group, and from each of its states.
    fn have(&self, edges: &BTreeSet<Edge>, edge: &Edge) -> bool {
        let has = |from: &&'static str| edges.contains(&Edge { from, ..edge.clone() });
        let inside = |id| self.members.contains(&id);
        inside(edge.from) && !inside(edge.to) && self.members.iter().all(has)
    }
}

impl Frame {
    /// What is said, and the codes of the replies where it counts which.
    fn label(&self, what: &str, codes: &BTreeSet<Option<u16>>) -> String {
        let codes: Option<BTreeSet<u16>> = codes.iter().copied().collect();
        let codes = self.code_names(&codes.unwrap_or_default());
        format!("{what} {codes}").trim().to_owned()
    }

    fn code_names(&self, codes: &BTreeSet<u16>) -> String {
        let (mut names, mut whole) = (Vec::new(), 0);
        for class in 2..=5 {
            let own: Vec<_> = codes.iter().filter(|code| *code / 100 == class).collect();
            // 421 ends a connection, and often leads elsewhere.
            let mut known = self.codes.iter().filter(|code| *code / 100 == class && **code != 421);
            if self.codes.is_empty() || !known.all(|code| own.contains(&code)) {
                names.extend(own.iter().map(|code| code.to_string()));
            } else {
                names.push(format!("{class}xx"));
                whole += 1;
            }
        }
        if whole == 4 { "any reply".to_owned() } else { names.join("/") }
    }
}
