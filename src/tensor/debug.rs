//! The readable form of a tensor's values.

use super::DType;
use std::fmt;

/// How many entries are shown at each end of a long dimension.
const EDGE: usize = 3;

/// Nested brackets, one row a line, with `…` for what is left out.
pub(super) fn write_values(f: &mut fmt::Formatter, values: &[f64], dims: &[usize], dtype: DType) -> fmt::Result {
    write_level(f, values, dims, dtype, 1)
}

fn write_level(f: &mut fmt::Formatter, values: &[f64], dims: &[usize], dtype: DType, indent: usize) -> fmt::Result {
    let Some((&len, inner)) = dims.split_first() else {
        return match dtype.is_float() {
            true => write!(f, "{:.4}", values[0]),
            false => write!(f, "{}", values[0]),
        };
    };
    let stride: usize = inner.iter().product();
    let shown = |i: usize| len <= 2 * EDGE + 1 || i < EDGE || i >= len - EDGE;
    let separator = if inner.is_empty() { ", ".to_string() } else { format!(",\n{}", " ".repeat(indent)) };
    f.write_str("[")?;
    for i in 0..len {
        if !shown(i) {
            if i == EDGE {
                write!(f, "{separator}…")?;
            }
            continue;
        }
        if i > 0 {
            f.write_str(&separator)?;
        }
        write_level(f, &values[i * stride..(i + 1) * stride], inner, dtype, indent + 1)?;
    }
    f.write_str("]")
}
