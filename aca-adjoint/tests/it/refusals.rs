//! What a gradient refuses rather than getting wrong.

use aca_adjoint::{Backsolve, Gradient, GradientError, Ode};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{Solver, Time, VectorField};
use aca_dense::SaveAt;
use aca_tableau::DOPRI5;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{BatchNorm, ModuleT, VarBuilder, VarMap};

use crate::common::{Mlp, adaptive, loss, state};

#[test]
fn an_unlisted_variable_is_refused() {
    let field = Mlp::new(DType::F64);
    let ode = Ode::new(adaptive(&DOPRI5, 1e-6), Mlp::new(DType::F64), field.vars()).unwrap();
    let error = ode.solve(&state(DType::F64), (0.0, 1.0), &SaveAt::End).map(|_| ()).unwrap_err();
    assert!(
        matches!(GradientError::of(&error), Some(GradientError::UnlistedVariable { shape }) if shape.len() == 2)
    );
    let text = error.to_string();
    assert!(
        text.ends_with(
            "that is not among the parameters, so its gradient would be lost; list it if the field owns \
             it, and if it belongs to a network whose output the field captures, carry that output in \
             the state (example 10_coefficients_from_a_network)"
        ),
        "{text}"
    );
}

#[test]
fn parameters_of_two_dtypes_are_refused() {
    let vars = [Mlp::new(DType::F64).vars(), Mlp::new(DType::F32).vars()].concat();
    let error =
        Ode::new(adaptive(&DOPRI5, 1e-6), Mlp::new(DType::F64), vars).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter 2 has dtype f32, the first has f64; all parameters of a field share one dtype"
    );
}

/// Counts its evaluations in a variable, as batch norm does its running mean.
struct Counting {
    count: Var,
}

impl VectorField for Counting {
    fn eval(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        self.count.set(&(self.count.as_tensor() + 1.0)?.detach())?;
        y.sin()
    }

    fn running_statistics(&self) -> Vec<Var> {
        vec![self.count.clone()]
    }
}

#[test]
fn backward_leaves_running_statistics_alone() {
    let backsolve = Gradient::Backsolve(Backsolve::default());
    for gradient in [Gradient::Aca, Gradient::AcaBudget { checkpoints: 2 }, backsolve] {
        let count = Var::zeros(1, DType::F64, &Device::Cpu).unwrap();
        let field = Counting { count: count.clone() };
        let ode = Ode::new(adaptive(&DOPRI5, 1e-6), field, vec![]).unwrap();
        let ode = ode.gradient(gradient.clone());
        let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
        let read = || count.to_vec1::<f64>().unwrap()[0];
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
        // One evaluation at the start and six per step: neither the look at the field's variables nor
        // the search for the first step leaves a trace.
        assert_eq!(read(), 1.0 + 6.0 * sol.stats.accepted as f64, "{gradient:?}");
        let before = read();
        loss(&sol.y1).backward().unwrap();
        assert_eq!(read(), before, "{gradient:?}");
        assert!(sol.nfe_backward() > 0, "{gradient:?}: nothing ran backward");
    }
}

#[test]
fn mali_lets_running_statistics_follow_its_accepted_steps_alone() {
    let count = Var::zeros(1, DType::F64, &Device::Cpu).unwrap();
    let solver = Solver { first_step: Some(1.0), ..adaptive(&ALF, 1e-3) };
    let ode = Ode::new(solver, Counting { count: count.clone() }, vec![]).unwrap();
    let ode = ode.gradient(Gradient::Mali);
    let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
    let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
    assert!(sol.stats.rejected > 0, "a solve without rejections shows little");
    let expected = 1.0 + sol.stats.accepted as f64;
    assert_eq!(count.to_vec1::<f64>().unwrap()[0], expected);
    loss(&sol.y1).backward().unwrap();
    assert_eq!(count.to_vec1::<f64>().unwrap()[0], expected);
}

/// Batch norm in training mode as a field.
struct Normalised {
    norm: BatchNorm,
}

impl Normalised {
    fn new() -> Self {
        let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F64, &Device::Cpu);
        Self { norm: candle_nn::batch_norm(3, 1e-5, vb).unwrap() }
    }

    fn statistics(&self) -> Vec<Vec<f64>> {
        self.running_statistics().iter().map(|var| var.to_vec1().unwrap()).collect()
    }
}

impl VectorField for Normalised {
    fn eval(&self, _t: &Time, y: &Tensor) -> Result<Tensor> {
        self.norm.forward_t(y, true)?.sin()? + (y * 4.0)?.cos()?
    }

    fn running_statistics(&self) -> Vec<Var> {
        let both = [self.norm.running_mean(), self.norm.running_var()];
        both.iter().map(|x| Var::from_tensor(x).unwrap()).collect()
    }
}

#[test]
fn batch_norm_advances_with_accepted_steps_and_not_in_backward() {
    let y0 = Var::from_tensor(&(state(DType::F64) * 5.0).unwrap()).unwrap();
    let solver = aca_core::Solver { first_step: Some(1.0), ..adaptive(&DOPRI5, 1e-7) };
    let field = Arc::new(Normalised::new());
    let mut grid = aca_adjoint::Grid::default();
    let stats = solver.solve(&*field, &y0, (0.0, 2.0), &mut grid).unwrap().stats;
    assert!(stats.rejected > 0, "a solve without rejections shows little");

    let replayed = Normalised::new();
    solver.replay(&replayed, &y0, &grid.0, &mut ()).unwrap();
    assert_eq!(field.statistics(), replayed.statistics());

    let shared = field.clone();
    let vars = vec![Var::from_tensor(field.norm.weight_and_bias().unwrap().0).unwrap()];
    let all = [vars, field.running_statistics()].concat();
    let bias = Var::from_tensor(field.norm.weight_and_bias().unwrap().1).unwrap();
    let ode = Ode::new(solver, Shared(shared), [all, vec![bias]].concat()).unwrap();
    let sol = ode.solve(&y0, (0.0, 2.0), &SaveAt::Times(vec![0.3, 2.0])).unwrap();
    let before = field.statistics();
    loss(&sol.ys).backward().unwrap();
    assert_eq!(field.statistics(), before);
}

/// A field that the test keeps a hold of.
struct Shared(Arc<Normalised>);

impl VectorField for Shared {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.eval(t, y)
    }

    fn running_statistics(&self) -> Vec<Var> {
        self.0.running_statistics()
    }
}

#[test]
fn a_backward_solver_that_cannot_solve_is_refused_by_the_forward_solve() {
    let per_sample = Solver { batching: aca_core::Batching::PerSample, ..adaptive(&DOPRI5, 1e-3) };
    for (solver, words) in [
        (adaptive(&DOPRI5, f64::NAN), "rtol"),
        (per_sample, "steps of the samples' own on the way back"),
    ] {
        let gradient =
            Gradient::Backsolve(Backsolve { solver: Some(Box::new(solver)), ..Default::default() });
        let field = |_: &Time, y: &Tensor| y.neg();
        let ode = Ode::new(adaptive(&DOPRI5, 1e-3), field, vec![]).unwrap().gradient(gradient);
        let refusal = ode.forward(&state(DType::F64), (0.0, 1.0), &SaveAt::End).err().unwrap();
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
}
