//! A graph as Mermaid's `stateDiagram-v2`.

use super::graph::Graph;

pub(crate) fn draw(Graph { frame, labels }: &Graph) -> String {
    let group = &frame.group;
    let places = |inside: bool, indent: &str| -> String {
        let places = frame.places.iter();
        let places = places.filter(|place| group.members.contains(&place.id) == inside);
        places.map(|place| format!("{indent}state \"{}\" as {}\n", place.title, place.id)).collect()
    };
    let edges = labels.iter().map(|((from, to), causes)| {
        let colon = if causes.iter().all(String::is_empty) { "" } else { ": " };
        format!("    {from} --> {to}{colon}{}\n", causes.join(", "))
    });
    format!(
        "stateDiagram-v2\n    state \"{}\" as {} {{\n{}    }}\n{}{}",
        group.title,
        group.id,
        places(true, "        "),
        places(false, "    "),
        edges.collect::<String>()
    )
}
