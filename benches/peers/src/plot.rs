//! The plot: a bar for each task.

use std::path::Path;

use plotters::prelude::*;

use crate::{report::Result, works::Kind};

const WIDTH: u32 = 860;
const ROW: u32 = 34;
const LABEL: i32 = 130;
const AXIS: i32 = 30;
/// The width for the words after a bar.
const WORDS: i32 = 330;
/// Both are legible on white and on black. The picture has no background.
const TEXT: RGBColor = RGBColor(128, 128, 128);
const BAR: RGBColor = RGBColor(66, 133, 214);

/// The time of this crate divided by the time of the fastest peer. A vertical line marks equal times.
pub fn draw(
    results: &[Result],
    path: &Path,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let bars: Vec<_> = results
        .iter()
        .filter_map(|result| {
            let best = result.best(Kind::Peer).or(result.best(Kind::Yardstick))?;
            Some((result.work.name, result.ours().ns / best.ns, best.row.who))
        })
        .collect();
    let height = AXIS + bars.len() as i32 * ROW as i32;
    let root = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    let most = bars.iter().map(|bar| bar.1).fold(1.0, f64::max);
    let scale = f64::from(WIDTH as i32 - LABEL - WORDS) / most;
    let text = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    let peer = LABEL + scale as i32;
    for (index, (name, ratio, rival)) in bars.iter().enumerate() {
        let top = AXIS + index as i32 * ROW as i32;
        let end = LABEL + (ratio * scale).max(1.0) as i32;
        root.draw(&Text::new(*name, (4, top + 7), text(17)))?;
        root.draw(&Rectangle::new([(LABEL, top + 4), (end, top + 26)], BAR.filled()))?;
        let words = format!("{ratio:.2} of {rival}");
        root.draw(&Text::new(words, (end.max(peer) + 8, top + 7), text(17)))?;
    }
    root.draw(&PathElement::new([(peer, AXIS - 4), (peer, height)], TEXT.stroke_width(1)))?;
    root.draw(&Text::new(
        "time of smtp-auth; the vertical line marks equal times",
        (LABEL, 6),
        text(17),
    ))?;
    root.present()?;
    Ok(())
}
