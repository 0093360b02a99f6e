//! Softmax and argmax of rows (`kernels/softmax.cu`).

use super::device::{args, CudaDevice};
use super::driver::Arg;
use super::launch::{self, RowTeam};
use super::memory::address;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// The number of rows and their length; a row is the last dimension.
pub(super) fn rows_and_columns(x: &Tensor) -> (usize, usize) {
    let columns = x.shape().last().copied().unwrap_or(1);
    (x.numel() / columns.max(1), columns)
}

pub(super) fn softmax(device: &CudaDevice, x: &Tensor, temperature: f64, log: bool) -> Result<Tensor> {
    let y = device.floats(*x.shape())?;
    let (rows, columns) = rows_and_columns(x);
    if x.numel() == 0 {
        return Ok(y);
    }
    let settings = [Arg::from(temperature as f32), Arg::from(i32::from(log))];
    let whole_rows = || {
        let mut args = args![address(x), address(&y), rows as u32, columns as u32];
        args.extend(settings.clone());
        args
    };
    match launch::split_row_team(rows, columns) {
        RowTeam::Part(config) => device.launch("softmax_part", config, whole_rows(), &[x])?,
        RowTeam::Warp(config) => device.launch("softmax_warp", config, whole_rows(), &[x])?,
        RowTeam::Block(config) => device.launch("softmax_block", config, whole_rows(), &[x])?,
        RowTeam::Parts { config, stretch } => {
            let parts = config.grid[0] as usize;
            let states = device.floats([rows, parts, 2])?;
            let sizes = [columns as u32, stretch as u32];
            let args = args![address(x), address(&states), sizes[0], sizes[1], temperature as f32];
            device.launch("softmax_parts", config, args, &[x])?;
            let mut args = args![address(x), address(&states), address(&y), sizes[0], sizes[1]];
            args.extend(settings);
            device.launch("softmax_finish", config, args, &[x])?;
        }
    }
    Ok(y)
}

pub(super) fn softmax_grad(
    device: &CudaDevice,
    y: &Tensor,
    dy: &Tensor,
    temperature: f64,
    log: bool,
) -> Result<Tensor> {
    let dx = device.floats(*y.shape())?;
    let (rows, columns) = rows_and_columns(y);
    let mut args = args![address(y), address(dy), address(&dx), rows as u32, columns as u32];
    args.extend(args![temperature as f32, i32::from(log)]);
    let kernels = RowKernels { part: None, warp: "softmax_grad_warp", block: "softmax_grad_block" };
    launch_for_rows(device, kernels, rows, columns, args, &[y])?;
    Ok(dx)
}

/// The kernels of a family for rows of all lengths.
#[derive(Clone, Copy)]
pub(super) struct RowKernels {
    /// For eight lanes a row.
    pub part: Option<&'static str>,
    /// For a warp a row.
    pub warp: &'static str,
    /// For a block a row.
    pub block: &'static str,
}

/// Launches that of the kernels which serves rows of this length.
pub(super) fn launch_for_rows(
    device: &CudaDevice,
    kernels: RowKernels,
    rows: usize,
    columns: usize,
    args: Vec<Arg>,
    tensors: &[&Tensor],
) -> Result<()> {
    if let (Some(part), RowTeam::Part(config)) = (kernels.part, launch::small_row_team(rows, columns)) {
        return device.launch(part, config, args, tensors);
    }
    match launch::row_team(rows, columns) {
        RowTeam::Block(config) => device.launch(kernels.block, config, args, tensors),
        RowTeam::Part(config) | RowTeam::Warp(config) | RowTeam::Parts { config, .. } => {
            device.launch(kernels.warp, config, args, tensors)
        }
    }
}

pub(super) fn argmax(device: &CudaDevice, x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = rows_and_columns(x);
    let index = device.output(x.shape().reduced(&[x.shape().rank() - 1], false), DType::I32)?;
    let args = args![address(x), address(&index), rows as u32, columns as u32];
    device.launch("argmax", launch::warp_each(rows), args, &[x])?;
    Ok(index)
}
