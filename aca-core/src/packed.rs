//! States of several tensors.

use candle_core::{Result, Tensor, Var, bail};

use crate::{Time, Tolerance, Tolerances, VectorField};

/// The shapes of a state's parts, packed one after another into the one tensor that a solve works on.
///
/// # Example
/// ```
/// use aca_core::{Packing, Solver, Time, Tolerance};
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let (angle, speed) = (Tensor::new(&[0.1f64], &Device::Cpu)?, Tensor::new(&[0.0f64], &Device::Cpu)?);
/// let (packing, y0) = Packing::pack(&[angle, speed])?;
/// let pendulum = packing.field(|_t: &Time, y: &[Tensor]| Ok(vec![y[1].clone(), y[0].sin()?.neg()?]));
/// let tight = Tolerance { rtol: 1e-9, atol: 1e-9 };
/// let loose = Tolerance { rtol: 1e-3, atol: 1e-3 };
/// let solver = Solver::adaptive(aca_tableau::DOPRI5, packing.tolerances(&[tight, loose], &y0)?);
/// let end = solver.solve(&pendulum, &y0, (0.0, 1.0), &mut ())?;
/// assert_eq!(packing.unpack(&end.y1)?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Packing(Vec<Vec<usize>>);

impl Packing {
    /// Returns the packing of `parts` and the packed state.
    ///
    /// # Shapes
    /// Parts: any, of one dtype and device; the packed state: `[sum of their sizes]`.
    ///
    /// # Errors
    /// Those of candle when dtypes or devices differ.
    pub fn pack(parts: &[Tensor]) -> Result<(Self, Tensor)> {
        let packing = Self(parts.iter().map(|part| part.dims().to_vec()).collect());
        Ok((packing, join(parts)?))
    }

    /// Returns the parts of a packed state, or of packed outputs `[times, size]`: views, which keep
    /// candle's graph.
    ///
    /// # Errors
    /// When the last dimension is not the size of the packing.
    pub fn unpack(&self, y: &Tensor) -> Result<Vec<Tensor>> {
        let (outer, size) = match y.dims() {
            [outer @ .., size] => (outer.to_vec(), *size),
            [] => (Vec::new(), 1),
        };
        if size != self.size() {
            bail!("a packed state has {} numbers, but the last dimension is {size}", self.size());
        }
        let mut start = 0;
        let mut parts = Vec::with_capacity(self.0.len());
        for shape in &self.0 {
            let length = shape.iter().product();
            let part = y.narrow(outer.len(), start, length)?;
            parts.push(part.reshape([outer.as_slice(), shape.as_slice()].concat())?);
            start += length;
        }
        Ok(parts)
    }

    /// Makes a field on packed states from a function on their parts.
    pub fn field<F>(&self, parts: F) -> PackedField<F>
    where
        F: Fn(&Time, &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync,
    {
        PackedField { packing: self.clone(), parts, statistics: Vec::new() }
    }

    /// Returns tolerances for packed states like `y0`, one for each part.
    ///
    /// # Errors
    /// When there are not as many tolerances as parts.
    pub fn tolerances(&self, parts: &[Tolerance], y0: &Tensor) -> Result<Tolerances> {
        if parts.len() != self.0.len() {
            bail!("{} tolerances came for a state of {} parts", parts.len(), self.0.len());
        }
        let spread = |pick: fn(&Tolerance) -> f64| -> Result<Tensor> {
            let parts = self.0.iter().zip(parts).map(|(shape, tolerance)| {
                let length: usize = shape.iter().product();
                Tensor::full(pick(tolerance), length, y0.device())?.to_dtype(y0.dtype())
            });
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        };
        Ok(Tolerances::Each { rtol: spread(|t| t.rtol)?, atol: spread(|t| t.atol)? })
    }

    fn size(&self) -> usize {
        self.0.iter().map(|shape| shape.iter().product::<usize>()).sum()
    }
}

/// A field on the parts of packed states; see [`Packing::field`].
pub struct PackedField<F> {
    packing: Packing,
    parts: F,
    statistics: Vec<Var>,
}

impl<F> PackedField<F> {
    /// Names the variables that hold running statistics, as
    /// [`VectorField::running_statistics`] lists them.
    pub fn with_statistics(self, statistics: Vec<Var>) -> Self {
        Self { statistics, ..self }
    }
}

impl<F> VectorField for PackedField<F>
where
    F: Fn(&Time, &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync,
{
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        if t.samples().is_some() {
            bail!(
                "a packed state is one system, and its numbers have no steps of their own; solve it with Batching::Shared"
            );
        }
        let slopes = (self.parts)(t, &self.packing.unpack(y)?)?;
        let shapes: Vec<_> = slopes.iter().map(|slope| slope.dims().to_vec()).collect();
        if shapes != self.packing.0 {
            bail!(
                "the field returned parts of shapes {shapes:?} for a state of {:?}",
                self.packing.0
            );
        }
        join(&slopes)
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.statistics.clone()
    }
}

fn join(parts: &[Tensor]) -> Result<Tensor> {
    let flat = parts.iter().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&flat, 0)
}
