//! Bars, in SVG: legible on a light background and on a dark one, and by a screen reader.

use std::fmt::Write;

use crate::{
    report::{bytes, seconds},
    results::{Metric, Results},
    scenario,
    servers::{Kind, SERVERS, Server},
};

const TEXT: &str = "#7a828e";
const OURS: &str = "#e8590c";
const OTHER: &str = "#8b98a5";
const ROW: usize = 24;
const LABELS: usize = 160;
const WIDTH: usize = 900;
/// Space in a panel for the number after the longest bar.
const NUMBER: usize = 72;
const TOP: usize = 76;

/// A bar for each server; `None` where it was not measured.
struct Panel {
    title: String,
    values: Vec<Option<f64>>,
    format: fn(f64) -> String,
}

/// CPU per message of a few scenarios.
pub(crate) fn cpu(results: &Results) -> String {
    let panels = ["16B-32", "1KiB-binary", "64KiB"].map(|name| (name, Metric::Cpu(name)));
    let servers: Vec<&Server> = SERVERS
        .iter()
        .filter(|server| server.kind != Kind::Other || server.name == "gorilla")
        .filter(|server| panels.iter().any(|(_, metric)| results.median(server.name, *metric).is_some()))
        .collect();
    let panels = panels.map(|(name, metric)| Panel {
        title: scenario::find(name).map_or(name, |scenario| scenario.title).into(),
        values: servers.iter().map(|server| results.median(server.name, metric)).collect(),
        format: seconds,
    });
    draw("CPU time of the server per message (less is better)", &servers, &panels)
}

/// Memory per idle connection.
pub(crate) fn memory(results: &Results) -> String {
    let measured = |server: &&Server| results.median(server.name, Metric::Memory).is_some();
    let servers: Vec<&Server> = SERVERS.iter().filter(measured).collect();
    let panel = Panel {
        title: "resident memory".into(),
        values: servers.iter().map(|server| results.median(server.name, Metric::Memory)).collect(),
        format: bytes,
    };
    draw("Memory of the server per idle connection (less is better)", &servers, &[panel])
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn draw(title: &str, servers: &[&Server], panels: &[Panel]) -> String {
    let height = TOP + servers.len() * ROW + 34;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{TEXT}\">\n\
         <title>{title}</title>\n\
         <text x=\"10\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{title}</text>\n"
    );
    for (row, server) in servers.iter().enumerate() {
        let (x, y) = (LABELS - 10, TOP + row * ROW + 15);
        let (colour, weight) = if server.kind == Kind::Ours { (OURS, "bold") } else { (TEXT, "normal") };
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" fill=\"{colour}\" font-weight=\"{weight}\">{}</text>",
            server.name
        );
    }
    let width = (WIDTH - LABELS) / panels.len().max(1);
    let mut clipped = false;
    for (column, panel) in panels.iter().enumerate() {
        let left = LABELS + column * width;
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>",
            TOP - 12,
            panel.title
        );
        let limit = limit(&panel.values);
        let full = (width - NUMBER) as f64;
        for (row, (server, value)) in servers.iter().zip(&panel.values).enumerate() {
            let Some(value) = value else { continue };
            let y = TOP + row * ROW;
            let length = (value.max(0.0) / limit).min(1.0) * full;
            let colour = if server.kind == Kind::Ours { OURS } else { OTHER };
            if *value > limit {
                clipped = true;
                // a gap near the end of the bar
                let (before, after) = (length - 16.0, left as f64 + length - 10.0);
                bar(&mut svg, left as f64, y, before, colour);
                bar(&mut svg, after, y, 10.0, colour);
            } else {
                bar(&mut svg, left as f64, y, length, colour);
            }
            let number = (panel.format)(*value);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" font-size=\"12\">{number}</text>",
                left as f64 + length + 5.0,
                y + 15
            );
        }
    }
    if clipped {
        let _ = writeln!(
            svg,
            "<text x=\"{LABELS}\" y=\"{}\" font-size=\"12\">A bar with a gap is longer than is shown.</text>",
            height - 12
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, x: f64, y: usize, length: f64, colour: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>",
        y + 3,
        ROW - 7
    );
}

/// Where bars end: at the longest, unless that leaves the others too short to be compared.
fn limit(values: &[Option<f64>]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(middle), Some(longest)) = (sorted.get(sorted.len() / 2), sorted.last()) else { return 1.0 };
    longest.min(middle * 3.0).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_end_at_the_longest_unless_it_dwarfs_the_others() {
        assert!((limit(&[Some(1.0), None, Some(2.0), Some(3.0)]) - 3.0).abs() < 1e-9);
        assert!((limit(&[Some(1.0), Some(2.0), Some(100.0)]) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_chart_has_each_server_that_was_measured() {
        let results: Results = serde_json::from_str(include_str!("testdata/results.json")).unwrap();
        let svg = memory(&results);
        assert!(svg.contains(">ws-axum</text>") && svg.contains(">1.46 KiB</text>"));
        assert!(!svg.contains(">axum</text>"));
    }
}
