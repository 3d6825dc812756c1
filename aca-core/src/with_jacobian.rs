//! A field with what is known of its Jacobian.

use candle_core::{Result, Tensor, Var};

use crate::{Jacobian, Native, Parts, Pullback, Time, VectorField};

/// A field with what is known of its Jacobian: for closures, and for models that do not know it themselves.
///
/// # Example
/// ```
/// use aca_core::{Jacobian, Time, VectorField, WithJacobian};
/// use candle_core::{Result, Tensor};
///
/// // Heat in a rod of 1000 cells, cold at both ends: every cell sees its two neighbours.
/// let heat = |_t: &Time, u: &Tensor| -> Result<Tensor> {
///     let padded = u.pad_with_zeros(0, 1, 1)?;
///     let around = (padded.narrow(0, 0, 1000)? + padded.narrow(0, 2, 1000)?)?;
///     around - u.affine(2.0, 0.0)?
/// };
/// let heat = WithJacobian::new(heat, Jacobian::Banded { lower: 1, upper: 1 });
/// assert!(matches!(heat.jacobian(), Jacobian::Banded { lower: 1, upper: 1 }));
/// ```
#[derive(Clone, Debug)]
pub struct WithJacobian<F> {
    field: F,
    jacobian: Jacobian,
}

impl<F> WithJacobian<F> {
    /// Joins the two.
    pub fn new(field: F, jacobian: Jacobian) -> Self {
        Self { field, jacobian }
    }
}

impl<F: VectorField> VectorField for WithJacobian<F> {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.field.eval(t, y)
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.field.trace(t, y)
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        self.field.linearize(t, y)
    }

    fn supports_row_subset(&self) -> bool {
        self.field.supports_row_subset()
    }

    fn native(&self, y: &Tensor) -> Option<Native<'_>> {
        self.field.native(y)
    }

    fn jacobian(&self) -> Jacobian {
        self.jacobian.clone()
    }

    fn parts(&self) -> Option<Parts<'_>> {
        self.field.parts()
    }

    fn is_separable(&self) -> bool {
        self.field.is_separable()
    }

    fn fits(&self, y0: &Tensor) -> Result<()> {
        self.field.fits(y0)
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.field.running_statistics()
    }
}
