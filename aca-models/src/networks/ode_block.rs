//! A layer that solves an ODE.

use std::sync::Arc;

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::kernels::Element;
use aca_core::{
    Jacobian, Method, Native, NativeField, NativeTime, Parts, Pullback, Stepping, Time, VectorField,
};
use aca_dense::SaveAt;
use candle_core::{Tensor, Var};

use super::OdeOptions;
use super::evaluations::Meter;
use super::variables::Scope;
use crate::Result;

/// Maps a state at the start of a span to that at its end.
pub(super) struct OdeBlock {
    field: Metered,
    variables: Vec<Var>,
    is_eval: bool,
    ode: Ode,
    span: (f64, f64),
    save_at: SaveAt,
}

impl OdeBlock {
    /// A block over `field`, which reads `variables`, counted at the place `scope`.
    pub(super) fn new(
        scope: &Scope<'_>,
        field: impl VectorField + 'static,
        variables: Vec<Var>,
        options: &OdeOptions,
    ) -> Result<Self> {
        let field = Metered { field: Arc::new(field), meter: scope.meter() };
        let is_eval = scope.is_eval();
        let ode = ode(&field, &variables, options, is_eval)?;
        let (span, save_at) = (options.span, save_at(options));
        Ok(Self { field, variables, is_eval, ode, span, save_at })
    }

    /// Solves in another way from now on.
    pub(super) fn set(&mut self, options: &OdeOptions) -> Result<()> {
        self.ode = ode(&self.field, &self.variables, options, self.is_eval)?;
        (self.span, self.save_at) = (options.span, save_at(options));
        Ok(())
    }

    /// Replaces how it solves by `other`, which is returned in its place.
    pub(super) fn swap(&mut self, other: Ode) -> Ode {
        std::mem::replace(&mut self.ode, other)
    }

    /// How it solves, at a tenth of the tolerance or at half the step.
    pub(super) fn tightened(&self) -> Result<Ode> {
        Ok(self.ode.tightened(0.1)?)
    }

    /// The name of a method that adapts its steps, forward or backward.
    pub(super) fn adaptive_method(&self) -> Option<&str> {
        let backward = match &self.ode.gradient {
            Gradient::Backsolve(Backsolve { solver, .. }) => solver.as_deref(),
            _ => None,
        };
        let mut solvers = [Some(self.ode.solver()), backward].into_iter().flatten();
        let adaptive = solvers.find(|solver| matches!(solver.stepping, Stepping::Adaptive(_)))?;
        Some(adaptive.method.name())
    }

    /// How it solves and differentiates.
    pub(super) fn settings(&self) -> String {
        let (solver, gradient) = (self.ode.solver(), &self.ode.gradient);
        format!("{solver:?} {gradient:?} {:?} {:?}", self.span, self.save_at)
    }

    pub(super) fn forward(&self, y0: &Tensor) -> Result<Tensor> {
        self.field.meter.solving(true);
        let solution = self.ode.solve(y0, self.span, &self.save_at);
        self.field.meter.solving(false);
        let solution = solution?;
        self.field.meter.solved(solution.stats, self.span);
        Ok(solution.ys.get(0)?)
    }
}

fn save_at(options: &OdeOptions) -> SaveAt {
    if options.multi_time { SaveAt::Times(vec![options.span.1]) } else { SaveAt::End }
}

fn ode(field: &Metered, variables: &[Var], options: &OdeOptions, is_eval: bool) -> Result<Ode> {
    let gradient = match &options.gradient {
        // The strategies differ in what they keep for a backward that does not come; only the leapfrog
        // steps in a way of its own.
        Gradient::Mali => Gradient::Mali,
        _ if is_eval && matches!(options.solver.method, Method::Leapfrog) => Gradient::Mali,
        _ if is_eval => Gradient::Aca,
        gradient => gradient.clone(),
    };
    Ok(Ode::new(options.solver.clone(), field.clone(), variables.to_vec())?.gradient(gradient))
}

/// A field whose evaluations are counted.
#[derive(Clone)]
struct Metered {
    field: Arc<dyn VectorField>,
    meter: Arc<Meter>,
}

impl VectorField for Metered {
    fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.meter.evaluated();
        self.field.eval(t, y)
    }

    fn trace(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.meter.evaluated();
        self.field.trace(t, y)
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> candle_core::Result<(Tensor, Pullback<'_>)> {
        self.meter.evaluated();
        self.field.linearize(t, y)
    }

    fn is_separable(&self) -> bool {
        self.field.is_separable()
    }

    fn parts(&self) -> Option<Parts<'_>> {
        self.field.parts()
    }

    fn jacobian(&self) -> Jacobian {
        self.field.jacobian()
    }

    fn supports_row_subset(&self) -> bool {
        self.field.supports_row_subset()
    }

    fn native(&self, y: &Tensor) -> Option<Native<'_>> {
        let meter = &*self.meter;
        Some(match self.field.native(y)? {
            Native::F32(field) => Native::F32(Box::new(MeteredSlices { field, meter })),
            Native::F64(field) => Native::F64(Box::new(MeteredSlices { field, meter })),
        })
    }

    fn fits(&self, y0: &Tensor) -> candle_core::Result<()> {
        self.field.fits(y0)
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.field.running_statistics()
    }
}

/// The same on slices.
struct MeteredSlices<'a, T> {
    field: Box<dyn NativeField<T> + 'a>,
    meter: &'a Meter,
}

impl<T: Element> NativeField<T> for MeteredSlices<'_, T> {
    fn eval(&mut self, t: NativeTime<'_>, y: &[T], dy: &mut [T]) {
        self.field.eval(t, y, dy);
    }

    fn pull(
        &mut self,
        t: NativeTime<'_>,
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
        t_bar: &mut [f64],
    ) {
        // A replay evaluates a stage and pulls back through it, which on tensors is one evaluation; those of a
        // forward solve are told by its statistics.
        self.meter.evaluated();
        self.field.pull(t, y, lambda, y_bar, theta_bar, t_bar);
    }

    fn variables(&self) -> Vec<Var> {
        self.field.variables()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
mod tests {
    use aca_core::Solver;
    use aca_tableau::DOPRI5;
    use candle_core::Device;

    use super::*;
    use crate::systems::LotkaVolterra;

    /// Evaluations by the meter and by the solution, forward and backward, of a block's field.
    fn counted(field: Metered, theta: &Var) -> [usize; 2] {
        let ode = Ode::new(Solver::fixed(DOPRI5, 0.1), field.clone(), vec![theta.clone()]).unwrap();
        let y0 = Tensor::new(&[1.2f64, 1.8], &Device::Cpu).unwrap();
        field.meter.solving(true);
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        field.meter.solving(false);
        sol.y1.sum_all().unwrap().backward().unwrap();
        [field.meter.read().nfe_backward, sol.nfe_backward()]
    }

    #[test]
    fn a_metered_field_offers_slices_and_counts_on_them() {
        let field = LotkaVolterra::field([0.5, 0.6, 0.7, 0.8]).unwrap();
        let theta = field.theta().clone();
        let metered = Metered { field: Arc::new(field), meter: Arc::default() };
        let y = Tensor::new(&[1.2f64, 1.8], &Device::Cpu).unwrap();
        assert!(matches!(metered.native(&y), Some(Native::F64(_))));
        assert!(metered.fits(&y.narrow(0, 0, 1).unwrap()).is_err());
        let [metered, solution] = counted(metered, &theta);
        assert_eq!((metered, solution), (60, 60), "six stages of ten steps have a weight");
    }
}
