//! Rows moved by candle's operations: solves with steps of its own for each sample move few of them.

use candle_core::{CudaDevice, Device, Tensor};

use super::super::RowTerm;
use crate::Result;

/// See [`super::super::gather_rows`].
pub(crate) fn gather_rows(device: &CudaDevice, sources: &[(&Tensor, usize)]) -> Result<Tensor> {
    let pieces = sources.chunk_by(|a, b| a.0.id() == b.0.id()).map(|same| {
        let rows = same.iter().map(|&(_, row)| row);
        Ok(same[0].0.contiguous()?.index_select(&indices(device, rows)?, 0)?)
    });
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    match pieces.as_slice() {
        [piece] => Ok(piece.clone()),
        pieces => Ok(Tensor::cat(pieces, 0)?),
    }
}

/// See [`super::super::choose_rows`]; the tensors are contiguous.
pub(crate) fn choose_rows(
    device: &CudaDevice,
    mask: &[bool],
    a: &Tensor,
    b: &Tensor,
) -> Result<Tensor> {
    let mask: Vec<u8> = mask.iter().copied().map(u8::from).collect();
    let mask = column(mask, a, &Device::Cuda(device.clone()))?.broadcast_as(a.shape())?;
    Ok(mask.contiguous()?.where_cond(a, b)?)
}

/// See [`super::super::add_rows`]; the tensors are contiguous, and there are terms.
pub(crate) fn add_rows(
    device: &CudaDevice,
    x: &Tensor,
    terms: &[RowTerm],
    source: &Tensor,
) -> Result<Tensor> {
    let weights: Vec<f64> = terms.iter().map(|term| term.weight).collect();
    let weights = column(weights, source, &Device::Cuda(device.clone()))?.to_dtype(x.dtype())?;
    let rows = source.index_select(&indices(device, terms.iter().map(|term| term.source))?, 0)?;
    let to = indices(device, terms.iter().map(|term| term.row))?;
    Ok(x.index_add(&to, &rows.broadcast_mul(&weights)?.contiguous()?, 0)?)
}

fn indices(device: &CudaDevice, rows: impl Iterator<Item = usize>) -> Result<Tensor> {
    let rows: Vec<i64> = rows.map(|row| row as i64).collect();
    Ok(Tensor::from_slice(&rows, rows.len(), &Device::Cuda(device.clone()))?)
}

/// One value per row, as a tensor that broadcasts against `like`.
fn column<T: candle_core::WithDType>(
    values: Vec<T>,
    like: &Tensor,
    device: &Device,
) -> Result<Tensor> {
    let mut shape = vec![1; like.rank()];
    shape[0] = values.len();
    Ok(Tensor::from_vec(values, shape, device)?)
}
