use aca_core::{Error, Pid, Solver, Time, Tolerance};
use aca_tableau::{DOPRI5, HEUN_EULER, Tableau};
use candle_core::{DType, Tensor};

use crate::common::{
    CAROUSEL, CIRCLE, Problem, Recorder, adaptive, adaptive_tableaus, distance, state, values,
};

fn stiff(_t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    y.affine(-10.0, 0.0)
}

/// Tolerances of a tableau, a hundred apart, tight enough for its order and no tighter.
fn tolerances(tableau: &Tableau) -> [f64; 3] {
    match tableau.order() {
        0..=2 => [1e-2, 1e-4, 1e-6],
        3 => [1e-3, 1e-5, 1e-7],
        _ => [1e-4, 1e-6, 1e-8],
    }
}

/// Asserts that a hundredth of the tolerance brings at most a tenth of the error, and that errors
/// are no more than two hundred tolerances: up to a hundred steps each err by two, since both
/// tolerances are the same and states are near 1.
fn assert_error_follows_tolerance(problem: Problem, span: (f64, f64)) {
    for tableau in adaptive_tableaus() {
        let name = tableau.name();
        let tolerances = tolerances(tableau);
        let errors = tolerances.map(|tol| problem.error_at_end(&adaptive(tableau, tol), span));
        for (error, tolerance) in errors.iter().zip(tolerances) {
            let bound = 200.0 * tolerance;
            assert!(*error < bound, "{name} on {}: error {error}, bound {bound}", problem.name);
        }
        for pair in errors.windows(2) {
            assert!(
                pair[1] < 0.1 * pair[0],
                "{name} on {} over {span:?}: {errors:?}",
                problem.name
            );
        }
    }
}

#[test]
fn error_falls_with_the_tolerance() {
    for problem in [CIRCLE, CAROUSEL] {
        assert_error_follows_tolerance(problem, (0.0, 3.0));
    }
}

#[test]
fn error_falls_with_the_tolerance_backward() {
    for problem in [CIRCLE, CAROUSEL] {
        assert_error_follows_tolerance(problem, (3.0, 0.0));
    }
}

#[test]
fn single_precision_follows_the_tolerance_down_to_its_rounding() {
    for (tableau, span) in adaptive_tableaus().flat_map(|t| [(t, (0.0, 3.0)), (t, (3.0, 0.0))]) {
        let y0 = state(&(CIRCLE.y)(span.0)).to_dtype(DType::F32).unwrap();
        for tolerance in [1e-2, 1e-3, 1e-4, 1e-5] {
            let end = adaptive(tableau, tolerance).solve(&CIRCLE.f, &y0, span, &mut ()).unwrap();
            let (error, bound) = (distance(&end.y1, &(CIRCLE.y)(span.1)), 200.0 * tolerance + 1e-5);
            assert_eq!(end.y1.dtype(), DType::F32);
            assert!(
                error < bound,
                "{} at {tolerance} over {span:?}: error {error}, bound {bound} is that of \
                 double precision and the rounding of a hundred steps",
                tableau.name()
            );
        }
    }
}

