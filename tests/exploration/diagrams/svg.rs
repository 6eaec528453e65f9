//! Both graphs as one picture. It takes its colours from the page that it stands on.

use std::{collections::BTreeSet, fmt::Write};

use super::{
    graph::{Beside, Graph, Place, Route},
    walk::START,
};

type Point = (i32, i32);

const WIDTH: i32 = 960;
/// Where the client's half begins.
const CLIENT: i32 = 545;
const HEIGHT: i32 = 1015;
/// Half the size of the dot that all begins at.
const DOT: i32 = 5;
/// Half the height of a state's box.
const HALF: i32 = 16;
/// The height of a label's line, and its longest one.
const LINE: i32 = 15;
const MAX_LINE: usize = 16;

const CAPTION: &str = "Not shown: anything that leaves a session unchanged, such as a refused command; \
    and that the application may close it at any time.";

/// It is valid inside HTML too; its first line is a whole tag and none is blank, as Markdown asks.
pub(crate) fn draw(server: &Graph, client: &Graph) -> String {
    // The marker's name is one of the whole page.
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' \
         aria-label='The states of a server and of a client' style='max-width:100%;height:auto' \
         font-family='sans-serif' font-size='13' text-anchor='middle' fill='currentColor'>\n\
         <defs><marker id='smtp-auth-arrow' viewBox='0 0 10 10' refX='9' refY='5' \
         markerWidth='8' markerHeight='8' orient='auto'><path d='M0 1L10 5L0 9z'/></marker>\
         </defs>\n"
    );
    half(&mut svg, "Server", 0, server);
    half(&mut svg, "Client", CLIENT, client);
    let (x, y) = (WIDTH / 2, HEIGHT - 10);
    svg + &format!("<text x='{x}' y='{y}' font-style='italic'>{CAPTION}</text>\n</svg>\n")
}

fn half(svg: &mut String, title: &str, top: i32, graph: &Graph) {
    check(graph);
    let edges = graph.labels.iter();
    let edges = edges.map(|((from, to), causes)| Drawn::new(graph, from, to, causes));
    let edges: Vec<_> = edges.collect();
    *svg += &format!(
        "<g transform='translate(0 {top})'>\n\
         <text x='20' y='20' font-size='17' font-weight='bold' text-anchor='start'>{title}</text>\n"
    );
    group(svg, graph);
    edges.iter().for_each(|edge| edge.line(svg));
    graph.frame.places.iter().for_each(|own| place(svg, own));
    // Over all lines.
    edges.iter().for_each(|edge| edge.label(svg));
    *svg += "</g>\n";
}

/// Each state found has a place, and each place and route is of use.
fn check(graph: &Graph) {
    let places: BTreeSet<_> = graph.frame.places.iter().map(|place| place.id).collect();
    let mut found: BTreeSet<_> = graph.labels.keys().flat_map(|(from, to)| [*from, *to]).collect();
    found.retain(|id| *id != START && *id != graph.frame.group.id);
    assert_eq!(found, places, "the states found, and those that have a place");
    for Route { from, to, .. } in graph.frame.routes {
        assert!(graph.labels.contains_key(&(*from, *to)), "a route and no edge: {from} {to}");
    }
}

fn group(svg: &mut String, graph: &Graph) {
    let group = &graph.frame.group;
    let [(left, upper), (right, lower)] = group.corners;
    let (width, height) = (right - left, lower - upper);
    let (x, y, title) = (left + 12, upper + 19, group.title);
    *svg += &format!(
        "<rect x='{left}' y='{upper}' width='{width}' height='{height}' rx='12' fill='none' \
         stroke='currentColor' stroke-opacity='.45' stroke-dasharray='5 4'/>\n\
         <text x='{x}' y='{y}' text-anchor='start' font-style='italic'>{title}</text>\n"
    );
}

fn place(svg: &mut String, place: &Place) {
    let Shape { at: (x, y), half: (width, height) } = Shape::of(place);
    let (left, upper, base, title) = (x - width, y - height, y + 5, place.title);
    let (width, height) = (2 * width, 2 * height);
    *svg += &format!(
        "<rect x='{left}' y='{upper}' width='{width}' height='{height}' rx='9' \
         fill-opacity='.08' stroke='currentColor'/>\n\
         <text x='{x}' y='{base}' font-weight='bold'>{title}</text>\n"
    );
}

/// A box, by its middle and half its size.
#[derive(Clone, Copy)]
struct Shape {
    at: Point,
    half: Point,
}

impl Shape {
    fn of(place: &Place) -> Self {
        let width = 4 * place.title.len() as i32 + 12;
        Self { at: place.at, half: (width.max(36), HALF) }
    }

    fn named(graph: &Graph, id: &str) -> Self {
        let group = &graph.frame.group;
        if id == group.id {
            let [(left, upper), (right, lower)] = group.corners;
            return Self {
                at: ((left + right) / 2, (upper + lower) / 2),
                half: ((right - left) / 2, (lower - upper) / 2),
            };
        }
        Self::of(graph.frame.places.iter().find(|place| place.id == id).unwrap())
    }

