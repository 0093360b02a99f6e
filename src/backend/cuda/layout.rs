//! Kernels that move, repeat or add up elements by their position (`kernels/layout.cu`).

use super::device::{args, CudaDevice};
use super::driver::DevicePtr;
use super::launch::{self, Config};
use super::memory::{address, unique_address};
use crate::backend::walk::Walk;
use crate::error::Result;
use crate::tensor::{DType, Shape, Tensor, MAX_RANK};

/// The kernel of a family for elements of this size.
macro_rules! for_unit {
    ($dtype:expr, $name:literal) => {
        match $dtype.size() {
            1 => concat!($name, "_8"),
            2 => concat!($name, "_16"),
            4 => concat!($name, "_32"),
            _ => concat!($name, "_64"),
        }
    };
}

/// As the kernel wants it: row-major extents of the result and the distance between neighbours in the source.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Strided {
    rank: i32,
    extent: [u32; MAX_RANK],
    stride: [u32; MAX_RANK],
}

/// Element `i` of the result, which has this shape, is read from where the strides lead.
fn read_strided(device: &CudaDevice, x: &Tensor, shape: &Shape, strides: [usize; MAX_RANK]) -> Result<Tensor> {
    let y = device.output(*shape, x.dtype())?;
    let walk = Walk::new(shape, [strides]);
    let strided = Strided {
        rank: walk.rank as i32,
        extent: walk.extents.map(|extent| extent as u32),
        stride: walk.strides.map(|[stride]| stride as u32),
    };
    let n = y.numel();
    let args = args![strided, address(x), address(&y), n as u32];
    device.launch(for_unit!(x.dtype(), "read_strided"), launch::elements(n), args, &[x, &y])?;
    Ok(y)
}

pub(super) fn expand(device: &CudaDevice, x: &Tensor, shape: &Shape) -> Result<Tensor> {
    read_strided(device, x, shape, x.shape().broadcast_strides(shape))
}

pub(super) fn permute(device: &CudaDevice, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let extents: Vec<usize> = dims.iter().map(|&d| x.shape()[d]).collect();
    let shape = Shape::new(&extents)?;
    if let Some((batch, rows, columns)) = as_transpose(x.shape(), dims) {
        return transpose(device, x, shape, batch, rows, columns);
    }
    let own = x.shape().strides();
    let mut strides = [0; MAX_RANK];
    for (stride, &d) in strides.iter_mut().zip(dims) {
        *stride = own[d];
    }
    read_strided(device, x, &shape, strides)
}

/// The side of the tile that a block transposes.
const SIDE: usize = 32;

/// `(batch, rows, columns)` of a permutation that leaves the first dimensions in place and swaps two groups of the others, if a grid
/// can hold its tiles.
fn as_transpose(shape: &Shape, dims: &[usize]) -> Option<(usize, usize, usize)> {
    let fixed = dims.iter().enumerate().take_while(|(i, &d)| *i == d).count();
    let rest = &dims[fixed..];
    let split = rest.iter().position(|&d| d == fixed)?;
    let rotated = rest[split..].iter().chain(&rest[..split]).enumerate().all(|(i, &d)| d == fixed + i);
    if split == 0 || !rotated {
        return None;
    }
    let columns_at = rest[0];
    let extent = |range: &[usize]| range.iter().product::<usize>();
    let (batch, rows) = (extent(&shape[..fixed]), extent(&shape[fixed..columns_at]));
    let fits = batch <= launch::MAX_GRID_YZ && rows.div_ceil(SIDE) <= launch::MAX_GRID_YZ;
    fits.then(|| (batch, rows, extent(&shape[columns_at..])))
}

fn transpose(
    device: &CudaDevice,
    x: &Tensor,
    shape: Shape,
    batch: usize,
    rows: usize,
    columns: usize,
) -> Result<Tensor> {
    let y = device.output(shape, x.dtype())?;
    if y.numel() == 0 {
        return Ok(y);
    }
    let tiles = |extent: usize| extent.div_ceil(SIDE);
    let config = Config { grid: [tiles(columns) as u32, tiles(rows) as u32, batch as u32], block: launch::THREADS };
    let args = args![address(x), address(&y), rows as u32, columns as u32];
    device.launch(for_unit!(x.dtype(), "transpose"), config, args, &[x])?;
    Ok(y)
}

/// `blocks` stretches of `width` elements, some distance apart in the source and in the destination.
struct BlockCopy {
    from: DevicePtr,
    to: DevicePtr,
    blocks: usize,
    width: usize,
    from_pitch: usize,
    to_pitch: usize,
}

impl BlockCopy {
    fn launch(self, device: &CudaDevice, dtype: DType, tensors: &[&Tensor]) -> Result<()> {
        let n = self.blocks * self.width;
        if n == 0 {
            return Ok(());
        }
        let sizes = [self.blocks, self.width, self.from_pitch, self.to_pitch].map(|size| size as u32);
        let args = args![self.from, self.to, sizes[0], sizes[1], sizes[2], sizes[3]];
        device.launch(for_unit!(dtype, "copy_blocks"), launch::elements(n), args, tensors)
    }
}