#[test]
fn last_step_is_under_error_control() {
    // One step of heun_euler over the whole span would give 1 - 10 + 50 = 41.
    let solver = Solver { first_step: Some(1.0), ..adaptive(&HEUN_EULER, 1e-6) };
    let end = solver.solve(&stiff, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
    let (y, exact) = (values(&end.y1)[0], (-10.0f64).exp());
    assert!((y - exact).abs() < 1e-5, "{y}, exact {exact}, ten tolerances are 1e-5");
}

#[test]
fn last_step_is_under_error_control_at_loose_tolerances() {
    for (tableau, tolerance) in adaptive_tableaus().flat_map(|t| [(t, 1e-1), (t, 1e-2), (t, 1e-3)])
    {
        let solver = Solver { first_step: Some(1.0), ..adaptive(tableau, tolerance) };
        let end = solver.solve(&stiff, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
        let (y, bound) = (values(&end.y1)[0], 5.0 * tolerance);
        assert!(y.abs() < bound, "{} at {tolerance}: {y}, bound {bound}", tableau.name());
    }
}

#[test]
fn every_accepted_step_errs_within_its_tolerance() {
    // Of y' = -10 y the exact end of every step is known from its own start.
    for tableau in adaptive_tableaus() {
        let mut steps = Recorder::default();
        let solver = Solver { first_step: Some(1.0), ..adaptive(tableau, 1e-4) };
        solver.solve(&stiff, &state(&[1.0]), (0.0, 1.0), &mut steps).unwrap();
        for step in &steps.steps {
            let exact = step.y0[0] * (-10.0 * (step.t1 - step.t0)).exp();
            let (error, scale) = ((step.y1[0] - exact).abs(), 1e-4 * (1.0 + step.y0[0].abs()));
            let name = tableau.name();
            assert!(error <= 3.0 * scale, "{name} at {}: error {error}, scale {scale}", step.t1);
        }
    }
}

#[test]
fn every_controller_meets_the_tolerance() {
    for (controller, what) in [(Pid::I, "I"), (Pid::PI, "PI"), (Pid::PID, "PID")] {
        for tableau in adaptive_tableaus() {
            for tolerance in tolerances(tableau) {
                let solver = Solver { controller, ..adaptive(tableau, tolerance) };
                let (error, bound) = (CIRCLE.error_at_end(&solver, (0.0, 3.0)), 200.0 * tolerance);
                let name = tableau.name();
                assert!(error < bound, "{what} with {name}: error {error}, bound {bound}");
            }
        }
    }
}

#[test]
fn controllers_waste_few_steps() {
    // Van der Pol with mu = 5: steps change by a factor of thirty along every round.
    let van_der_pol = |_t: &Time, y: &Tensor| {
        let (x, v) = (y.get(0)?, y.get(1)?);
        let damping = ((x.sqr()?.affine(-5.0, 5.0))? * &v)?;
        Tensor::stack(&[v, (damping - x)?], 0)
    };
    for (controller, what) in [(Pid::I, "I"), (Pid::PI, "PI"), (Pid::PID, "PID")] {
        for tableau in adaptive_tableaus().filter(|tableau| tableau.order() >= 3) {
            let solver = Solver { controller, ..adaptive(tableau, 1e-5) };
            let stats = solver.solve(&van_der_pol, &state(&[2.0, 0.0]), (0.0, 20.0), &mut ());
            let stats = stats.unwrap().stats;
            let share = stats.rejected as f64 / (stats.accepted + stats.rejected) as f64;
            assert!(share < 0.3, "{what} with {}: {stats:?}", tableau.name());
        }
    }
}

#[test]
fn absolute_tolerance_that_vanishes_in_single_precision_does_no_harm() {
    // 1e-60 is 0 in f32, and the error of an entry that stays 0 would be 0 / 0.
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-3, atol: 1e-60 });
    let end = solver.solve(&stiff, &state(&[0.0f32]), (0.0, 1.0), &mut ());
    let good = matches!(&end, Ok(_) | Err(Error::InvalidTolerance { name: "atol", .. }));
    assert!(good, "either a solution or a refusal: {end:?}");
}

#[test]
fn nothing_happening_costs_few_steps() {
    let rest = |_t: &Time, y: &Tensor| y.zeros_like();
    for tableau in adaptive_tableaus() {
        let end =
            adaptive(tableau, 1e-6).solve(&rest, &state(&[1.0]), (0.0, 1e6), &mut ()).unwrap();
        assert_eq!(values(&end.y1), [1.0], "{}", tableau.name());
        // From 1e-6 to 1e6 by factors of ten.
        let steps = end.stats.accepted;
        assert!(steps <= 14 && end.stats.rejected == 0, "{}: {steps} steps", tableau.name());
    }
}