    /// Where the way from a point in it to one outside leaves it.
    fn border(self, inside: Point, outside: Point) -> Point {
        let part = |way: i32, at: i32, half: i32, from: i32| match way {
            0 => f64::INFINITY,
            _ => f64::from(at + half * way.signum() - from) / f64::from(way),
        };
        let (right, down) = (outside.0 - inside.0, outside.1 - inside.1);
        let beside = part(right, self.at.0, self.half.0, inside.0);
        let first = beside.min(part(down, self.at.1, self.half.1, inside.1));
        let along = |from: i32, way: i32| from + (f64::from(way) * first).round() as i32;
        (along(inside.0, right), along(inside.1, down))
    }
}

/// An edge, and where it lies.
struct Drawn {
    /// Where the dot lies that all begins at, if this is its edge.
    start: Option<Point>,
    path: String,
    label: Point,
    lines: Vec<String>,
}

impl Drawn {
    fn new(graph: &Graph, from: &'static str, to: &'static str, causes: &[String]) -> Self {
        let straight = Route::new(from, to);
        let route = graph.frame.routes.iter().find(|route| (route.from, route.to) == (from, to));
        let route = route.unwrap_or(&straight);
        let end = Shape::named(graph, to);
        let begin = match from {
            // A dot, with a place of its own for each side.
            START => Shape { at: sum(end.at, graph.frame.dot), half: (DOT, DOT) },
            _ => Shape::named(graph, from),
        };
        let (path, middle) =
            if from == to { looped(end, route.side) } else { led(begin, end, route) };
        let start = (from == START).then_some(begin.at);
        Self { start, path, label: sum(middle, route.label), lines: wrapped(causes) }
    }

    fn line(&self, svg: &mut String) {
        if let Some((x, y)) = self.start {
            writeln!(svg, "<circle cx='{x}' cy='{y}' r='{DOT}'/>").unwrap();
        }
        *svg += &format!(
            "<path d='{}' fill='none' stroke='currentColor' stroke-opacity='.75' \
             marker-end='url(#smtp-auth-arrow)'/>\n",
            self.path
        );
    }

    /// With the page's own colour behind the letters, so that they can be read over a line.
    fn label(&self, svg: &mut String) {
        let (x, y) = self.label;
        let first = y + 5 - (self.lines.len() as i32 - 1) * LINE / 2;
        for (line, y) in self.lines.iter().zip((first..).step_by(LINE as usize)) {
            *svg += &format!(
                "<text x='{x}' y='{y}' stroke-width='4' stroke-linejoin='round' \
                 paint-order='stroke' style='stroke:var(--main-background-color,Canvas)'>\
                 {line}</text>\n"
            );
        }
    }
}

fn sum(one: Point, other: Point) -> Point {
    (one.0 + other.0, one.1 + other.1)
}

/// From one box to another, and the middle of that.
fn led(begin: Shape, end: Shape, route: &Route) -> (String, Point) {
    let (from, to) = (sum(begin.at, route.aim[0]), sum(end.at, route.aim[1]));
    let (right, down) = (to.0 - from.0, to.1 - from.1);
    let length = f64::from(right).hypot(f64::from(down));
    let aside = |part: i32| (f64::from(part) * f64::from(2 * route.bend) / length).round() as i32;
    // A curve's middle is half as far aside as the point that it is drawn to.
    let (x, y) = ((from.0 + to.0) / 2 + aside(down), (from.1 + to.1) / 2 - aside(right));
    let (from, to) = (begin.border(from, (x, y)), end.border(to, (x, y)));
    let path = format!("M{} {}Q{x} {y} {} {}", from.0, from.1, to.0, to.1);
    (path, ((from.0 + 2 * x + to.0) / 4, (from.1 + 2 * y + to.1) / 4))
}

/// From a box to itself, and the middle of that.
fn looped(shape: Shape, side: Beside) -> (String, Point) {
    let Shape { at: (x, y), half: (width, height) } = shape;
    let point = |along: i32, out: i32| match side {
        Beside::Above => (x + along, y - height - out),
        Beside::Right => (x + width + out, y + along / 2),
        Beside::Below => (x - along, y + height + out),
    };
    let [from, one, two, to] =
        [(-14, 0), (-28, 34), (28, 34), (14, 0)].map(|(along, out)| point(along, out));
    let path =
        format!("M{} {}C{} {} {} {} {} {}", from.0, from.1, one.0, one.1, two.0, two.1, to.0, to.1);
    (path, point(0, 34))
}

/// In lines, broken behind a space or between codes.
fn wrapped(causes: &[String]) -> Vec<String> {
    let text = causes.join(", ");
    let mut lines = vec![String::new()];
    for part in text.split_inclusive([' ', '/']) {
        let last = lines.last_mut().unwrap();
        if !last.is_empty() && last.len() + part.trim_end().len() > MAX_LINE {
            lines.push(part.to_owned());
        } else {
            last.push_str(part);
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}
