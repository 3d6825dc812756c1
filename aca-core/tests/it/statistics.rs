use aca_core::{Batching, Evaluator, Solver, StableSteps, Time, VectorField};
use aca_tableau::{DOPRI5, RK4};
use candle_core::{Tensor, Var};

use crate::common::{Recorder, adaptive, adaptive_tableaus, state, values};

/// `y' = -10 y` that keeps a running mean of its states and a count of its calls.
struct Averaging {
    mean: Var,
    calls: Var,
    /// The last time at which it can be evaluated.
    broken_after: f64,
}

impl Averaging {
    fn new() -> Self {
        Self {
            mean: Var::from_tensor(&state(&[0.5])).unwrap(),
            calls: Var::from_tensor(&state(&[0.0])).unwrap(),
            broken_after: f64::INFINITY,
        }
    }

    fn statistics(&self) -> (Vec<f64>, Vec<f64>) {
        (values(&self.mean), values(&self.calls))
    }
}

impl VectorField for Averaging {
    fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        if t.tensor(y)?.max_all()?.to_scalar::<f64>()? > self.broken_after {
            candle_core::bail!("broken");
        }
        self.mean.set(&((self.mean.as_tensor() * 0.9)? + (y * 0.1)?)?)?;
        self.calls.set(&(self.calls.as_tensor() + 1.0)?)?;
        y.affine(-10.0, 0.0)
    }

    fn running_statistics(&self) -> Vec<Var> {
        vec![self.mean.clone(), self.calls.clone()]
    }
}

#[test]
fn rejected_steps_leave_no_trace_in_running_statistics() {
    for tableau in adaptive_tableaus() {
        for first_step in [None, Some(1.0)] {
            let name = tableau.name();
            let solver = Solver { first_step, ..adaptive(tableau, 1e-4) };
            let (solved, replayed) = (Averaging::new(), Averaging::new());
            let mut steps = Recorder::default();
            let end = solver.solve(&solved, &state(&[1.0]), (0.0, 1.0), &mut steps).unwrap();
            solver.replay(&replayed, &state(&[1.0]), &steps.grid(), &mut ()).unwrap();
            assert!(first_step.is_none() || end.stats.rejected > 0, "{name}: nothing rejected");
            assert_eq!(solved.statistics(), replayed.statistics(), "{name}, {first_step:?}");
        }
    }
}

#[test]
fn running_statistics_advance_with_every_evaluation_of_accepted_steps() {
    for (tableau, evaluations) in [(RK4, 5 * 4), (DOPRI5, 5 * 6 + 1)] {
        let field = Averaging::new();
        let solver = Solver::fixed_count(tableau.clone(), 5);
        solver.solve(&field, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
        assert_eq!(field.statistics().1, [evaluations as f64], "{}", tableau.name());
    }
}

#[test]
fn restored_statistics_are_copies_not_references() {
    let (field, y) = (Averaging::new(), state(&[1.0]));
    let evaluator = Evaluator::new(&field, &y).unwrap();
    let before = field.statistics();
    let snapshot = evaluator.snapshot().unwrap();
    for _ in 0..3 {
        evaluator.eval(0.0, &y).unwrap();
    }
    assert_ne!(field.statistics(), before);
    evaluator.restore(&snapshot).unwrap();
    assert_eq!(field.statistics(), before);
}

#[test]
fn a_trial_that_fails_is_taken_out_of_running_statistics() {
    let calls = |own: bool| {
        let field = Averaging { broken_after: 0.5, ..Averaging::new() };
        let (solver, y0) = (Solver::fixed_count(RK4, 5), state(&[1.0]));
        let error = match own {
            true => Solver { batching: Batching::PerSample, ..solver }
                .solve(&field, &y0, [(0.0, 1.0)], &mut ())
                .map(|_| ()),
            false => solver.solve(&field, &y0, (0.0, 1.0), &mut ()).map(|_| ()),
        };
        assert!(error.unwrap_err().to_string().contains("broken"));
        field.statistics().1
    };
    // Two whole steps, and the slope that the third starts with.
    assert_eq!([calls(false), calls(true)], [[2.0 * 4.0 + 1.0], [2.0 * 4.0 + 1.0]]);
}

/// Two rows of unlike stiffness beside a count of calls.
struct Stiff(Var);

impl VectorField for Stiff {
    fn eval(&self, _: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.0.set(&(self.0.as_tensor() + 1.0)?)?;
        y * Tensor::new(&[[-1000.0f64], [-1.0]], y.device())?
    }

    fn running_statistics(&self) -> Vec<Var> {
        vec![self.0.clone()]
    }
}

#[test]
fn a_look_whether_rows_see_one_another_leaves_no_trace_in_running_statistics() {
    let field = Stiff(Var::from_tensor(&state(&[0.0])).unwrap());
    let solver = Solver { stable_steps: StableSteps::Always, ..adaptive(&DOPRI5, 1e-4) };
    let y0 = state(&[1.0, 1.0]).reshape((2, 1)).unwrap();
    let stats = solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap().stats;
    assert!(stats.stability_limited > 100, "{stats:?}");
    // The first slope, and six stages an accepted step.
    assert_eq!(values(&field.0), [1.0 + 6.0 * stats.accepted as f64], "{stats:?}");
}
