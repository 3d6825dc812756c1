//! One gradient, found, timed and compared with the known one.

use std::time::{Duration, Instant};

use aca_adjoint::{Ode, OdeSolution};
use aca_core::{Result, Stats};
use aca_dense::SaveAt;
use aca_models::systems::{ClosedForm, System};
use candle_core::{Tensor, Var};

use super::row::Row;
use super::setting::Setting;

/// A loss whose gradient is known.
pub struct Task<S> {
    /// Name of the problem.
    pub problem: &'static str,
    /// End of the span where it is varied.
    pub end: Option<f64>,
    pub system: S,
    pub theta: Var,
    pub y0: Var,
    pub span: (f64, f64),
    pub save_at: SaveAt,
    pub loss: fn(&OdeSolution) -> Result<Tensor>,
    /// Variables whose gradient is compared.
    pub wanted: Vec<Var>,
    /// Their gradient, flat.
    pub exact: Vec<f64>,
}

/// What one solve and its gradient gave.
struct Found {
    gradient: Vec<f64>,
    stats: Stats,
    nfe_backward: usize,
}

/// Time after which a gradient is not repeated.
const LONG: Duration = Duration::from_secs(2);

impl<S: System + Copy> Task<S> {
    /// Finds the gradient in this setting, up to `reps` times on the clock. A solve that fails is a
    /// finding too.
    pub fn measure(&self, setting: &Setting, reps: usize) -> Row {
        let row = Row::new(self.problem, self.end, setting);
        match self.timed(setting, reps) {
            Ok((ms, found)) => Row {
                error: Some(self.error(&found.gradient)),
                ms: Some(ms),
                nfe_forward: found.stats.nfe,
                nfe_backward: found.nfe_backward,
                accepted: found.stats.accepted,
                rejected: found.stats.rejected,
                ..row
            },
            Err(error) => row.failed(&error),
        }
    }

    /// Median time of a solve with its whole gradient in ms, and what it found.
    fn timed(&self, setting: &Setting, reps: usize) -> Result<(f64, Found)> {
        let field = ClosedForm::new(self.system, self.theta.clone());
        let ode = Ode::new(setting.solver(), field, vec![self.theta.clone()])?;
        let ode = ode.gradient(setting.gradient());
        let (mut times, mut total) = (Vec::with_capacity(reps), Duration::ZERO);
        let mut found = self.find(&ode)?;
        while times.is_empty() || (times.len() < reps && total < LONG) {
            let start = Instant::now();
            found = self.find(&ode)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            total += start.elapsed();
        }
        times.sort_by(f64::total_cmp);
        let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
        Ok(((low + high) / 2.0, found))
    }

    fn find(&self, ode: &Ode) -> Result<Found> {
        let sol = ode.solve(&self.y0, self.span, &self.save_at)?;
        let grads = (self.loss)(&sol)?.backward()?;
        let mut gradient = Vec::new();
        for var in &self.wanted {
            let part = grads.get(var).map_or_else(|| var.zeros_like(), |part| Ok(part.clone()))?;
            gradient.extend(part.flatten_all()?.to_vec1::<f64>()?);
        }
        Ok(Found { gradient, stats: sol.stats, nfe_backward: sol.nfe_backward() })
    }

    /// Distance to the known gradient, relative to its length.
    fn error(&self, gradient: &[f64]) -> f64 {
        let off = gradient.iter().zip(&self.exact).map(|(found, exact)| found - exact);
        norm(off) / norm(self.exact.iter().copied())
    }
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}
