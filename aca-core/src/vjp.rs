//! Where a backward pass begins.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "cuda")]
use candle_core::backend::BackendDevice;
use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::kernels::has_kernels;

/// Pulls `cotangent` back through the graph of `f`, of its shape.
///
/// The cotangent is detached: with `CANDLE_GRAD_DO_NOT_DETACH` set it would carry the graph of the
/// loss, and the walk from here would run through that graph too.
///
/// Candle's backward begins at a scalar. The product with the cotangent, summed, is one, but candle
/// takes many times the time of a matrix product to spread the sum's gradient over a large tensor.
pub(crate) fn pull_back(f: &Tensor, cotangent: &Tensor) -> Result<GradStore> {
    let cotangent = cotangent.detach();
    let seeds = has_kernels(f.device()) && matches!(f.dtype(), DType::F32 | DType::F64);
    if !seeds || f.shape() != cotangent.shape() {
        return f.mul(&cotangent)?.sum_all()?.backward();
    }
    f.apply_op1(Seed(cotangent))?.backward()
}

/// A scalar whose gradient is the tensor within; its value means nothing.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let zero = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(vec![0.0]),
            CpuStorage::F64(_) => CpuStorage::F64(vec![0.0]),
            other => bail!("a backward begins at f32 or f64, not {:?}; cast it", other.dtype()),
        };
        Ok((zero, Shape::from(())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, _layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let scalar = Shape::from(());
        Ok((storage.device().zeros_impl(&scalar, storage.dtype())?, scalar))
    }

    fn bwd(&self, _arg: &Tensor, _res: &Tensor, _grad: &Tensor) -> Result<Option<Tensor>> {
        // The backward begins here, so the gradient that arrives is one.
        Ok(Some(self.0.clone()))
    }
}
