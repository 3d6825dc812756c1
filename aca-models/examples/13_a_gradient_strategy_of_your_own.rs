//! How do I write a gradient strategy? This one goes back step by step through candle's own graph: the algorithm of the
//! original code, in the memory of one step's graph.
#![allow(clippy::print_stdout, reason = "examples talk")]

use std::sync::Arc;

use aca_adjoint::{
    Backward, Checkpoints, Gradient, GradientError, Gradients, Ode, Outputs, Params, Recorded,
    Solve, Strategy,
};
use aca_core::{
    Evaluator, Result, Solver, Stepper, Steps, TensorStages, Time, Tolerance, VectorField,
};
use aca_dense::SaveAt;
use candle_core::{Device, Tensor, Var};

#[derive(Debug)]
struct StepByStep;

struct Kept {
    stepper: Stepper,
    field: Arc<dyn VectorField>,
    params: Params,
    y0: Tensor,
    steps: Checkpoints,
}

impl Strategy for StepByStep {
    fn record(&self, solve: &Solve<'_>) -> Result<Recorded> {
        let mut steps = Checkpoints::default();
        let solution = solve.run(&mut steps)?;
        let stepper = Stepper::new(solve.solver(), solve.y0().dtype())?;
        let (field, params) = (solve.field().clone(), solve.params().clone());
        let kept = Kept { stepper, field, params, y0: solve.y0().detach(), steps };
        Ok((solution, Arc::new(kept)))
    }
}

impl Backward for Kept {
    fn pullback(&self, outputs: &Outputs, g: &Tensor, want_times: bool) -> Result<Gradients> {
        let at = outputs.placements();
        if want_times || at.iter().any(|output| output.is_inside()) {
            let what = "outputs inside steps, or gradients of times";
            return Err(GradientError::Unsupported { strategy: "StepByStep", what }.into());
        }
        let field = Evaluator::new(self.field.as_ref(), &self.y0)?.tracing(true);
        let mut a = self.y0.zeros_like()?;
        let mut theta = self
            .params
            .vars()
            .iter()
            .map(|var| var.zeros_like())
            .collect::<candle_core::Result<Vec<_>>>()?;
        for (step, kept) in self.steps.of_sample(0)?.iter().enumerate().rev() {
            let outputs = at.iter().enumerate().filter(|(_, at)| at.step == step && at.s == 1.0);
            a = outputs.into_iter().try_fold(a, |a, (m, _)| a + g.get(m)?)?;
            let (y0, ends) = (Var::from_tensor(&kept.y0)?, Steps::whole(kept.t0, kept.t1));
            let mut stages = TensorStages::new(&self.stepper, &field, (&ends, &y0), Vec::new());
            stages.fill(self.stepper.stages())?;
            let grads = stages.end()?.mul(&a)?.sum_all()?.backward()?;
            a = grads.get(&y0).map_or_else(|| y0.zeros_like(), |g| Ok(g.detach()))?;
            for (sum, var) in theta.iter_mut().zip(self.params.vars()) {
                *sum = grads.get(var).map_or(Ok(sum.clone()), |g| &*sum + g.detach())?;
            }
        }
        let starts = at.iter().enumerate().filter(|(_, at)| at.step == 0 && at.s == 0.0);
        a = starts.into_iter().try_fold(a, |a, (m, _)| a + g.get(m)?)?;
        Ok(Gradients::new(a, theta, field.nfe()))
    }
}

fn main() -> Result<()> {
    aca_adjoint::init();
    for gradient in [Gradient::Aca, Gradient::Custom(Arc::new(StepByStep))] {
        let rate = Var::new(&[0.5f64], &Device::Cpu)?;
        let k = rate.clone();
        let logistic = move |_t: &Time, y: &Tensor| y.broadcast_mul(&k)?.mul(&(1.0 - y)?);
        let solver = Solver::adaptive(aca_tableau::TSIT5, Tolerance { rtol: 1e-8, atol: 1e-8 });
        let ode = Ode::new(solver, logistic, vec![rate.clone()])?.gradient(gradient.clone());
        let y0 = Var::new(&[0.1f64, 0.7], &Device::Cpu)?;
        let loss = ode.solve(&y0, (0.0, 4.0), &SaveAt::End)?.y1.sqr()?.sum_all()?;
        let grads = loss.backward()?;
        let numbers = |var: &Var| grads.get(var).map(|g| g.to_vec1::<f64>()).transpose();
        println!("{gradient:?}: dL/dy0 {:?}, dL/dk {:?}", numbers(&y0)?, numbers(&rate)?);
    }
    Ok(())
}
