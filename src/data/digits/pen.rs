//! Drawing: smooth curves through points, and a round pen of varying width.

use super::glyphs::Point;
use super::SIDE;

/// Points between two neighbours of a stroke.
const STEPS: usize = 8;

/// A smooth curve through the points (Catmull–Rom), as a polyline.
pub(super) fn smooth(points: &[Point]) -> Vec<Point> {
    let last = points.len() - 1;
    let mut curve = Vec::with_capacity(last * STEPS + 1);
    for i in 0..last {
        let around = [points[i.saturating_sub(1)], points[i], points[i + 1], points[(i + 2).min(last)]];
        curve.extend((0..STEPS).map(|step| catmull_rom(around, step as f32 / STEPS as f32)));
    }
    curve.push(points[last]);
    curve
}

/// The point at `t` between the middle two of four points.
fn catmull_rom([a, b, c, d]: [Point; 4], t: f32) -> Point {
    let axis = |k: usize| {
        let (a, b, c, d) = (a[k], b[k], c[k], d[k]);
        0.5 * (2.0 * b
            + (c - a) * t
            + (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t
            + (3.0 * b - a - 3.0 * c + d) * t * t * t)
    };
    [axis(0), axis(1)]
}

/// How much of each pixel is covered with ink, 0 to 1.
pub(super) struct Canvas {
    coverage: [f32; SIDE * SIDE],
}

impl Canvas {
    /// An empty sheet.
    pub(super) fn new() -> Canvas {
        Canvas { coverage: [0.0; SIDE * SIDE] }
    }

    /// Draws a polyline after mapping its points to the image; the width goes from `width · pressure[0]` to
    /// `width · pressure[1]`.
    pub(super) fn stroke(&mut self, curve: &[Point], map: impl Fn(Point) -> Point, width: f32, pressure: [f32; 2]) {
        let points: Vec<Point> = curve.iter().map(|&p| map(p)).collect();
        let segments = points.len().saturating_sub(1).max(1) as f32;
        for (i, ends) in points.windows(2).enumerate() {
            let along = i as f32 / segments;
            let radius = 0.5 * width * (pressure[0] * (1.0 - along) + pressure[1] * along);
            self.segment(ends[0], ends[1], radius);
        }
    }

    /// Covers what is within `radius` of a segment; the edge is one pixel wide.
    fn segment(&mut self, a: Point, b: Point, radius: f32) {
        let reach = radius + 1.0;
        let span = |k: usize| {
            let low = (a[k].min(b[k]) - reach).floor().clamp(0.0, SIDE as f32) as usize;
            let high = (a[k].max(b[k]) + reach).ceil().clamp(0.0, SIDE as f32) as usize;
            low..high
        };
        for y in span(1) {
            for x in span(0) {
                let covered = (radius + 0.5 - distance([x as f32, y as f32], a, b)).clamp(0.0, 1.0);
                let pixel = &mut self.coverage[y * SIDE + x];
                *pixel = pixel.max(covered);
            }
        }
    }

    /// The sheet, row by row.
    pub(super) fn coverage(&self) -> &[f32] {
        &self.coverage
    }
}

/// The distance of a point from a segment.
fn distance(p: Point, a: Point, b: Point) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length2 = dx * dx + dy * dy;
    let t = if length2 > 0.0 { (((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
    (p[0] - a[0] - t * dx).hypot(p[1] - a[1] - t * dy)
}
