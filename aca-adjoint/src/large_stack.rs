//! Backward passes through deep graphs.

use aca_core::{Result, large_stack};
use candle_core::Tensor;
use candle_core::backprop::GradStore;

pub use aca_core::with_large_stack;

/// Returns the gradients of the scalar `loss` as candle's own `backward` does, however deep its graph is. With a chain
/// of some thousand solves, candle's `backward` would overflow the stack of an ordinary thread, which ends the process.
///
/// Candle also drops a graph by recursion, so drop such a chain on a large stack too: `with_large_stack(move ||
/// drop(loss))`. Or do everything inside [`with_large_stack`]; candle's own `backward` is then safe.
///
/// # Errors
/// Those of `backward`; [`Error::LargeStack`](aca_core::Error::LargeStack).
///
/// # Example
/// ```
/// use aca_adjoint::{Ode, backward, with_large_stack};
/// use aca_core::{Solver, Time};
/// use aca_dense::SaveAt;
/// use candle_core::{Device, Tensor, Var};
///
/// # fn main() -> aca_core::Result<()> {
/// let decay = |_t: &Time, y: &Tensor| y.neg();
/// let ode = Ode::new(Solver::fixed_count(aca_tableau::HEUN, 1), decay, vec![])?;
/// let y0 = Var::new(&[1.0f64], &Device::Cpu)?;
/// let mut y = y0.as_tensor().clone();
/// for _ in 0..2000 {
///     y = ode.solve(&y, (0.0, 1e-3), &SaveAt::End)?.y1;
/// }
/// let grads = backward(&y.sum_all()?)?;
/// with_large_stack(move || drop(y))?;
/// let slope = grads.get(&y0).map(|g| g.to_vec1::<f64>()).transpose()?.unwrap_or_default();
/// assert!((slope[0] - (-2f64).exp()).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    large_stack::walk(loss.device(), usize::MAX, || Ok(loss.backward()?))
}
