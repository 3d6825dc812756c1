//! Closed forms beside candle's autograd.

use aca_core::{Time, VectorField};
use candle_core::{DType, Result, Tensor, Var};

use super::{ClosedForm, System};

/// How far a closed form is from candle's autograd through [`System::trace`]: the largest difference
/// of any entry, over the largest entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Of the slope.
    pub slope: f64,
    /// Of the cotangent of the state.
    pub y: f64,
    /// Of the cotangent of the parameters.
    pub theta: f64,
    /// Of the cotangent of the time.
    pub t: f64,
}

impl Difference {
    /// The largest of them; not a number if one of them is not.
    pub fn worst(self) -> f64 {
        [self.slope, self.y, self.theta, self.t].into_iter().fold(0.0, larger)
    }
}

impl<S: System> ClosedForm<S> {
    /// Compares `slope` and `pullback` of the system at `y` with candle's autograd through `trace`, for one cotangent
    /// whose entries all differ. A mistake in a derivative shows as a difference far above rounding.
    ///
    /// # Shapes
    /// `y`: as the field's states.
    ///
    /// # Cost
    /// One slope and one pullback of the system, one trace and its backward: about as much as one pullback of the same law
    /// as a closure. Call it in a test, or at the start of a program.
    ///
    /// # Errors
    /// When `y` does not fit, or `trace` fails.
    ///
    /// # Example
    /// ```
    /// use aca_models::systems::Lorenz;
    /// use candle_core::{Device, Tensor};
    ///
    /// # fn main() -> candle_core::Result<()> {
    /// let y = Tensor::new(&[1.0f64, -2.0, 3.0], &Device::Cpu)?;
    /// assert!(Lorenz::field(Lorenz::CLASSIC)?.check(&y)?.worst() < 1e-14);
    /// # Ok(())
    /// # }
    /// ```
    pub fn check(&self, y: &Tensor) -> Result<Difference> {
        // At no time at which a derivative happens to be zero.
        let (t, y) = (Time::tracked(0.5f64.sqrt()), Var::from_tensor(&y.detach())?);
        // Irrational multiples: no derivative is hidden by a cotangent that happens to be zero there.
        let entries = (1..=y.elem_count()).map(|i| (i as f64 * 2f64.sqrt()).fract() + 0.5);
        let lambda = Tensor::from_iter(entries, y.device())?.reshape(y.shape())?;
        let lambda = lambda.to_dtype(y.dtype())?;
        let (f, pullback) = self.linearize(&Time::new(t.value()), &y)?;
        let closed = pullback.apply(&lambda)?;
        let (traced, zero) = (self.trace(&t, &y)?, Tensor::zeros((), DType::F64, y.device())?);
        let auto = (&traced * &lambda)?.sum_all()?.backward()?;
        let apart = |x: Option<&Tensor>, expected: Option<&Tensor>, like: &Tensor| {
            let zero = || like.zeros_like();
            let own = x.map_or_else(zero, |x| Ok(x.clone()))?;
            distance(&own, &expected.map_or_else(zero, |x| Ok(x.clone()))?)
        };
        Ok(Difference {
            slope: distance(&f, &traced)?,
            y: apart(Some(&closed.y), auto.get(&y), &y)?,
            theta: apart(closed.theta.get(&self.theta), auto.get(&self.theta), &self.theta)?,
            t: apart(closed.t.as_ref(), t.leaf().and_then(|leaf| auto.get(leaf)), &zero)?,
        })
    }
}

/// The larger of two numbers; not a number if one of them is not.
fn larger(a: f64, b: f64) -> f64 {
    if b <= a || a.is_nan() { a } else { b }
}

/// Largest difference of an entry, over the largest entry of `expected`.
fn distance(x: &Tensor, expected: &Tensor) -> Result<f64> {
    let entries = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (x, expected) = (entries(x)?, entries(expected)?);
    let size = expected.iter().fold(f64::MIN_POSITIVE, |size, x| larger(size, x.abs()));
    Ok(x.iter().zip(&expected).fold(0.0, |worst, (a, b)| larger(worst, (a - b).abs() / size)))
}
