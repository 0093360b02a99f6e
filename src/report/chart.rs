//! Charts as SVG. Text and axes take the page's colours; series colours (Okabe & Ito's palette) can be told apart by colour-blind
//! readers and read on light and dark ground.

use std::fmt::Write;

/// Colours of series, in order.
pub(super) const PALETTE: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mark {
    /// A thin, faint line: raw values under their average.
    Faint,
    /// A line.
    Line,
    /// A line with a dot at each point.
    Dots,
    /// A dot at each point.
    Scatter,
    /// A horizontal dashed line at the first point's height.
    Reference,
}

/// Points with a name.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) mark: Mark,
}

/// A line chart.
pub(super) struct LineChart<'a> {
    pub(super) title: &'a str,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    pub(super) series: Vec<Series>,
    /// Ticks at the points themselves instead of at round numbers, evenly spaced: for temperatures.
    pub(super) categorical_x: bool,
    /// A logarithmic y axis; points at or below 0 are gaps.
    pub(super) log_y: bool,
}

impl LineChart<'_> {
    /// The SVG. Points that are not finite are gaps.
    pub(super) fn svg(&self) -> String {
        let y_of = |y: f64| if self.log_y { y.log10() } else { y };
        let finite = |p: &&(f64, f64)| p.0.is_finite() && y_of(p.1).is_finite();
        let all: Vec<(f64, f64)> = self.series.iter().flat_map(|s| &s.points).filter(finite).copied().collect();
        let placed = || self.series.iter().filter(|s| s.mark != Mark::Reference).flat_map(|s| &s.points).filter(finite);
        let mut categories: Vec<f64> = placed().map(|p| p.0).collect();
        categories.sort_by(f64::total_cmp);
        categories.dedup();
        let x_of = |x: f64| match self.categorical_x {
            true => categories.iter().position(|&c| c == x).unwrap_or(0) as f64,
            false => x,
        };
        let x_range = range(placed().map(|p| x_of(p.0)), if self.categorical_x { 0.06 } else { 0.0 });
        let y_range = range(all.iter().map(|p| y_of(p.1)), 0.06);
        let px = |x: f64| LEFT + (x_of(x) - x_range.0) / (x_range.1 - x_range.0) * (WIDTH - LEFT - RIGHT);
        let py = |y: f64| HEIGHT - BOTTOM - (y_of(y) - y_range.0) / (y_range.1 - y_range.0) * (HEIGHT - TOP - BOTTOM);
        let mut svg = open(self.title, WIDTH, HEIGHT);
        let y_ticks = if self.log_y { log_ticks(y_range) } else { ticks(y_range) };
        for tick in y_ticks {
            let y = py(tick);
            let _ =
                write!(svg, r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT);
            let _ = write!(
                svg,
                r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                y + 4.0,
                label(tick)
            );
        }
        let x_ticks = if self.categorical_x { categories.clone() } else { ticks(x_range) };
        for tick in x_ticks {
            let (x, y) = (px(tick), HEIGHT - BOTTOM + 18.0);
            let _ =
                write!(svg, r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#, label(tick));
        }
        self.axis_labels(&mut svg);
        for (i, series) in self.series.iter().enumerate() {
            draw(&mut svg, series, PALETTE[i % PALETTE.len()], &px, &py);
        }
        self.legend(&mut svg);
        svg + "</svg>"
    }

    fn axis_labels(&self, svg: &mut String) {
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0);
        let _ = write!(
            svg,
            r#"<text class="label" x="{x:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#,
            escape(self.x_label)
        );
        let y = (TOP + HEIGHT - BOTTOM) / 2.0;
        let turned = format!("rotate(-90 16 {y:.1})");
        let _ = write!(
            svg,
            r#"<text class="label" x="16" y="{y:.1}" text-anchor="middle" transform="{turned}">{}</text>"#,
            escape(self.y_label)
        );
    }

    /// Names over the plot, from the left.
    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (i, series) in self.series.iter().enumerate() {
            let colour = PALETTE[i % PALETTE.len()];
            let dash = if series.mark == Mark::Reference { r#" stroke-dasharray="6 4""# } else { "" };
            let opacity = if series.mark == Mark::Faint { 0.5 } else { 1.0 };
            let end = x + 22.0;
            let _ = match series.mark {
                Mark::Scatter => write!(svg, r#"<circle cx="{:.1}" cy="14" r="4" fill="{colour}"/>"#, x + 11.0),
                _ => write!(
                    svg,
                    r#"<line x1="{x:.1}" x2="{end:.1}" y1="14" y2="14" stroke="{colour}" stroke-width="2.5" opacity="{opacity}"{dash}/>"#
                ),
            };
            let _ = write!(svg, r#"<text class="tick" x="{:.1}" y="18">{}</text>"#, end + 6.0, escape(&series.name));
            x = end + 22.0 + 7.2 * series.name.chars().count() as f64;
        }
    }
}

fn draw(svg: &mut String, series: &Series, colour: &str, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) {
    if series.mark == Mark::Reference {
        if let Some(&(_, y)) = series.points.iter().find(|p| p.1.is_finite()) {
            let y = py(y);
            let title = format!("{}: {}", series.name, label(series.points[0].1));
            let _ = write!(
                svg,
                r#"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="{colour}" stroke-width="2" stroke-dasharray="6 4"><title>{}</title></line>"#,
                WIDTH - RIGHT,
                escape(&title)
            );
        }
        return;
    }
    if series.mark != Mark::Scatter {
        draw_path(svg, series, colour, px, py);
    }
    if matches!(series.mark, Mark::Dots | Mark::Scatter) {
        for &(x, y) in series.points.iter().filter(|p| p.0.is_finite() && py(p.1).is_finite()) {
            let title = format!("{}: {} at {}", series.name, label(y), label(x));
            let _ = write!(
                svg,
                r#"<circle cx="{:.1}" cy="{:.1}" r="4" fill="{colour}"><title>{}</title></circle>"#,
                px(x),
                py(y),
                escape(&title)
            );
        }
    }
}

/// The line through a series' points, with gaps where they are not finite.
fn draw_path(svg: &mut String, series: &Series, colour: &str, px: &impl Fn(f64) -> f64, py: &impl Fn(f64) -> f64) {
    let mut path = String::new();
    let mut pen_down = false;
    for &(x, y) in &series.points {
        if x.is_finite() && py(y).is_finite() {
            let _ = write!(path, "{}{:.1} {:.1}", if pen_down { "L" } else { "M" }, px(x), py(y));
            pen_down = true;
        } else {
            pen_down = false;
        }
    }
    let (width, opacity) = if series.mark == Mark::Faint { (1.0, 0.5) } else { (2.2, 1.0) };
    let _ = write!(
        svg,
        r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" opacity="{opacity}"/>"#
    );
}

/// How a value over a name is drawn.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Column {
    /// A bar from 0: for shares of a whole.
    Bar,
    /// A dot with its value, on an axis that need not start at 0: for values whose differences matter.
    Dot,
}

