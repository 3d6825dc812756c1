//! Weighted sums of states.
#![allow(unsafe_code, reason = "structures of addresses go to the GPU as they are")]

use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Shape, Tensor};
use smallvec::SmallVec;

use super::super::rows::row_shape;
use super::super::{Term, View};
use super::launch::{
    Gpu, Grid, Inputs, TERMS, TILE, addresses, aligned, output, weights as padded,
};
use crate::Result;

/// Most blocks of a grid's second dimension.
const COLUMNS: usize = 65_535;

/// See `Combine` in `sums.cu`.
#[repr(C)]
pub(super) struct Combine {
    out: u64,
    base: u64,
    x: [u64; TERMS],
    w: [f64; TERMS],
    size: u64,
    count: i32,
}

// SAFETY: numbers alone, laid out as C does.
unsafe impl DeviceRepr for Combine {}

/// See [`super::super::combine_with_rows`]; the tensors are contiguous.
pub(crate) fn combine(
    device: &CudaDevice,
    base: Option<&Tensor>,
    terms: &[Term<'_>],
    rows: Option<(&[f64], &Tensor)>,
    shape: Shape,
) -> Result<Tensor> {
    let dtype = base.or(terms.first().map(|&(_, x)| x)).or(rows.map(|(_, rows)| rows));
    let gpu = Gpu::new(device, dtype.map_or(candle_core::DType::F64, Tensor::dtype))?;
    let size = shape.elem_count();
    let base = base.map(View::held);
    let views: SmallVec<[_; 8]> = terms.iter().map(|&(_, x)| View::held(x)).collect();
    let rows = rows.map(|(v, rows)| (v, View::held(rows)));
    let mut inputs = Inputs::new(&gpu);
    let base = base.as_ref().map_or(Ok(0), |base| inputs.address(base, size))?;
    let mut list = SmallVec::<[(f64, u64); TERMS]>::new();
    for (&(w, _), view) in terms.iter().zip(&views) {
        list.push((w, inputs.address(view, size)?));
    }
    if let Some((v, rows)) = &rows {
        let first = inputs.address(rows, v.len() * size)?;
        let row = (size * gpu.dtype.size_in_bytes()) as u64;
        list.extend(v.iter().enumerate().map(|(m, &v)| (v, first + m as u64 * row)));
    }
    let mut storage = gpu.empty(&shape)?;
    let (out, written) = output(&mut storage, &gpu.stream)?;
    let packs = aligned(list.iter().map(|&(_, x)| x).chain([base, out]));
    let grid = Grid::over(if packs { size.div_ceil(gpu.pack()) } else { size });
    let mut base = base;
    // Terms beyond those of a launch are added to the sum so far.
    for list in list.chunks(TERMS).chain(list.is_empty().then_some(&[][..])) {
        let x: SmallVec<[u64; TERMS]> = list.iter().map(|&(_, x)| x).collect();
        let w = padded(list.iter().map(|&(w, _)| w));
        let (size, count) = (size as u64, list.len() as i32);
        gpu.launch(
            "combine",
            packs,
            &grid,
            &Combine { out, base, x: addresses(&x), w, size, count },
        )?;
        base = out;
    }
    drop((written, inputs));
    Ok(gpu.tensor(storage, shape))
}

/// See `Rows` in `sums.cu`.
#[repr(C)]
pub(super) struct Rows {
    out: u64,
    base: u64,
    x: [u64; TERMS],
    w: u64,
    size: u64,
    rows: u64,
    count: i32,
}

// SAFETY: numbers alone, laid out as C does.
unsafe impl DeviceRepr for Rows {}

/// See [`super::super::combine_rows`]; the tensors are contiguous.
pub(crate) fn combine_rows(
    device: &CudaDevice,
    base: &Tensor,
    weights: &[f64],
    xs: &[Tensor],
) -> Result<Tensor> {
    let rows = weights.len() / xs.len().max(1);
    let shape: Vec<usize> = std::iter::once(rows).chain(base.dims().iter().copied()).collect();
    let shape = Shape::from(shape);
    if xs.len() > TERMS {
        let row = |weights: &[f64]| {
            let terms: Vec<Term<'_>> = weights.iter().copied().zip(xs).collect();
            combine(device, Some(base), &terms, None, base.shape().clone())
        };
        let rows = weights.chunks_exact(xs.len()).map(row).collect::<Result<Vec<_>>>()?;
        return Ok(Tensor::stack(&rows, 0)?);
    }
    let gpu = Gpu::new(device, base.dtype())?;
    let mut storage = gpu.empty(&shape)?;
    if shape.elem_count() == 0 {
        return Ok(gpu.tensor(storage, shape));
    }
    let size = base.elem_count();
    let views: SmallVec<[_; 8]> = xs.iter().map(View::held).collect();
    let (base, list) = (View::held(base), gpu.stream.clone_htod(weights).w()?);
    let mut inputs = Inputs::new(&gpu);
    let (base, w) = (inputs.address(&base, size)?, inputs.list(&list));
    let x = views
        .iter()
        .map(|x| inputs.address(x, size))
        .collect::<Result<SmallVec<[u64; TERMS]>>>()?;
    let (out, written) = output(&mut storage, &gpu.stream)?;
    let packs = size.is_multiple_of(gpu.pack()) && aligned(x.iter().copied().chain([base, out]));
    let items = if packs { size / gpu.pack() } else { size };
    let mut grid = Grid::over(items);
    grid.blocks[1] = rows.div_ceil(TILE).min(COLUMNS);
    let count = x.len() as i32;
    let (x, size, rows) = (addresses(&x), size as u64, rows as u64);
    gpu.launch("combine_rows", packs, &grid, &Rows { out, base, x, w, size, rows, count })?;
    drop((written, inputs));
    Ok(gpu.tensor(storage, shape))
}

/// See `Picked` in `sums.cu`.
#[repr(C)]
pub(super) struct Picked {
    out: u64,
    base: u64,
    x: [u64; TERMS],
    w: u64,
    from: u64,
    length: u64,
    rows: u64,
    count: i32,
}

// SAFETY: numbers alone, laid out as C does.
unsafe impl DeviceRepr for Picked {}

/// Returns the rows `base[r_m] + sum(w_mi x_i[r_m])`, with `m` itself where `from` names no rows; the
/// tensors are contiguous.
pub(crate) fn combine_picked(
    device: &CudaDevice,
    base: Option<&Tensor>,
    from: Option<&[usize]>,
    weights: &[f64],
    xs: &[&Tensor],
) -> Result<Tensor> {
    let Some(like) = base.or(xs.first().copied()) else {
        return Err(candle_core::Error::msg("combine_picked needs a tensor").into());
    };
    let batch = like.dims()[0];
    let (size, rows) = (like.elem_count(), from.map_or(batch, <[usize]>::len));
    let length = size / batch.max(1);
    if let Some(row) = from.and_then(|from| from.iter().find(|&&row| row >= batch)) {
        let message = format!("row {row} was asked of a batch of {batch}");
        return Err(candle_core::Error::msg(message).into());
    }
    if weights.len() != rows * xs.len() {
        let (got, terms) = (weights.len(), xs.len());
        let message = format!("{got} weights came for {rows} rows of {terms} terms each");
        return Err(candle_core::Error::msg(message).into());
    }
    let (gpu, shape) = (Gpu::new(device, like.dtype())?, Shape::from(row_shape(like, rows)));
    let mut storage = gpu.empty(&shape)?;
    if shape.elem_count() == 0 {
        return Ok(gpu.tensor(storage, shape));
    }
    let from: Option<Vec<u64>> = from.map(|from| from.iter().map(|&row| row as u64).collect());
    let from = from.map(|from| gpu.stream.clone_htod(&from).w()).transpose()?;
    let (base, views) = (base.map(View::held), xs.iter().map(|x| View::held(x)));
    let views: SmallVec<[_; 8]> = views.collect();
    let mut inputs = Inputs::new(&gpu);
    let mut base = base.as_ref().map_or(Ok(0), |base| inputs.address(base, size))?;
    let from = from.as_ref().map_or(0, |from| inputs.list(from));
    let x = views
        .iter()
        .map(|x| inputs.address(x, size))
        .collect::<Result<SmallVec<[u64; TERMS]>>>()?;
    let (out, written) = output(&mut storage, &gpu.stream)?;
    let packs = length.is_multiple_of(gpu.pack()) && aligned(x.iter().copied().chain([base, out]));
    let grid = Grid::over(rows * length / if packs { gpu.pack() } else { 1 });
    let (length, rows) = (length as u64, rows as u64);
    for first in (0..x.len().max(1)).step_by(TERMS) {
        let x = &x[first..(first + TERMS).min(x.len())];
        let row = |row: &[f64]| row[first..first + x.len()].to_vec();
        let list: Vec<f64> = weights.chunks_exact(xs.len().max(1)).flat_map(row).collect();
        // A list without entries has no memory to copy to.
        let list = if list.is_empty() { vec![0.0] } else { list };
        let list = gpu.stream.clone_htod(&list).w()?;
        let mut weights = Inputs::new(&gpu);
        let (w, count) = (weights.list(&list), x.len() as i32);
        let x = addresses(x);
        let arguments = Picked { out, base, x, w, from, length, rows, count };
        gpu.launch("combine_picked", packs, &grid, &arguments)?;
        drop(weights);
        base = out;
    }
    drop((written, inputs));
    Ok(gpu.tensor(storage, shape))
}
