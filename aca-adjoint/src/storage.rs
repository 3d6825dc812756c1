//! Tensors and the storage behind them.

use candle_core::{Result, Tensor};

/// Returns a tensor that is all of its storage: candle copies storages whole, whatever the layout says of
/// where a view begins.
pub(crate) fn whole(x: &Tensor) -> Result<Tensor> {
    let starts = x.layout().start_offset() == 0;
    if starts && x.is_contiguous() { Ok(x.clone()) } else { x.force_contiguous() }
}
