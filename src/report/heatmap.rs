//! Matrices of numbers between 0 and 1, as pictures.

use super::chart::{escape, open, PALETTE};
use super::plots::Plot;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A matrix with names for rows and columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heatmap {
    /// The plot's file name, without `.svg`.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub remark: String,
    /// The rows' names.
    pub rows: Vec<String>,
    /// The columns' names.
    pub columns: Vec<String>,
    /// From 0 to 1, `[row][column]`; NaN where there is none.
    pub values: Vec<Vec<f64>>,
}

/// The matrix as a plot.
pub(super) fn plot(map: &Heatmap) -> Plot {
    let (cell, height_of_cell) = (58.0, 30.0);
    let longest = map.rows.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let (left, top) = (20.0 + 7.2 * longest as f64, 58.0);
    let width = left + cell * map.columns.len() as f64 + 10.0;
    let height = top + height_of_cell * map.rows.len() as f64 + 10.0;
    let mut svg = open(&map.title, width.max(360.0), height);
    for (j, name) in map.columns.iter().enumerate() {
        let (x, short) = (left + cell * (j as f64 + 0.5), name.chars().take(8).collect::<String>());
        let short = escape(&short);
        let _ = write!(svg, r#"<text class="tick" x="{x:.1}" y="50" text-anchor="middle">{short}</text>"#);
    }
    for (i, (name, values)) in map.rows.iter().zip(&map.values).enumerate() {
        let y = top + height_of_cell * i as f64;
        let (x, text) = (left - 8.0, y + height_of_cell / 2.0 + 4.0);
        let _ = write!(svg, r#"<text class="tick" x="{x:.1}" y="{text:.1}" text-anchor="end">{}</text>"#, escape(name));
        for (j, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let (x, middle) = (left + cell * j as f64, left + cell * (j as f64 + 0.5));
            let _ = write!(
                svg,
                r#"<rect class="cell" x="{x:.1}" y="{y:.1}" width="{cell}" height="{height_of_cell}" fill="{}" fill-opacity="{:.3}"/><text class="count" x="{middle:.1}" y="{text:.1}" text-anchor="middle">{value:.3}</text>"#,
                PALETTE[0],
                0.75 * value.clamp(0.0, 1.0)
            );
        }
    }
    let _ = write!(svg, r#"<text class="label" x="10" y="18">{}</text>"#, escape(&map.title));
    Plot { name: map.name.clone(), heading: map.title.clone(), svg: svg + "</svg>", remark: map.remark.clone() }
}
