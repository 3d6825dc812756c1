//! Schemes of the user's: implicit ones included.

use aca_adjoint::{Gradient, GradientError, Ode};
use aca_core::{
    Batching, Error, Facts, Half, Interpolant, Method, Result, Scheme, Solver, Splitting,
    StageCotangents, Stages, Time, Tolerance, VectorField,
};
use aca_dense::SaveAt;
use candle_core::{DType, Device, Tensor, Var};
use std::sync::Arc;

use crate::common::{Mlp, distance, loss, state};

/// `k = f(t + h/2, y0 + h/2 k)`, `y1 = y0 + h k`, by iteration to rounding.
#[derive(Debug)]
struct ImplicitMidpoint;

const ROUNDS: usize = 200;

impl Scheme for ImplicitMidpoint {
    fn name(&self) -> &str {
        "implicit_midpoint"
    }

    fn facts(&self) -> Facts {
        let b = vec![1.0];
        let interpolant = Interpolant::hermite_with_ends(2, &b);
        Facts { error_order: None, b_error: None, interpolant, b }
    }

    fn fill(&self, stages: &mut dyn Stages) -> Result<()> {
        stages.evaluate(0.5, &[], None)?;
        for _ in 0..ROUNDS {
            if stages.renew(0, 0.5, &[0.5])? < 1e-14 {
                return Ok(());
            }
        }
        let (method, what) = (self.name().to_owned(), "the iteration does not end".to_owned());
        Err(Error::SchemeFailed { method, what })
    }

    fn pull(&self, cotangents: &mut dyn StageCotangents) -> Result<()> {
        for _ in 0..ROUNDS {
            if cotangents.settle(0, &[0.5])? < 1e-14 {
                break;
            }
        }
        cotangents.pull(0, &[0.5])
    }
}

fn midpoint(steps: usize) -> Solver {
    Solver::fixed_count(Method::Custom(Arc::new(ImplicitMidpoint)), steps)
}

#[test]
fn the_implicit_midpoint_rule_has_order_two_and_keeps_the_length_of_a_rotation() {
    let spin = |_t: &Time, y: &Tensor| Tensor::stack(&[y.get(1)?, y.get(0)?.neg()?], 0);
    let y0 = Tensor::new(&[1.0f64, 0.0], &Device::Cpu).unwrap();
    let end = |steps: usize| midpoint(steps).solve(&spin, &y0, (0.0, 2.0), &mut ()).unwrap().y1;
    let exact = Tensor::new(&[2f64.cos(), -2f64.sin()], &Device::Cpu).unwrap();
    let error = |steps: usize| distance(&end(steps), &exact);
    assert!(((error(20) / error(40)).log2() - 2.0).abs() < 0.05);
    let length = end(7).sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    assert!((length - 1.0).abs() < 1e-12, "{length}");
}

#[test]
fn its_gradient_is_that_of_finite_differences_for_whole_states_and_samples() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let times = SaveAt::Times(vec![0.0, 0.33, 1.0]);
        let solver = Solver { batching, ..midpoint(6) };
        let y0 = Var::from_tensor(&state(DType::F64)).unwrap();
        let field = Mlp::new(DType::F64);
        let vars = field.vars();
        let ode = Ode::new(solver, field, vars.clone()).unwrap().gradient(Gradient::Aca);
        let value = || loss(&ode.solve(&y0, (0.0, 1.0), &times).unwrap().ys);
        let grads = value().backward().unwrap();
        let along = Tensor::ones(vars[0].shape(), DType::F64, &Device::Cpu).unwrap();
        let found = grads.get(&vars[0]).unwrap().mul(&along).unwrap().sum_all().unwrap();
        let found = found.to_scalar::<f64>().unwrap();
        let start = vars[0].as_tensor().copy().unwrap();
        let at = |step: f64| {
            vars[0].set(&(&start + (&along * step).unwrap()).unwrap()).unwrap();
            let value = value().to_scalar::<f64>().unwrap();
            vars[0].set(&start).unwrap();
            value
        };
        let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!(
            (found - difference).abs() < 1e-8 * difference.abs().max(1.0),
            "{batching:?}: {found}, {difference}"
        );
    }
}

