//! A gradient beside central differences of the discrete solution.

use aca_core::{Batching, Method, Result, Solver, Stepping, TimeSpan};
use aca_dense::SaveAt;
use candle_core::{DType, Tensor, Var};

use crate::{GradientError, Ode, OdeSolution, Untrusted};

/// An entry that was compared: its variable and place, its gradient and its difference.
type Compared = (Option<usize>, usize, f64, f64);

/// Entries of a variable that are compared at most.
const ENTRIES: usize = 100;

/// How far a gradient is from central differences of the loss, the steps held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DifferenceCheck {
    /// The largest distance of an entry, relative to the largest difference of its variable.
    pub worst: f64,
    /// The variable of that entry, by its place among the parameters; `None` for the initial state.
    pub variable: Option<usize>,
    /// The entry, counted over the variable's numbers.
    pub entry: usize,
    /// The gradient there.
    pub gradient: f64,
    /// The central difference there.
    pub difference: f64,
    /// Number of entries that were compared.
    pub entries: usize,
}

impl Ode {
    /// Compares the gradient of `loss` with central differences, with respect to every parameter and `y0`.
    ///
    /// An adaptive solve chooses other steps for other parameters, and its loss jumps where it does, so its differences
    /// are no reference. Here the accepted steps of one solve are held: the gradient of `Aca` is the derivative of exactly
    /// that map. A distance far above 1e-7 then means that a derivative is wrong: a closed form or a `pullback` of yours,
    /// a variable that `detach` cuts off, a field that is not the same function at every call.
    /// [`check_gradient`](Self::check_gradient) tells whether the tolerance is tight enough.
    ///
    /// Of variables with more than 100 entries, 100 are compared, spread evenly. An entry is shifted by 6e-6 of itself, or by
    /// 6e-6 if it is below 1: write a constant that is far smaller as its logarithm or in other units. Every variable is set to shifted values
    /// and back, so no other thread may use the field meanwhile.
    ///
    /// # Shapes
    /// `y0` and all parameters: `f64`. `loss` returns a scalar.
    ///
    /// # Gradient
    /// `Backsolve` and `NaiveThroughStepSize` differentiate something else than the map of held steps, so their distance is
    /// larger. Newton's iteration of implicit stages leaves a distance too; tighten [`Solver::newton`] to lower it.
    ///
    /// # Errors
    /// [`GradientError::DifferencesSwitching`] for [`Method::Auto`]: check with one of its methods.
    /// [`GradientError::DifferencesNeedF64`]; [`GradientError::DifferencesPerSample`] for samples that step on their own;
    /// [`GradientError::LossShape`]; whatever the solve, `loss` and its backward return.
    ///
    /// # Cost
    /// Two solves for every entry that is compared.
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
    /// let ode = Ode::new(solver, growth, vec![rate])?;
    /// let y0 = Tensor::new(&[1.0f64], &Device::Cpu)?;
    /// let check = ode.check_by_differences(&y0, (0.0, 2.0), &SaveAt::End, |sol| sol.y1.sqr()?.sum_all())?;
    /// assert!(check.worst < 1e-8, "{check:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn check_by_differences(
        &self,
        y0: &Tensor,
        span: (f64, f64),
        save_at: &SaveAt,
        loss: impl Fn(&OdeSolution) -> candle_core::Result<Tensor>,
    ) -> Result<DifferenceCheck> {
        TimeSpan::new(span.0, span.1)?;
        if self.solver().batching != Batching::Shared {
            return Err(GradientError::DifferencesPerSample.into());
        }
        if let Method::Auto(pair) = &self.solver().method {
            let [explicit, implicit] =
                [&pair.explicit, &pair.implicit].map(|of| of.name().to_owned());
            return Err(GradientError::DifferencesSwitching { explicit, implicit }.into());
        }
        let y0 = Var::from_tensor(&y0.detach())?;
        let vars: Vec<&Var> = std::iter::once(&y0).chain(self.params().vars()).collect();
        if let Some(var) = vars.iter().find(|var| var.dtype() != DType::F64) {
            return Err(GradientError::DifferencesNeedF64 { got: var.dtype() }.into());
        }
        let flagged = self.with_solver(self.solver().clone()).untrusted(Untrusted::Flag);
        let whole = loss(&flagged.solve(&y0, span, save_at)?)?;
        GradientError::check_loss(&whole)?;
        let grads = whole.backward()?;
        let held = flagged.with_solver(self.held(&y0, span)?);
        let value = || Ok(loss(&held.solve(&y0, span, save_at)?)?.to_scalar::<f64>()?);

        let mut compared = Vec::new();
        for (index, var) in vars.into_iter().enumerate() {
            let gradient = match grads.get(var) {
                Some(gradient) => gradient.flatten_all()?.to_vec1::<f64>()?,
                None => vec![0.0; var.elem_count()],
            };
            let of = |entry| -> Result<Compared> {
                let difference = central(var, entry, &value)?;
                Ok((index.checked_sub(1), entry, gradient[entry], difference))
            };
            compared.push(entries(gradient.len()).map(of).collect::<Result<Vec<_>>>()?);
        }
        Ok(worst(&compared))
    }

    /// The solver that takes the accepted steps of this problem's solve again, whatever the parameters.
    fn held(&self, y0: &Tensor, span: (f64, f64)) -> Result<Solver> {
        let step_ts = self.forward(y0, span, &SaveAt::Steps)?.0.ts;
        let max_steps = self.solver().max_steps.max(step_ts.len());
        let stepping = Stepping::FixedCount(1); // cut at the times of the grid
        Ok(Solver { step_ts, max_steps, stepping, ..self.solver().clone() })
    }
}

