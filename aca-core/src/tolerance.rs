//! Error tolerances.

use candle_core::{DType, Tensor};

use crate::kernels::{self, Scale};
use crate::{Error, Result};

/// Relative and absolute tolerance of a solve:
/// `scale_i = atol + rtol * max(|y0_i|, |y1_i|)` bounds the local error of entry `i`.
///
/// There is no default, because the right values depend on the problem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative tolerance, positive.
    pub rtol: f64,
    /// Absolute tolerance, positive, in the unit of the state.
    pub atol: f64,
}

/// The same tolerance for all entries of the state, or one for each.
#[derive(Clone, Debug)]
pub enum Tolerances {
    /// The same for every entry.
    Uniform(Tolerance),
    /// Tensors that broadcast to the state, for instance one value per part or channel.
    Each {
        /// Relative tolerances, positive.
        rtol: Tensor,
        /// Absolute tolerances, positive.
        atol: Tensor,
    },
}

impl Tolerance {
    /// Refuses values that are no tolerance for states of a type.
    pub(crate) fn check(&self, dtype: DType) -> Result<()> {
        check("rtol", self.rtol, dtype)?;
        check("atol", self.atol, dtype)
    }
}

impl From<Tolerance> for Tolerances {
    fn from(tolerance: Tolerance) -> Self {
        Self::Uniform(tolerance)
    }
}

impl Tolerances {
    /// The same tolerances multiplied by `factor`.
    pub(crate) fn scaled(&self, factor: f64) -> Result<Self> {
        Ok(match self {
            Self::Uniform(Tolerance { rtol, atol }) => {
                Self::Uniform(Tolerance { rtol: factor * rtol, atol: factor * atol })
            }
            Self::Each { rtol, atol } => {
                Self::Each { rtol: rtol.affine(factor, 0.0)?, atol: atol.affine(factor, 0.0)? }
            }
        })
    }

    /// Checks the values and spreads tensors over states like `y0`, once per solve.
    ///
    /// # Errors
    /// [`Error::InvalidTolerance`] or [`Error::ToleranceShape`].
    pub fn scale(&self, y0: &Tensor) -> Result<Scale> {
        match self {
            Self::Uniform(tolerance) => {
                tolerance.check(y0.dtype())?;
                let Tolerance { rtol, atol } = *tolerance;
                Ok(Scale::Uniform { rtol, atol })
            }
            Self::Each { rtol, atol } => {
                Ok(Scale::Each { rtol: spread("rtol", rtol, y0)?, atol: spread("atol", atol, y0)? })
            }
        }
    }
}

/// Refuses values that are no tolerance, or no longer one when rounded to the state's dtype.
fn check(name: &'static str, value: f64, dtype: DType) -> Result<()> {
    let rounded = if dtype == DType::F32 { f64::from(value as f32) } else { value };
    if rounded > 0.0 && rounded.is_finite() {
        Ok(())
    } else {
        Err(Error::InvalidTolerance { name, value })
    }
}

fn spread(name: &'static str, tolerance: &Tensor, y0: &Tensor) -> Result<Tensor> {
    let spread =
        tolerance.detach().to_device(y0.device())?.to_dtype(y0.dtype())?.broadcast_as(y0.shape());
    let spread = spread.map_err(|_| Error::ToleranceShape {
        name,
        got: tolerance.dims().to_vec(),
        expected: y0.dims().to_vec(),
    })?;
    let spread = spread.contiguous()?;
    for value in kernels::extremes(&spread)? {
        check(name, value, y0.dtype())?;
    }
    Ok(spread)
}