#[test]
fn the_same_scheme_runs_on_native_fields_to_the_same_bits_of_the_solution() {
    use closed_form::Decay;
    let y0 = Tensor::new(&[1.0f64, -2.0], &Device::Cpu).unwrap();
    let native = midpoint(5).solve(&Decay { native: true }, &y0, (0.0, 1.0), &mut ()).unwrap().y1;
    let tensors = midpoint(5).solve(&Decay { native: false }, &y0, (0.0, 1.0), &mut ()).unwrap().y1;
    assert_eq!(native.to_vec1::<f64>().unwrap(), tensors.to_vec1::<f64>().unwrap());
    let gradient = |native: bool| {
        let y0 = Var::from_tensor(&y0).unwrap();
        let ode = Ode::new(midpoint(5), Decay { native }, vec![]).unwrap();
        let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::Times(vec![0.3, 1.0])).unwrap();
        loss(&sol.ys).backward().unwrap().get(&y0).unwrap().clone()
    };
    assert!(distance(&gradient(true), &gradient(false)) < 1e-14);
}

#[test]
fn facts_that_do_not_fit_are_refused() {
    #[derive(Debug)]
    struct Wrong;
    impl Scheme for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }
        fn facts(&self) -> Facts {
            let interpolant = Interpolant::hermite_with_ends(1, &[1.0, 2.0]);
            Facts { error_order: None, b: vec![1.0], b_error: None, interpolant }
        }
        fn fill(&self, _stages: &mut dyn Stages) -> Result<()> {
            Ok(())
        }
        fn pull(&self, _cotangents: &mut dyn StageCotangents) -> Result<()> {
            Ok(())
        }
    }
    let solver = Solver::fixed(Method::Custom(Arc::new(Wrong)), 0.1);
    assert!(matches!(solver.validate().unwrap_err(), Error::InvalidScheme { .. }));
}

/// Verlet's method, by halves of slopes.
#[derive(Debug)]
struct Verlet;

impl Scheme for Verlet {
    fn name(&self) -> &str {
        "verlet by hand"
    }

    fn facts(&self) -> Facts {
        let b = vec![0.5, 1.0, 0.5];
        let interpolant = Interpolant::hermite_with_ends(2, &b);
        Facts { error_order: None, b_error: None, interpolant, b }
    }

    fn fill(&self, stages: &mut dyn Stages) -> Result<()> {
        stages.evaluate(0.0, &[], Some(Half::Second))?;
        stages.evaluate(0.5, &[0.5], Some(Half::First))?;
        stages.evaluate(1.0, &[0.5, 1.0], Some(Half::Second))
    }

    fn pull(&self, cotangents: &mut dyn StageCotangents) -> Result<()> {
        cotangents.pull(2, &[0.0, 0.0, 0.0])?;
        cotangents.pull(1, &[0.0, 0.0, 1.0])?;
        cotangents.pull(0, &[0.0, 0.5, 0.5])
    }
}

#[test]
fn halves_of_slopes_have_the_gradient_of_the_built_in_splitting() {
    let field = |_t: &Time, y: &Tensor| {
        let (q, p) = (y.narrow(1, 0, 2)?, y.narrow(1, 2, 2)?);
        Tensor::cat(&[&p, &(q.sin()?.neg()? - (&p * 0.1)?)?], 1)
    };
    for batching in [Batching::Shared, Batching::PerSample] {
        let gradient = |method: Method| {
            let y0 = [[0.5f64, -0.2, 0.3, 0.7], [0.1, 0.9, -0.4, 0.2]];
            let y0 = Var::new(&y0, &Device::Cpu).unwrap();
            let solver = Solver { batching, ..Solver::fixed_count(method, 9) };
            let ode = Ode::new(solver, field, vec![]).unwrap();
            let sol = ode.solve(&y0, (0.0, 1.0), &SaveAt::Times(vec![0.3, 1.0])).unwrap();
            loss(&sol.ys).backward().unwrap().get(&y0).unwrap().clone()
        };
        let own = gradient(Method::Custom(Arc::new(Verlet)));
        assert!(distance(&own, &gradient(Splitting::VERLET.into())) < 1e-13, "{batching:?}");
    }
}

#[test]
fn gradients_of_times_are_refused() {
    let y0 = state(DType::F64);
    let ts = Var::new(&[0.0f64, 0.5, 1.0], &Device::Cpu).unwrap();
    let field = Mlp::new(DType::F64);
    let vars = field.vars();
    let ode = Ode::new(midpoint(6), field, vars).unwrap();
    let error = ode.solve_times(&y0, &ts).err().unwrap();
    assert!(
        matches!(GradientError::of(&error), Some(GradientError::SchemeTimes { .. })),
        "{error}"
    );
    let (sol, tape) = ode.forward(&y0, (0.0, 1.0), &SaveAt::End).unwrap();
    let error = tape.pullback_with_times(&sol.ys.ones_like().unwrap()).err().unwrap();
    assert!(
        matches!(GradientError::of(&error), Some(GradientError::SchemeTimes { .. })),
        "{error}"
    );
}

