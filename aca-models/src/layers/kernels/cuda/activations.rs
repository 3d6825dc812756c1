//! Activations, and dense layers beside their products.
#![allow(unsafe_code, reason = "a launch hands addresses to the GPU")]

use aca_core::kernels::cuda::{Argument, Grid, Kernel, Source, empty, tensor};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Result, Tensor};

use super::{LAYERS, blocks, gpu, instance, sources, views};
use crate::layers::Activation;

/// Columns that a block sums, rows that it sums at least, and most parts of a column: they say how a sum is
/// rounded, so they know nothing of the GPU.
const COLUMNS: usize = 32;
const SHARE: usize = 64;
const PARTS: usize = 256;

/// Returns the activation of `size` elements.
pub(crate) fn applied(activation: Activation, x: Source<'_>, size: usize) -> Result<CudaStorage> {
    // SAFETY: the launch writes every element.
    let mut out = unsafe { empty(x.device(), size, x.dtype())? };
    let arguments = [Argument::Write(&mut out, 0), Argument::Nothing, Argument::Read(x)];
    // SAFETY: there are so many elements in both.
    unsafe { activate(activation, arguments, None, size)? };
    Ok(out)
}

/// Replaces `size` sums by the activation of them and a bias, one a column.
pub(crate) fn epilogue(
    activation: Activation,
    sums: &mut CudaStorage,
    bias: Option<(Source<'_>, usize)>,
    size: usize,
) -> Result<()> {
    if activation == Activation::Identity && bias.is_none() {
        return Ok(());
    }
    let arguments = [Argument::Write(sums, 0), Argument::Nothing, Argument::Nothing];
    // SAFETY: there are so many sums, in rows of as many as the bias has.
    unsafe { activate(activation, arguments, bias, size) }
}

/// Adds a bias, one a column, to `size` sums, and returns the activation of the result.
pub(crate) fn kept_epilogue(
    activation: Activation,
    sums: &mut CudaStorage,
    bias: Option<(Source<'_>, usize)>,
    size: usize,
) -> Result<CudaStorage> {
    // SAFETY: the launch writes every element.
    let mut out = unsafe { empty(sums.device(), size, sums.dtype())? };
    let arguments = [Argument::Write(&mut out, 0), Argument::Write(sums, 0), Argument::Nothing];
    // SAFETY: there are so many sums, in rows of as many as the bias has.
    unsafe { activate(activation, arguments, bias, size)? };
    Ok(out)
}

/// Launches `activate` on the result, the sums that are kept and the input, which may be one of them.
///
/// # Safety
/// There are `size` elements in each; in rows of as many as the bias has.
unsafe fn activate(
    activation: Activation,
    [out, sums, x]: [Argument<'_>; 3],
    bias: Option<(Source<'_>, usize)>,
    size: usize,
) -> Result<()> {
    let Argument::Write(storage, _) = &out else {
        candle_core::bail!("an activation needs a place for its result")
    };
    let (device, dtype) = (storage.device().clone(), storage.dtype());
    let columns = bias.map_or(1, |(_, columns)| columns);
    let bias = bias.map_or(Argument::Nothing, |(bias, _)| Argument::Read(bias));
    let (name, grid) = (instance("activate", dtype), Grid::over(size));
    let kernel = Kernel { program: &LAYERS, name: &name, grid };
    let [columns, size] = [columns, size].map(Argument::Size);
    let arguments = [out, sums, x, bias, columns, size, number(activation)];
    // SAFETY: by the caller's promise.
    unsafe { kernel.launch(&device, arguments)? };
    Ok(())
}

/// Returns `lambda` times the derivative; `kept` as for the CPU's kernels. Both are contiguous.
pub(crate) fn pulled(activation: Activation, kept: &Tensor, lambda: &Tensor) -> Result<Tensor> {
    let (device, dtype, size) = (gpu(lambda)?, lambda.dtype(), lambda.elem_count());
    check(kept, lambda)?;
    let held = views([kept, lambda])?;
    let [kept, from] = sources(&held)?;
    // SAFETY: the launch writes every element.
    let mut z = unsafe { empty(device, size, dtype)? };
    let kernel =
        Kernel { program: &LAYERS, name: &instance("pull", dtype), grid: Grid::over(size) };
    let arguments = [
        Argument::Write(&mut z, 0),
        Argument::Read(kept),
        Argument::Read(from),
        Argument::Size(size),
        number(activation),
    ];
    // SAFETY: there are so many elements in all three.
    unsafe { kernel.launch(device, arguments)? };
    Ok(tensor(z, lambda.shape()))
}

/// Returns what [`pulled`] does, and the sums of the columns of it as `[rows, columns]`.
pub(crate) fn pulled_columns(
    activation: Activation,
    kept: &Tensor,
    lambda: &Tensor,
    [rows, columns]: [usize; 2],
) -> Result<(Tensor, Tensor)> {
    let (device, dtype) = (gpu(lambda)?, lambda.dtype());
    check(kept, lambda)?;
    let held = views([kept, lambda])?;
    let [kept, from] = sources(&held)?;
    let share = rows.div_ceil(PARTS).max(SHARE);
    let parts = rows.div_ceil(share).max(1);
    // The derivative of the identity needs neither a pass nor memory.
    let bent = activation != Activation::Identity;
    // SAFETY: the launches write every element of what is read.
    let [mut z, mut sums, mut list] = unsafe {
        [
            empty(device, if bent { rows * columns } else { 1 }, dtype)?,
            empty(device, columns, dtype)?,
            empty(device, parts * columns, DType::F64)?,
        ]
    };
    let grid = blocks(columns.div_ceil(COLUMNS), parts);
    let kernel = Kernel { program: &LAYERS, name: &instance("columns", dtype), grid };
    let arguments = [
        if bent { Argument::Write(&mut z, 0) } else { Argument::Nothing },
        Argument::Write(&mut sums, 0),
        Argument::Write(&mut list, 0),
        if bent { Argument::Read(kept) } else { Argument::Nothing },
        Argument::Read(from),
        Argument::Size(rows),
        Argument::Size(columns),
        Argument::Size(share),
        number(activation),
    ];
    // SAFETY: there are so many rows and columns, and so many parts of these shares.
    unsafe { kernel.launch(device, arguments)? };
    if parts > 1 {
        total_columns(&mut sums, &list, [parts, columns])?;
    }
    let z = if bent { tensor(z, lambda.shape()) } else { lambda.clone() };
    Ok((z, tensor(sums, columns)))
}

/// Writes the sums of the columns of `[parts, columns]`.
pub(super) fn total_columns(
    sums: &mut CudaStorage,
    parts: &CudaStorage,
    [count, columns]: [usize; 2],
) -> Result<()> {
    let (device, dtype) = (parts.device(), sums.dtype());
    let (name, grid) = (instance("column_totals", dtype), Grid::over(columns));
    let kernel = Kernel { program: &LAYERS, name: &name, grid };
    let arguments = [
        Argument::Write(sums, 0),
        Argument::Read(Source::whole(parts)),
        Argument::Size(count),
        Argument::Size(columns),
    ];
    // SAFETY: there are so many parts and sums.
    unsafe { kernel.launch(device, arguments)? };
    Ok(())
}

/// Returns the rows of `x`, each followed by its time; rows share times evenly. Both are contiguous.
pub(crate) fn with_times(x: &Tensor, times: &Tensor, dim: usize) -> Result<Tensor> {
    let (device, dtype, rows) = (gpu(x)?, x.dtype(), x.elem_count() / dim);
    let held = views([x, times])?;
    let [from, t] = sources(&held)?;
    let (size, share) = (rows * (dim + 1), rows / times.elem_count());
    // SAFETY: the launch writes every element.
    let mut out = unsafe { empty(device, size, dtype)? };
    let (name, grid) = (instance("with_times", dtype), Grid::over(size));
    let arguments = [
        Argument::Write(&mut out, 0),
        Argument::Read(from),
        Argument::Read(t),
        Argument::Size(rows),
        Argument::Size(dim),
        Argument::Size(share),
    ];
    // SAFETY: there are so many rows, and a time for each `share` of them.
    unsafe { Kernel { program: &LAYERS, name: &name, grid }.launch(device, arguments)? };
    Ok(tensor(out, (rows, dim + 1)))
}

/// The activation as kernels number it.
fn number(activation: Activation) -> Argument<'static> {
    Argument::Size(activation as usize)
}

fn check(kept: &Tensor, lambda: &Tensor) -> Result<()> {
    if kept.dims() != lambda.dims() || kept.dtype() != lambda.dtype() {
        let (got, expected) = (lambda.dims(), kept.dims());
        candle_core::bail!(
            "a cotangent of shape {got:?} does not fit a value of shape {expected:?}"
        )
    }
    Ok(())
}
