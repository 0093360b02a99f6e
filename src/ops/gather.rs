//! Rows of a table by index.

use super::case::{sample_extent, sample_labels, sample_normal, Case, OpSpec};
use super::check;
use crate::autograd::{record, Cost};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

impl Tensor {
    /// Row `index[i]` of this table `[rows, …]` (of any dtype) as row `i`. The gradient of a row that is taken several times is
    /// the sum.
    ///
    /// # Errors
    /// `index` is not an `I32` vector, or an index is not the number of a row.
    pub fn gather_rows(&self, index: &Tensor) -> Result<Tensor> {
        check::dim("gather_rows", self, 0)?;
        check::integer("gather_rows", "index", index)?;
        check::rank("gather_rows", "index", index, 1, "[n]")?;
        check::same_device("gather_rows", self, index)?;
        let rows = self.shape()[0];
        check_range("gather_rows", index, rows)?;
        let index = index.detach();
        let y = self.backend().gather_rows(&self.detach(), &index)?;
        let cost = Cost::new(0.0, &[&y, &y, &index]);
        record("gather_rows", cost, y, &[self], move |dy, _| {
            Ok(vec![Some(dy.backend().scatter_rows(dy, &index, rows)?)])
        })
    }

    /// Row `index[i]` of this table becomes row `i` of `rows`; indices are distinct. In place where nobody else holds the table's
    /// memory. Not differentiable.
    ///
    /// # Errors
    /// `index` is not an `I32` vector, an index is not the number of a row, or `rows` has other rows than this table.
    pub fn set_rows(&mut self, index: &Tensor, rows: &Tensor) -> Result<()> {
        const OP: &str = "set_rows";
        check::dim(OP, self, 0)?;
        check::integer(OP, "index", index)?;
        check::rank(OP, "index", index, 1, "[n]")?;
        check::same_device(OP, self, index)?;
        check::alike(OP, self, "rows", rows)?;
        check::shape(OP, "rows", rows, &self.shape().with_extent(0, index.numel()))?;
        check_range(OP, index, self.shape()[0])?;
        self.backend().set_rows(self, index, rows)
    }

    /// These indices (`I32`, any shape) looked up in `table: [rows, width]`: `self.shape() + [width]`.
    ///
    /// # Errors
    /// An index is not the number of a row; the first one is named.
    pub fn embedding(&self, table: &Tensor) -> Result<Tensor> {
        check::integer("embedding", "index", self)?;
        check::rank("embedding", "weight", table, 2, "[rows, width]")?;
        let shape = Shape::new(&[self.shape().dims(), &[table.shape()[1]]].concat())?;
        table.gather_rows(&self.flatten(0)?)?.reshape(shape)
    }
}

/// Every index is the number of a row; the error names the first that is not.
pub(super) fn check_range(op: &'static str, index: &Tensor, rows: usize) -> Result<()> {
    match check::first_invalid(index, |i| usize::try_from(i).is_ok_and(|i| i < rows))? {
        None => Ok(()),
        Some((at, i)) => {
            let reason = format!("index {i} at position {at} is not the number of a row; the table has {rows} rows");
            Err(Error::argument(op, reason))
        }
    }
}

pub(super) const SPECS: &[OpSpec] = &[
    OpSpec {
        name: "gather_rows",
        run: |case| Ok(vec![("y", case.tensor("table")?.gather_rows(&case.tensor("index")?)?)]),
        sample: Some(|random| {
            let (rows, n) = (sample_extent(random, 1, 5), sample_extent(random, 1, 6));
            Case::new()
                .input("table", sample_normal(random, &[rows, 2, 3]))
                .input("index", sample_labels(random, &[n], rows))
        }),
    },
    OpSpec {
        name: "embedding",
        run: |case| Ok(vec![("y", case.tensor("index")?.embedding(&case.tensor("weight")?)?)]),
        sample: Some(|random| {
            let (rows, width) = (sample_extent(random, 1, 5), sample_extent(random, 1, 4));
            let weight = sample_normal(random, &[rows, width]);
            Case::new().input("index", sample_labels(random, &[2, 3], rows)).input("weight", weight)
        }),
    },
];
