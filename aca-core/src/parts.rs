//! Fields of two parts, one of them stiff.

use candle_core::{Result, Tensor, Var};

use crate::{Jacobian, Time, VectorField};

/// A part of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The part that explicit stages follow.
    Nonstiff,
    /// The part that implicit stages solve for.
    Stiff,
}

/// A field's two parts, whose sum it is.
pub struct Parts<'a> {
    /// The part that explicit stages follow.
    pub nonstiff: &'a dyn VectorField,
    /// The part that implicit stages solve for.
    pub stiff: &'a dyn VectorField,
}

impl<'a> Parts<'a> {
    /// One of the two.
    pub fn get(&self, part: Part) -> &'a dyn VectorField {
        match part {
            Part::Nonstiff => self.nonstiff,
            Part::Stiff => self.stiff,
        }
    }
}

/// The sum of two fields, the second of which is stiff: for additive methods such as
/// [`KENCARP4`](aca_tableau::KENCARP4), which solve linear systems for the stiff part alone. Other methods step the sum.
///
/// # Example
/// ```
/// use aca_core::{Solver, Split, Time, Tolerance};
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let turn = |_t: &Time, y: &Tensor| y.sin();
/// let pull = |t: &Time, y: &Tensor| y.affine(-1e6, 1e6 * t.value().cos());
/// let tolerance = Tolerance { rtol: 1e-6, atol: 1e-6 };
/// let solver = Solver::adaptive(aca_tableau::KENCARP4, tolerance);
/// let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
/// let end = solver.solve(&Split { nonstiff: turn, stiff: pull }, &y0, (0.0, 1.0), &mut ())?;
/// assert!((end.y1.to_vec1::<f64>()?[0] - 1f64.cos()).abs() < 1e-5 && end.stats.accepted < 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Split<F, G> {
    /// The part that explicit stages follow.
    pub nonstiff: F,
    /// The part that implicit stages solve for.
    pub stiff: G,
}

impl<F: VectorField, G: VectorField> VectorField for Split<F, G> {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.nonstiff.eval(t, y)? + self.stiff.eval(t, y)?
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.nonstiff.trace(t, y)? + self.stiff.trace(t, y)?
    }

    fn parts(&self) -> Option<Parts<'_>> {
        Some(Parts { nonstiff: &self.nonstiff, stiff: &self.stiff })
    }

    fn jacobian(&self) -> Jacobian {
        match (self.nonstiff.jacobian(), self.stiff.jacobian()) {
            (
                Jacobian::Banded { lower, upper },
                Jacobian::Banded { lower: more_lower, upper: more_upper },
            ) => Jacobian::Banded { lower: lower.max(more_lower), upper: upper.max(more_upper) },
            // What is known of the stiff part alone is not known of the sum.
            _ => Jacobian::Unknown,
        }
    }

    fn supports_row_subset(&self) -> bool {
        self.nonstiff.supports_row_subset() && self.stiff.supports_row_subset()
    }

    fn fits(&self, y0: &Tensor) -> Result<()> {
        self.nonstiff.fits(y0)?;
        self.stiff.fits(y0)
    }

    fn running_statistics(&self) -> Vec<Var> {
        let mut all = self.nonstiff.running_statistics();
        all.extend(self.stiff.running_statistics());
        all
    }
}
