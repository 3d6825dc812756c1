use aca_core::{Solver, Time};
use aca_dense::SaveAt;
use aca_tableau::{ALL, DOP853, DOPRI5, Tableau};

use crate::common::{CAROUSEL, CIRCLE, Problem, distance, values};

/// Fewest steps of a measurement: enough for the leading term of the error to rule, few enough
/// that a quarter of the step still errs by a hundred roundings.
fn fewest_steps(tableau: &Tableau) -> usize {
    match tableau.order() {
        0..=3 => 64,
        4 => 32,
        5 => 16,
        _ => 4,
    }
}

/// Times that are nowhere near a step's ends for long.
fn inner_times((t0, t1): (f64, f64)) -> Vec<f64> {
    (0..97).map(|i| t0 + (t1 - t0) * (f64::from(i) + 0.37) / 97.0).collect()
}

/// Largest error between steps.
fn inner_error(tableau: &Tableau, count: usize, problem: Problem, span: (f64, f64)) -> f64 {
    let ts = inner_times(span);
    let exact = problem.exact(&ts);
    let solver = Solver::fixed_count(tableau.clone(), count);
    distance(&problem.solve(&solver, span, &SaveAt::Times(ts)).ys, &exact)
}

/// How fast the largest error between steps falls with the step: the power of h.
fn inner_slope(tableau: &Tableau, problem: Problem, span: (f64, f64)) -> f64 {
    let count = fewest_steps(tableau);
    let error = |count| inner_error(tableau, count, problem, span);
    (error(count) / error(4 * count)).log2() / 2.0
}

/// Steps err by `h^order` together, and an interpolant of order q by `h^(q + 1)` inside its step:
/// the lower power rules.
fn expected_slope(tableau: &Tableau) -> f64 {
    tableau.order().min(tableau.interpolant().order() + 1) as f64
}

fn assert_inner_slopes(problem: Problem, span: (f64, f64)) {
    for tableau in ALL {
        let (slope, expected) = (inner_slope(tableau, problem, span), expected_slope(tableau));
        assert!(
            (expected - 0.3..=expected + 1.0).contains(&slope),
            "{} on {} over {span:?}: slope {slope:.2}, must be {expected} less 0.3 at least, and \
             1 more at most or the problem shows nothing",
            tableau.name(),
            problem.name,
        );
    }
}

#[test]
fn error_between_steps_falls_as_fast_as_the_interpolant_promises() {
    assert_inner_slopes(CAROUSEL, (0.0, 1.5));
    assert_inner_slopes(CIRCLE, (0.0, 2.0));
}

#[test]
fn error_between_steps_falls_as_fast_backward() {
    assert_inner_slopes(CAROUSEL, (1.5, 0.0));
    assert_inner_slopes(CIRCLE, (2.0, 0.0));
}

#[test]
fn error_between_steps_of_dopri5_is_of_order_four_at_least() {
    // A parabola through the middle, as older programs drew it, would give two.
    for problem in [CAROUSEL, CIRCLE] {
        let slope = inner_slope(&DOPRI5, problem, (0.0, 2.0));
        assert!(slope >= 3.7, "{}: slope {slope:.2}, 4 less 0.3 at least", problem.name);
    }
}

#[test]
fn error_between_steps_of_dop853_is_of_order_seven_at_least() {
    for problem in [CAROUSEL, CIRCLE] {
        let slope = inner_slope(&DOP853, problem, (0.0, 2.0));
        assert!(slope >= 6.7, "{}: slope {slope:.2}, 7 less 0.3 at least", problem.name);
    }
}

#[test]
fn slope_between_steps_follows_the_field_to_the_interpolants_order() {
    // Of an interpolant of order q, y' - f(t, y) is of order h^q.
    for tableau in ALL {
        let defect = |count: usize| {
            let solver = Solver::fixed_count(tableau.clone(), count);
            let solution = CAROUSEL.solve(&solver, (0.0, 1.5), &SaveAt::Dense);
            let dense = solution.dense().unwrap();
            let defect_at = |t: f64| {
                let field = (CAROUSEL.f)(&Time::new(t), &dense.at(t).unwrap()).unwrap();
                distance(&dense.derivative(t).unwrap(), &values(&field))
            };
            inner_times((0.0, 1.5)).into_iter().map(defect_at).fold(0.0, f64::max)
        };
        let count = fewest_steps(tableau);
        let slope = (defect(count) / defect(4 * count)).log2() / 2.0;
        let (name, order) = (tableau.name(), tableau.interpolant().order() as f64);
        assert!(slope >= order - 0.3, "{name}: slope {slope:.2}, {order} less 0.3 at least");
    }
}

#[test]
fn error_between_adaptive_steps_is_of_the_size_of_the_tolerance() {
    for (tableau, problem) in ALL.into_iter().flat_map(|t| [(t, CAROUSEL), (t, CIRCLE)]) {
        if !tableau.is_adaptive() {
            continue;
        }
        let (tolerance, ts) = (1e-5, inner_times((0.0, 3.0)));
        let exact = problem.exact(&ts);
        let solver = crate::common::adaptive(tableau, tolerance);
        let error = distance(&problem.solve(&solver, (0.0, 3.0), &SaveAt::Times(ts)).ys, &exact);
        // As at the steps' ends: up to a hundred steps each err by two tolerances.
        let bound = 200.0 * tolerance;
        let (name, on) = (tableau.name(), problem.name);
        assert!(error < bound, "{name} on {on}: error {error}, bound {bound}");
    }
}
