//! What a recipe found out besides its student: accuracies of other networks, and images.

use super::summary::Picture;
use serde::{Deserialize, Serialize};

/// Additions to a report, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extras {
    /// Accuracies.
    pub tables: Vec<AccuracyTable>,
    /// Images.
    pub galleries: Vec<Gallery>,
    /// Sentences for the reader.
    pub notes: Vec<String>,
}

/// Accuracies under a title.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccuracyTable {
    /// What was compared.
    pub title: String,
    /// What each column's accuracies are of: `test images`, `old classes`.
    pub columns: Vec<String>,
    /// The rows in order.
    pub rows: Vec<AccuracyRow>,
}

/// A network, or a moment of its training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    /// What it is.
    pub label: String,
    /// Percent, one for each column.
    pub accuracies: Vec<f64>,
}

/// Images under a title.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gallery {
    /// What they are.
    pub title: String,
    /// A sentence about them; empty for none.
    pub about: String,
    /// The images in order.
    pub pictures: Vec<Captioned>,
}

/// An image and what stands below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Captioned {
    /// Grey or red, green, blue.
    pub picture: Picture,
    /// A few words; empty for none.
    pub caption: String,
}

impl AccuracyTable {
    /// A table with these columns and no rows yet.
    pub fn new(title: impl Into<String>, columns: &[&str]) -> AccuracyTable {
        let columns = columns.iter().map(|column| column.to_string()).collect();
        AccuracyTable { title: title.into(), columns, rows: Vec::new() }
    }

    /// Adds a row: percent, one for each column.
    pub fn row(&mut self, label: impl Into<String>, accuracies: &[f64]) {
        self.rows.push(AccuracyRow { label: label.into(), accuracies: accuracies.to_vec() });
    }
}