/// The implicit midpoint rule, with its distance from an explicit Euler step as the error estimate.
#[derive(Debug)]
struct AdaptiveMidpoint;

impl Scheme for AdaptiveMidpoint {
    fn name(&self) -> &str {
        "adaptive_midpoint"
    }

    fn facts(&self) -> Facts {
        let b = vec![1.0, 0.0];
        let interpolant = Interpolant::hermite_with_ends(2, &b);
        Facts { error_order: Some(2), b_error: Some(vec![1.0, -1.0]), interpolant, b }
    }

    fn fill(&self, stages: &mut dyn Stages) -> Result<()> {
        ImplicitMidpoint.fill(stages)?;
        stages.evaluate(0.0, &[], None)
    }

    fn pull(&self, cotangents: &mut dyn StageCotangents) -> Result<()> {
        ImplicitMidpoint.pull(cotangents)
    }
}

#[test]
fn a_step_in_which_an_adaptive_scheme_finds_no_slopes_is_taken_again_smaller() {
    // The iteration converges for steps below 2/50.
    let decay = |_t: &Time, y: &Tensor| y.affine(-50.0, 0.0);
    let tolerance = Tolerance { rtol: 1e-4, atol: 1e-4 };
    let adaptive = Solver::adaptive(Method::Custom(Arc::new(AdaptiveMidpoint)), tolerance);
    let solver = Solver { first_step: Some(1.0), ..adaptive };
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    let end = solver.solve(&decay, &y0, (0.0, 0.1), &mut ()).unwrap();
    let off = (end.y1.to_vec1::<f64>().unwrap()[0] - (-5f64).exp()).abs();
    assert!(end.stats.rejected > 0 && off < 1e-3, "{off}");
    let fixed = Solver::fixed(solver.method, 0.1);
    let error = fixed.solve(&decay, &y0, (0.0, 0.1), &mut ()).unwrap_err();
    assert!(matches!(error, Error::SchemeFailed { .. }), "{error}");
}

#[test]
fn weights_of_slopes_that_are_not_there_are_refused() {
    #[derive(Debug)]
    struct Ahead;
    impl Scheme for Ahead {
        fn name(&self) -> &str {
            "ahead"
        }
        fn facts(&self) -> Facts {
            ImplicitMidpoint.facts()
        }
        fn fill(&self, stages: &mut dyn Stages) -> Result<()> {
            stages.evaluate(0.5, &[0.5], None)
        }
        fn pull(&self, _cotangents: &mut dyn StageCotangents) -> Result<()> {
            Ok(())
        }
    }
    let solver = Solver::fixed(Method::Custom(Arc::new(Ahead)), 0.1);
    let y0 = Tensor::new(&[1.0f64, -2.0], &Device::Cpu).unwrap();
    for native in [true, false] {
        let field = closed_form::Decay { native };
        let error = solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap_err();
        assert!(matches!(error, Error::StageCount { what: "weights", .. }), "{error}");
    }
}

/// A closed form beside the same field on tensors.
mod closed_form {
    use aca_core::{Native, NativeField, NativeTime, Time};
    use candle_core::{Result, Tensor, Var};

    pub struct Decay {
        pub native: bool,
    }

    struct OnSlices;

    impl NativeField<f64> for OnSlices {
        fn eval(&mut self, t: NativeTime<'_>, y: &[f64], dy: &mut [f64]) {
            let rate = t.of_row(0).sin();
            dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = *y * -rate);
        }

        fn pull(
            &mut self,
            t: NativeTime<'_>,
            _y: &[f64],
            lambda: &[f64],
            y_bar: &mut [f64],
            _theta_bar: &mut [f64],
            _t_bar: &mut [f64],
        ) {
            let rate = t.of_row(0).sin();
            y_bar.iter_mut().zip(lambda).for_each(|(bar, lambda)| *bar = *lambda * -rate);
        }

        fn variables(&self) -> Vec<Var> {
            Vec::new()
        }
    }

    impl super::VectorField for Decay {
        fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
            y * -t.value().sin()
        }

        fn native(&self, _y: &Tensor) -> Option<Native<'_>> {
            self.native.then(|| Native::F64(Box::new(OnSlices)))
        }
    }
}
