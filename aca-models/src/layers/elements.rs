//! Elements behind arguments of operations.

use candle_core::{CpuStorage, Layout, Result, WithDType};

/// The elements of contiguous storage.
pub(super) fn entries<'a, T: WithDType>(
    (storage, layout): (&'a CpuStorage, &Layout),
) -> Result<&'a [T]> {
    let start = layout.start_offset();
    Ok(&storage.as_slice::<T>()?[start..start + layout.shape().elem_count()])
}
