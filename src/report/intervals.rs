//! Means with their confidence intervals, below one another.

use super::chart::{escape, label, open, range, ticks, PALETTE};
use std::fmt::Write;

/// A value with its confidence interval and the values that it is the mean of.
pub(super) struct Interval {
    pub(super) name: String,
    pub(super) middle: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) points: Vec<f64>,
    /// Drawn in another colour: what the others are compared with.
    pub(super) highlight: bool,
}

/// Intervals below one another, names on the left.
pub(super) fn intervals(title: &str, rows: &[Interval]) -> String {
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let (left, top, line) = (20.0 + 7.2 * longest as f64, 44.0, 22.0);
    let (width, height) = (left + 560.0, top + line * rows.len() as f64 + 12.0);
    let all = rows.iter().flat_map(|row| row.points.iter().chain([&row.middle, &row.low, &row.high]));
    // Few seeds can make an interval so wide that nothing else would be told apart: it is cut at the range of the values.
    let values = range(rows.iter().flat_map(|row| &row.points).copied().filter(|v| v.is_finite()), 0.1);
    let whole = range(all.copied().filter(|v| v.is_finite()), 0.02);
    let span = values.1 - values.0;
    let shown = (whole.0.max(values.0 - span / 2.0), whole.1.min(values.1 + span / 2.0));
    let px = |x: f64| left + (x.clamp(shown.0, shown.1) - shown.0) / (shown.1 - shown.0) * (width - left - 20.0);
    let mut svg = open(title, width, height);
    let _ = write!(svg, r#"<text class="label" x="{left:.1}" y="16">{}</text>"#, escape(title));
    for tick in ticks(shown) {
        let (x, end) = (px(tick), height - 8.0);
        let _ = write!(svg, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="38" y2="{end:.1}"/>"#);
        let _ = write!(svg, r#"<text class="tick" x="{x:.1}" y="34" text-anchor="middle">{}</text>"#, label(tick));
    }
    for (i, row) in rows.iter().enumerate() {
        let (y, colour) = (top + line * (i as f64 + 0.5), PALETTE[usize::from(row.highlight)]);
        let (x, below) = (left - 10.0, y + 4.0);
        let name = escape(&row.name);
        let _ = write!(svg, r#"<text class="tick" x="{x:.1}" y="{below:.1}" text-anchor="end">{name}</text>"#);
        if !row.middle.is_finite() {
            continue;
        }
        let (from, to, middle) = (px(row.low), px(row.high), px(row.middle));
        let _ = write!(
            svg,
            r#"<line x1="{from:.1}" x2="{to:.1}" y1="{y:.1}" y2="{y:.1}" stroke="{colour}" stroke-width="2.5" opacity="0.6"/>"#
        );
        for x in row.points.iter().filter(|x| x.is_finite()).map(|&x| px(x)) {
            let _ = write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5" fill="{colour}" opacity="0.5"/>"#);
        }
        let about = format!("{name}: {} ({} to {})", label(row.middle), label(row.low), label(row.high));
        let _ = write!(
            svg,
            r#"<circle cx="{middle:.1}" cy="{y:.1}" r="5" fill="{colour}"><title>{about}</title></circle>"#
        );
    }
    svg + "</svg>"
}
