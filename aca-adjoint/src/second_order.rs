//! Second derivatives, by candle's backward through candle's backward.

use aca_core::{Result, large_stack};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Device, Layout, Shape, Tensor, Var};

use crate::GradientError;
use crate::storage::whole;

/// Whether gradients that candle finds in this thread are themselves part of its graph.
///
/// Candle decides it once per thread, by the environment variable `CANDLE_GRAD_DO_NOT_DETACH`. Without it candle
/// returns wrong second derivatives in silence (8 for x^3 at 2), so this function tries one out.
pub fn is_second_order_enabled() -> bool {
    thread_local! {
        static ENABLED: bool = probe().unwrap_or(false);
    }
    ENABLED.with(|&enabled| enabled)
}

fn probe() -> candle_core::Result<bool> {
    let x = Var::new(2f64, &Device::Cpu)?;
    let cube = ((x.as_tensor() * x.as_tensor())? * x.as_tensor())?;
    let Some(first) = cube.backward()?.remove(&x) else { return Ok(false) };
    match first.backward()?.get(&x) {
        Some(second) => Ok(second.to_scalar::<f64>()? == 12.0),
        None => Ok(false),
    }
}

/// Returns the gradients of the scalar `loss` with respect to `vars` as parts of candle's graph,
/// ready to enter another loss: a gradient penalty, say.
///
/// A solve inside must use [`Gradient::Naive`](crate::Gradient::Naive). With more than some twenty steps of a small
/// network, do everything inside [`with_large_stack`](crate::with_large_stack): solve, derivatives, and dropping them.
///
/// # Errors
/// [`GradientError::SecondOrderDisabled`] where candle would detach them.
pub fn gradients_in_graph(loss: &Tensor, vars: &[&Var]) -> Result<Vec<Tensor>> {
    if !is_second_order_enabled() {
        return Err(GradientError::SecondOrderDisabled.into());
    }
    gradients(loss, vars)
}

/// Candle's gradients, found on a stack of their own: the graph of a gradient is deeper than that of
/// its loss, and what nobody asked for ends there too.
fn gradients(loss: &Tensor, vars: &[&Var]) -> Result<Vec<Tensor>> {
    large_stack::walk(loss.device(), usize::MAX, || {
        let mut grads = loss.backward()?;
        let gradients = vars.iter();
        gradients.map(|var| Ok(grads.remove(var).map_or_else(|| var.zeros_like(), Ok)?)).collect()
    })
}

/// Returns the product of the Hessian of the scalar `loss` with `vectors`, one per variable.
///
/// # Shapes
/// `vectors[i]` and the result's parts: as `vars[i]`.
///
/// # Errors
/// As [`gradients_in_graph`]; [`GradientError::CotangentShape`] when a vector has another shape.
pub fn hessian_vector(loss: &Tensor, vars: &[&Var], vectors: &[Tensor]) -> Result<Vec<Tensor>> {
    if vectors.len() != vars.len() {
        return Err(GradientError::CotangentShape {
            got: vec![vectors.len()],
            expected: vec![vars.len()],
        }
        .into());
    }
    let gradients = gradients_in_graph(loss, vars)?;
    let mut along = Tensor::zeros((), loss.dtype(), loss.device())?;
    for (gradient, vector) in gradients.iter().zip(vectors) {
        if gradient.shape() != vector.shape() {
            let (got, expected) = (vector.dims().to_vec(), gradient.dims().to_vec());
            return Err(GradientError::CotangentShape { got, expected }.into());
        }
        along = (along + gradient.mul(vector)?.sum_all()?)?;
    }
    self::gradients(&along, vars)
}

/// Returns `gradient` as a function of the input that it belongs to, whose own derivative is an error:
/// a replayed gradient is a number to candle, and its derivative would silently be missing.
pub(crate) fn refuse_derivative(gradient: Tensor, input: &Tensor) -> candle_core::Result<Tensor> {
    if !is_second_order_enabled() {
        return Ok(gradient);
    }
    whole(&gradient)?.apply_op2(input, Constant)
}

/// A gradient that must not be differentiated again.
struct Constant;

impl CustomOp2 for Constant {
    fn name(&self) -> &'static str {
        "ode-gradient"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((gradient.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        gradient: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        Ok((gradient.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Err(aca_core::Error::from(GradientError::NoSecondDerivative).into())
    }
}