fn offset(x: &Tensor, elements: usize) -> DevicePtr {
    DevicePtr(address(x).0 + (elements * x.dtype().size()) as u64)
}

/// Elements in one step along `dim`.
fn inner(shape: &Shape, dim: usize) -> usize {
    shape[dim + 1..].iter().product()
}

pub(super) fn concat(device: &CudaDevice, parts: &[&Tensor], dim: usize) -> Result<Tensor> {
    let total = parts.iter().map(|part| part.shape()[dim]).sum();
    let shape = parts[0].shape().with_extent(dim, total);
    let y = device.output(shape, parts[0].dtype())?;
    let (blocks, inner) = (shape[..dim].iter().product(), inner(&shape, dim));
    let mut at = 0;
    for part in parts {
        let width = part.shape()[dim] * inner;
        let copy = BlockCopy {
            from: address(part),
            to: offset(&y, at),
            blocks,
            width,
            from_pitch: width,
            to_pitch: total * inner,
        };
        copy.launch(device, y.dtype(), &[part, &y])?;
        at += width;
    }
    Ok(y)
}

pub(super) fn narrow(device: &CudaDevice, x: &Tensor, dim: usize, start: usize, len: usize) -> Result<Tensor> {
    let y = device.output(x.shape().with_extent(dim, len), x.dtype())?;
    let inner = inner(x.shape(), dim);
    let copy = BlockCopy {
        from: offset(x, start * inner),
        to: address(&y),
        blocks: x.shape()[..dim].iter().product(),
        width: len * inner,
        from_pitch: x.shape()[dim] * inner,
        to_pitch: len * inner,
    };
    copy.launch(device, x.dtype(), &[x, &y])?;
    Ok(y)
}

pub(super) fn gather_rows(device: &CudaDevice, table: &Tensor, index: &Tensor) -> Result<Tensor> {
    let rows = index.numel();
    let y = device.output(table.shape().with_extent(0, rows), table.dtype())?;
    if y.numel() == 0 {
        return Ok(y);
    }
    let args = args![address(table), address(index), address(&y), rows as u32, (y.numel() / rows) as u32];
    device.launch(for_unit!(table.dtype(), "gather_rows"), launch::elements(y.numel()), args, &[table, index])?;
    Ok(y)
}

pub(super) fn scatter_rows(device: &CudaDevice, dy: &Tensor, index: &Tensor, rows: usize) -> Result<Tensor> {
    let table = device.floats(dy.shape().with_extent(0, rows))?;
    let n = table.numel();
    let width = inner(table.shape(), 0) as u32;
    let args = args![address(dy), address(index), address(&table), index.numel() as u32, rows as u32, width];
    device.launch("scatter_rows", launch::elements(n), args, &[dy, index])?;
    Ok(table)
}

pub(super) fn set_rows(device: &CudaDevice, table: &mut Tensor, index: &Tensor, rows: &Tensor) -> Result<()> {
    let (n, width) = (rows.numel(), inner(rows.shape(), 0));
    let args = args![address(rows), address(index), unique_address(table)?, n as u32, width as u32];
    device.launch("set_rows", launch::elements(n), args, &[rows, index])
}

/// The sum over `dims`, which stay as extents of 1: neighbouring dimensions at once, the last ones first.
pub(super) fn sum(device: &CudaDevice, x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let mut y = x.detach();
    let summed = |d: usize| dims.contains(&d);
    let mut end = x.shape().rank();
    while end > 0 {
        let start = (0..end).rev().take_while(|&d| summed(d)).last().unwrap_or(end);
        if start < end {
            let shape = *y.shape();
            let extent = |range: &[usize]| range.iter().product();
            let (outer, reduced, inner) = (extent(&shape[..start]), extent(&shape[start..end]), extent(&shape[end..]));
            let result = (start..end).fold(shape, |shape, d| shape.with_extent(d, 1));
            y = sum_middle(device, &y, [outer, reduced, inner])?.with_shape(result);
        }
        end = start.saturating_sub(1);
    }
    Ok(y)
}

/// `[outer, reduced, inner]` → `[outer, inner]`; a long sum is split, and a second pass adds the parts in their order.
pub(super) fn sum_middle(device: &CudaDevice, x: &Tensor, [outer, reduced, inner]: [usize; 3]) -> Result<Tensor> {
    let results = outer * inner;
    let (splits, stretch) = launch::split_sum(results, reduced);
    let sums = device.floats([splits, results])?;
    if results == 0 {
        return Ok(sums);
    }
    let pointers = [address(x), address(&sums)];
    let [outer_size, reduced_size, inner_size, stretch_size] = [outer, reduced, inner, stretch].map(|size| size as u32);
    if inner == 1 {
        let config = launch::warp_each(outer);
        let args = args![pointers[0], pointers[1], outer_size, reduced_size, stretch_size];
        device.launch("sum_rows", config.with_y(splits), args, &[x])?;
    } else {
        let config = launch::elements(results);
        let args = args![pointers[0], pointers[1], outer_size, reduced_size, inner_size, stretch_size];
        device.launch("sum_columns", config.with_y(splits), args, &[x])?;
    }
    match splits {
        1 => Ok(sums),
        _ => sum_middle(device, &sums, [1, splits, results]),
    }
}
