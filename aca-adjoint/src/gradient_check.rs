//! A gradient beside the same gradient at a tighter tolerance.

use aca_core::{Result, kernels};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use crate::GradientError;
use crate::Ode;

/// How a gradient differs from the same gradient at a tenth of the tolerance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientCheck {
    /// Distance of the two gradients, relative to the norm of the tighter one.
    pub difference: f64,
    /// Cosine of the angle between them: 1 for the same direction.
    pub cosine: f64,
    /// Loss at the tolerance of the `Ode`.
    pub loss: f64,
    /// Loss at a tenth of it.
    pub tighter_loss: f64,
}

impl GradientCheck {
    /// Compares two gradients of the same variables, one tensor per variable.
    ///
    /// # Errors
    /// [`GradientError::CotangentShape`] when there are not as many of both, or shapes differ.
    pub fn between(
        (loss, gradient): (f64, &[Tensor]),
        (tighter_loss, tighter): (f64, &[Tensor]),
    ) -> Result<Self> {
        if gradient.len() != tighter.len() {
            let (got, expected) = (vec![gradient.len()], vec![tighter.len()]);
            return Err(GradientError::CotangentShape { got, expected }.into());
        }
        let (mut aa, mut ab, mut bb, mut off) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in gradient.iter().zip(tighter) {
            if a.shape() != b.shape() {
                let (got, expected) = (a.dims().to_vec(), b.dims().to_vec());
                return Err(GradientError::CotangentShape { got, expected }.into());
            }
            let [a, b] = [a, b].map(|x| x.detach().to_dtype(DType::F64));
            let (a, b) = (a?, b?);
            let d = (&a - &b)?;
            aa += kernels::dot(&a, &a)?;
            ab += kernels::dot(&a, &b)?;
            bb += kernels::dot(&b, &b)?;
            off += kernels::dot(&d, &d)?;
        }
        let (difference, cosine) = match aa == 0.0 && bb == 0.0 {
            true => (0.0, 1.0),
            false => ((off / bb).sqrt(), ab / (aa * bb).sqrt()),
        };
        Ok(Self { difference, cosine, loss, tighter_loss })
    }
}

impl Ode {
    /// Finds the gradient of `loss` with respect to `vars` twice, with this `Ode` and at a tenth of its tolerance (with
    /// fixed steps at half the step), and returns how the two differ.
    ///
    /// One solve cannot see the error of its gradient: a step may cross a layer thinner than itself, where the loss
    /// hardly changes and the gradient is wrong by a factor. Check where a problem is new, where the tolerance is loose,
    /// and where [`GradientReport::growth`](crate::GradientReport::growth) is above some 3.
    ///
    /// `loss` solves with the `Ode` that it gets and returns a scalar; it is called twice. A gradient that cannot be
    /// trusted is flagged here, not refused. [`check_by_differences`](Self::check_by_differences) finds wrong derivatives.
    ///
    /// # Errors
    /// [`GradientError::LossShape`]; whatever `loss` and its backward return.
    ///
    /// # Cost
    /// One gradient more, at a tenth of the tolerance: half as many steps again for a method of order 5.
    ///
    /// # Example
    /// ```
    /// use aca_adjoint::Ode;
    /// use aca_core::{Solver, Time, Tolerance};
    /// use aca_dense::SaveAt;
    /// use candle_core::{Device, Tensor, Var};
    ///
    /// # fn main() -> aca_core::Result<()> {
    /// let rate = Var::new(&[0.5f64], &Device::Cpu)?;
    /// let k = rate.clone();
    /// let growth = move |_t: &Time, y: &Tensor| y.broadcast_mul(&k);
    /// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-4, atol: 1e-4 });
    /// let ode = Ode::new(solver, growth, vec![rate.clone()])?;
    /// let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
    /// let check = ode.check_gradient(&[rate], |ode| {
    ///     ode.solve(&y0, (0.0, 2.0), &SaveAt::End)?.y1.sum_all()
    /// })?;
    /// assert!(check.difference < 1e-3 && check.cosine > 0.999);
    /// # Ok(())
    /// # }
    /// ```
    pub fn check_gradient(
        &self,
        vars: &[Var],
        loss: impl Fn(&Self) -> candle_core::Result<Tensor>,
    ) -> Result<GradientCheck> {
        let gradient = |ode: &Self| -> Result<(f64, Vec<Tensor>)> {
            let loss = loss(ode)?;
            GradientError::check_loss(&loss)?;
            let grads: GradStore = loss.backward()?;
            let of = |var: &Var| {
                Ok(grads.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()))?)
            };
            let gradient = vars.iter().map(of).collect::<Result<_>>()?;
            Ok((loss.to_dtype(DType::F64)?.to_scalar()?, gradient))
        };
        let flagged = |ode: Self| ode.untrusted(crate::Untrusted::Flag);
        let (loss, plain) = gradient(&flagged(self.with_solver(self.solver().clone())))?;
        let (tighter_loss, tighter) = gradient(&flagged(self.tightened(0.1)?))?;
        GradientCheck::between((loss, &plain), (tighter_loss, &tighter))
    }
}