/// Values side by side, with their names below.
pub(super) fn columns(title: &str, values: &[(String, f64)], size: [f64; 2], column: Column) -> String {
    let [width, height] = size;
    let (left, top, bottom) = (52.0, 28.0, 40.0);
    let finite = || values.iter().map(|v| v.1).filter(|v| v.is_finite());
    let (low, high) = match column {
        Column::Bar => (0.0, finite().fold(0.0, f64::max).max(1e-9) * 1.05),
        Column::Dot => range(finite(), 0.25),
    };
    let slot = (width - left - 8.0) / values.len().max(1) as f64;
    let py = |v: f64| height - bottom - (v - low) / (high - low) * (height - top - bottom);
    let mut svg = open(title, width, height);
    let _ = write!(svg, r#"<text class="label" x="{left}" y="16">{}</text>"#, escape(title));
    for tick in ticks((low, high)) {
        let y = py(tick);
        let _ = write!(svg, r#"<line class="grid" x1="{left}" x2="{width}" y1="{y:.1}" y2="{y:.1}"/>"#);
        let (x, y) = (left - 6.0, y + 4.0);
        let _ = write!(svg, r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="end">{}</text>"#, label(tick));
    }
    for (i, (name, value)) in values.iter().enumerate() {
        let middle = left + slot * (i as f64 + 0.5);
        let y = height - bottom + 16.0;
        let _ = write!(
            svg,
            r#"<text class="tick" x="{middle:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#,
            escape(name)
        );
        if value.is_finite() {
            draw_column(
                &mut svg,
                column,
                (middle, py(*value)),
                slot,
                height - bottom,
                &format!("{name}: {}", label(*value)),
            );
        }
    }
    svg + "</svg>"
}

/// One bar or dot at a place, with a tooltip; `ground` is the height of the axis.
fn draw_column(svg: &mut String, column: Column, (x, y): (f64, f64), slot: f64, ground: f64, tooltip: &str) {
    let (colour, title) = (PALETTE[0], escape(tooltip));
    let _ = match column {
        Column::Bar => {
            let (left, width, height) = (x - slot * 0.36, slot * 0.72, (ground - y).max(0.0));
            write!(
                svg,
                r#"<rect x="{left:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"><title>{title}</title></rect>"#
            )
        }
        Column::Dot => {
            let value = title.rsplit(' ').next().unwrap_or_default();
            let above = y - 11.0;
            write!(
                svg,
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="5" fill="{colour}"><title>{title}</title></circle><text class="tick" x="{x:.1}" y="{above:.1}" text-anchor="middle">{value}</text>"#
            )
        }
    };
}

/// A matrix of counts: rows are true classes, columns predicted ones. The diagonal is shaded in one colour, errors in another.
pub(super) fn confusion(title: &str, counts: &[Vec<u64>], classes: &[String]) -> String {
    let cell = 30.0;
    let (left, top) = (86.0, 62.0);
    let n = counts.len() as f64;
    let (width, height) = (left + cell * n + 10.0, top + cell * n + 12.0);
    let mut svg = open(title, width, height);
    let _ = write!(svg, r#"<text class="label" x="{left}" y="16">{}</text>"#, escape(title));
    let _ = write!(svg, r#"<text class="tick" x="{left}" y="36">predicted →, true ↓</text>"#);
    for (i, row) in counts.iter().enumerate() {
        let total: u64 = row.iter().sum::<u64>().max(1);
        let name = classes.get(i).map_or("", String::as_str);
        let short: String = name.chars().take(4).collect();
        let middle = cell * (i as f64 + 0.5);
        let _ = write!(
            svg,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 6.0,
            top + middle + 4.0,
            escape(name)
        );
        let _ = write!(
            svg,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            left + middle,
            top - 6.0,
            escape(&short)
        );
        for (j, &count) in row.iter().enumerate() {
            let (x, y) = (left + cell * j as f64, top + cell * i as f64);
            let share = count as f64 / total as f64;
            let (colour, opacity) =
                if i == j { (PALETTE[0], 0.15 + 0.55 * share) } else { (PALETTE[1], (6.0 * share).min(0.8)) };
            let _ = write!(
                svg,
                r#"<rect x="{x:.1}" y="{y:.1}" width="{cell}" height="{cell}" class="cell" fill="{colour}" fill-opacity="{opacity:.3}"><title>{count} of {total}</title></rect>"#
            );
            if count > 0 {
                let _ = write!(
                    svg,
                    r#"<text class="count" x="{:.1}" y="{:.1}" text-anchor="middle">{count}</text>"#,
                    x + cell / 2.0,
                    y + cell / 2.0 + 3.5
                );
            }
        }
    }
    svg + "</svg>"
}

pub(super) fn open(title: &str, width: f64, height: f64) -> String {
    let title = escape(title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{title}"><title>{title}</title>"#
    )
}

/// The smallest and largest value with a margin on both sides; never empty.
pub(super) fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match high - low {
        span if span > 0.0 && span.is_finite() => (low - margin * span, high + margin * span),
        _ if low.is_finite() => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    }
}

/// Round numbers within a range, about five.
pub(super) fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|tick| *tick <= high + 1e-9 * step).take(20).collect()
}

/// 1, 2 and 5 times powers of ten whose logarithms lie within a range.
fn log_ticks((low, high): (f64, f64)) -> Vec<f64> {
    let powers = low.floor() as i32..=high.ceil() as i32;
    let candidates = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(power)));
    candidates.filter(|tick| (low..=high).contains(&tick.log10())).collect()
}

/// A number as short as it can be told from its neighbours.
pub(super) fn label(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 10_000.0 => return super::table::thousands(value),
        v if v >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    if trimmed == "-0" {
        "0".to_string()
    } else {
        trimmed.to_string()
    }
}

/// Text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
