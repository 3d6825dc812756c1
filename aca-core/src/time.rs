//! The time handed to a field.

use std::sync::OnceLock;

use candle_core::{Result, Tensor, Var};

/// The time at which a field is evaluated: a number for ordinary use, a tensor for fields whose
/// gradient with respect to time is wanted.
///
/// Times are `f64` whatever the state's dtype; only [`Time::tensor`] rounds to it.
///
/// # Example
/// ```
/// use aca_core::Time;
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> candle_core::Result<()> {
/// let y = Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu)?;
/// let t = Time::new(0.25);
/// assert_eq!(t.value(), 0.25);
/// assert_eq!(t.tensor(&y)?.to_scalar::<f32>()?, 0.25);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Time {
    value: f64,
    tracked: bool,
    leaf: OnceLock<Tensor>,
}

impl Time {
    /// Returns the time `value`, which candle does not differentiate.
    pub fn new(value: f64) -> Self {
        Self { value, tracked: false, leaf: OnceLock::new() }
    }

    /// Returns the time `value` whose tensor is a variable of candle's graph.
    ///
    /// The default [`VectorField::linearize`](crate::VectorField::linearize) evaluates the field
    /// at such a time, so that the cotangent of `t` is there exactly when the field used it.
    pub fn tracked(value: f64) -> Self {
        Self { value, tracked: true, leaf: OnceLock::new() }
    }

    /// Returns the time `value` that is `tensor`, a scalar, in candle's graph.
    pub fn traced(value: f64, tensor: Tensor) -> Self {
        Self { value, tracked: true, leaf: OnceLock::from(tensor) }
    }

    /// Returns the time as a number; a field that uses it hides its dependence on time from
    /// candle, which matters for gradients with respect to times only.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns the time as a scalar tensor of `like`'s dtype and device, which broadcasts
    /// against the state.
    ///
    /// # Errors
    /// Only if the tensor cannot be allocated.
    pub fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        if let Some(leaf) = self.leaf.get() {
            return leaf.to_dtype(like.dtype());
        }
        let t = Tensor::new(self.value, like.device())?;
        let t = if self.tracked { Var::from_tensor(&t)?.into_inner() } else { t };
        self.leaf.get_or_init(|| t).to_dtype(like.dtype())
    }

    /// Returns the tensor that the field asked for, if it did.
    pub fn leaf(&self) -> Option<&Tensor> {
        self.leaf.get()
    }
}
