use aca_core::Time;
use candle_core::{D, Result, Tensor};

use super::closed_form::GpuKernels;
use super::{ClosedForm, Real, System};

/// The damped cubic spiral `dy/dt = A y^3` (cubes entry by entry), a common first task for neural
/// ODEs.
#[derive(Clone, Copy, Debug, Default)]
pub struct CubicSpiral;

impl CubicSpiral {
    /// `A`, row by row, of the demonstration in Chen et al., "Neural Ordinary Differential
    /// Equations" (2018).
    pub const CLASSIC: [f64; 4] = [-0.1, -2.0, 2.0, -0.1];

    /// Returns the field with matrix `a`, row by row.
    pub fn field(a: [f64; 4]) -> Result<ClosedForm<Self>> {
        ClosedForm::from_slice(Self, &a)
    }
}

impl System for CubicSpiral {
    const DIM: usize = 2;
    const PARAMS: usize = 4;
    const AUTONOMOUS: bool = true;

    #[inline]
    fn slope<T: Real>(&self, _t: f64, a: &[T], y: &[T], dy: &mut [T]) {
        let (u, v) = (y[0] * y[0] * y[0], y[1] * y[1] * y[1]);
        dy[0] = a[0] * u + a[1] * v;
        dy[1] = a[2] * u + a[3] * v;
    }

    #[inline]
    fn pullback<T: Real>(
        &self,
        _t: f64,
        a: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        a_bar: &mut [T],
    ) -> T {
        let three = T::from_f64(3.0);
        for i in 0..2 {
            let square = y[i] * y[i];
            y_bar[i] = three * square * (a[i] * lambda[0] + a[2 + i] * lambda[1]);
            a_bar[i] += lambda[0] * square * y[i];
            a_bar[2 + i] += lambda[1] * square * y[i];
        }
        T::zero()
    }

    fn trace(&self, _t: &Time, a: &Tensor, y: &Tensor) -> Result<Tensor> {
        let cubes = (y.sqr()? * y)?;
        let row =
            |i: usize| cubes.broadcast_mul(&a.narrow(D::Minus1, 2 * i, 2)?)?.sum_keepdim(D::Minus1);
        Tensor::cat(&[row(0)?, row(1)?], D::Minus1)
    }

    fn kernels(&self) -> Option<GpuKernels> {
        Some(GpuKernels("CubicSpiral"))
    }
}
