//! Joins a finished solve to candle's graph.

use std::sync::Arc;

use aca_core::Fingerprint;
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp3, Layout, MetalStorage, Result, Shape, Storage,
    Tensor,
};

use crate::second_order::refuse_derivative;
use crate::storage::whole;
use crate::{Gradients, Params, Tape};

/// What maps cotangents of outputs to gradients.
pub(crate) trait Pull: Send + Sync + 'static {
    /// Returns the gradients, those of times as well if they are wanted.
    fn pull(&self, cotangents: &Tensor, want_times: bool) -> aca_core::Result<Gradients>;
}

impl Pull for Tape {
    fn pull(&self, cotangents: &Tensor, want_times: bool) -> aca_core::Result<Gradients> {
        Self::pull(self, cotangents, want_times)
    }
}

/// A finished solve as an operation of candle's graph on (y0, parameters, times).
struct Solve<P> {
    outputs: Tensor,
    tape: P,
}

/// Returns `outputs` as a function of `y0`, the parameters and the times, whose backward is
/// `tape`'s pullback.
///
/// Times that are tracked list every output's time, the ends of the span first and last.
///
/// The forward copies `outputs`: candle has no way to give an existing tensor an operation.
pub(crate) fn attach(
    outputs: &Tensor,
    y0: &Tensor,
    params: &Params,
    times: &Tensor,
    tape: impl Pull,
) -> aca_core::Result<Tensor> {
    let outputs = whole(&outputs.detach())?;
    Ok(y0.apply_op3(&params.flatten(y0)?, times, Solve { outputs, tape })?)
}

/// Returns `x`, a part of candle's graph, with a backward that refuses parameters which changed since the solve.
pub(crate) fn guard_parameters(
    x: &Tensor,
    params: &Params,
    fingerprints: Arc<[Fingerprint]>,
) -> aca_core::Result<Tensor> {
    Ok(whole(x)?.apply_op1(Unchanged { params: params.clone(), fingerprints })?)
}

/// The identity, as long as parameters are what they were.
struct Unchanged {
    params: Params,
    fingerprints: Arc<[Fingerprint]>,
}

impl CustomOp1 for Unchanged {
    fn name(&self) -> &'static str {
        "unchanged-parameters"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((x.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((x.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, cotangent: &Tensor) -> Result<Option<Tensor>> {
        self.params.check_unchanged(&self.fingerprints)?;
        Ok(Some(cotangent.clone()))
    }
}

impl<P> Solve<P> {
    fn copy<T>(&self, copy: impl Fn(&Storage, &Layout) -> Option<Result<T>>) -> Result<(T, Shape)> {
        let (storage, layout) = self.outputs.storage_and_layout();
        match copy(&storage, layout) {
            Some(copied) => Ok((copied?, self.outputs.shape().clone())),
            None => {
                candle_core::bail!("the outputs of a solve lie on another device than its inputs")
            }
        }
    }
}

impl<P: Pull> CustomOp3 for Solve<P> {
    fn name(&self) -> &'static str {
        "ode-solve"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.copy(|storage, layout| match storage {
            Storage::Cpu(storage) => Some(storage.try_clone(layout)),
            _ => None,
        })
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.copy(|storage, layout| match storage {
            Storage::Cuda(storage) => Some(storage.try_clone(layout)),
            _ => None,
        })
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.copy(|storage, layout| match storage {
            Storage::Metal(storage) => Some(storage.try_clone(layout)),
            _ => None,
        })
    }

    fn bwd(
        &self,
        y0: &Tensor,
        theta: &Tensor,
        times: &Tensor,
        _outputs: &Tensor,
        cotangents: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.tape.pull(cotangents, times.track_op())?;
        let flat = gradients.theta.iter().map(|g| g.flatten_all()).collect::<Result<Vec<_>>>()?;
        let flat = if flat.is_empty() { theta.zeros_like()? } else { Tensor::cat(&flat, 0)? };
        let moved = gradients.times_like(times)?;
        let y0_bar = y0.track_op().then(|| refuse_derivative(gradients.y0, y0)).transpose()?;
        let theta_bar = theta.track_op().then(|| refuse_derivative(flat, theta)).transpose()?;
        let times_bar = moved.map(|moved| refuse_derivative(moved, times)).transpose()?;
        Ok((y0_bar, theta_bar, times_bar))
    }
}