/// All entries of a variable, or as many as are compared at most, spread evenly.
fn entries(count: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(ENTRIES);
    (0..taken).map(move |i| i * count / taken)
}

/// The central difference of `value` by one entry of a variable, which keeps its values.
fn central(var: &Var, entry: usize, value: &impl Fn() -> Result<f64>) -> Result<f64> {
    let before = var.as_detached_tensor().copy()?;
    let entries = before.flatten_all()?.to_vec1::<f64>()?;
    let step = f64::EPSILON.cbrt() * entries[entry].abs().max(1.0);
    let shifted = |by: f64| -> Result<f64> {
        let mut entries = entries.clone();
        entries[entry] += by;
        var.set(&Tensor::from_vec(entries, before.shape(), before.device())?)?;
        value()
    };
    let both = shifted(step).and_then(|above| Ok((above, shifted(-step)?)));
    var.set(&before)?;
    let (above, below) = both?;
    // What the two states differ by, after rounding.
    let width = (entries[entry] + step) - (entries[entry] - step);
    Ok((above - below) / width)
}

/// The entry that is farthest off; one that is not a number is the farthest.
fn worst(compared: &[Vec<Compared>]) -> DifferenceCheck {
    let largest = |of: &[Compared]| of.iter().fold(0.0, |size, x| x.3.abs().max(size));
    let overall = compared.iter().map(|of| largest(of)).fold(f64::MIN_POSITIVE, f64::max);
    let entries = compared.iter().map(Vec::len).sum();
    let mut found: Option<DifferenceCheck> = None;
    for of in compared {
        // Where a variable hardly moves the loss, its differences are rounding.
        let scale = largest(of).max(1e-6 * overall);
        for &(variable, entry, gradient, difference) in of {
            let off = (gradient - difference).abs() / scale;
            if found.is_none_or(|found| off > found.worst || off.is_nan()) {
                let check =
                    DifferenceCheck { worst: off, variable, entry, gradient, difference, entries };
                found = Some(check);
            }
        }
    }
    // A state has at least one entry, or the solve was refused.
    found.unwrap_or(DifferenceCheck {
        worst: 0.0,
        variable: None,
        entry: 0,
        gradient: 0.0,
        difference: 0.0,
        entries,
    })
}
