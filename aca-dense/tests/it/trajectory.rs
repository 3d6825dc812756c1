use aca_core::Method::Leapfrog as ALF;
use aca_core::{Solver, Stepper, Time};
use aca_dense::{DenseOutput, SaveAt, Solution, interpolate_derivative, solve};
use aca_tableau::RK4;
use candle_core::{DType, Tensor};

use crate::common::{CAROUSEL, CIRCLE, Recorder, decay, distance, dopri5, solvers, state, values};

const SPANS: [(f64, f64); 2] = [(-0.2, 1.6), (1.6, -0.2)];

fn dense(solver: &Solver, span: (f64, f64)) -> DenseOutput {
    CAROUSEL.solve(solver, span, &SaveAt::Dense).dense().unwrap().clone()
}

#[test]
fn trajectory_at_a_steps_end_is_its_state() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let mut steps = Recorder::default();
        let (f, y0) = (CAROUSEL.f, CAROUSEL.start(span));
        let solution = Solution::record(solver, &f, &y0, span, &SaveAt::Dense, &mut steps).unwrap();
        let dense = solution.dense().unwrap();
        for ((_, t1), y1) in steps.ends.iter().zip(&steps.states) {
            let error = distance(&dense.at(*t1).unwrap(), y1);
            // The same sum, perhaps in another order.
            let name = solver.method.name();
            assert!(error <= 1e-15, "{name} at {t1} of {span:?}: off by {error}");
        }
    }
}

#[test]
fn trajectory_ends_in_the_solutions_ends_to_the_last_bit() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let solution = CIRCLE.solve(solver, span, &SaveAt::Dense);
        let dense = solution.dense().unwrap();
        let name = solver.method.name();
        assert_eq!(values(&dense.at(span.0).unwrap()), (CIRCLE.y)(span.0), "{name}: start");
        assert_eq!(values(&dense.at(span.1).unwrap()), values(&solution.y1), "{name}: end");
    }
}

#[test]
fn slope_is_the_same_from_both_sides_of_a_steps_end() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let (dense, mut steps) = (dense(solver, span), Recorder::default());
        solver.solve(&CAROUSEL.f, &CAROUSEL.start(span), span, &mut steps).unwrap();
        for (_, t) in &steps.ends[..steps.ends.len() - 1] {
            let towards = |t: f64| if span.0 < span.1 { t.next_up() } else { t.next_down() };
            let before = values(&dense.derivative(*t).unwrap());
            let after = dense.derivative(towards(*t)).unwrap();
            let gap = distance(&after, &before);
            // One unit of t in the last place past the end, where y'' is below 10.
            let name = solver.method.name();
            assert!(gap < 1e-13, "{name} at {t} of {span:?}: slopes differ by {gap}");
        }
    }
}

#[test]
fn slope_at_a_steps_end_is_the_field_there_to_the_last_bit() {
    let solver = dopri5(1e-6);
    let (dense, mut steps) = (dense(&solver, (0.0, 2.0)), Recorder::default());
    solver.solve(&CAROUSEL.f, &CAROUSEL.start((0.0, 2.0)), (0.0, 2.0), &mut steps).unwrap();
    for ((_, t1), y1) in steps.ends.iter().zip(&steps.states) {
        let field = (CAROUSEL.f)(&Time::new(*t1), &state(y1)).unwrap();
        assert_eq!(values(&dense.derivative(*t1).unwrap()), values(&field), "at {t1}");
    }
}

#[test]
fn slope_is_the_derivative_of_the_trajectory() {
    for solver in solvers() {
        let dense = dense(&solver, (0.0, 1.5));
        for t in [0.11, 0.47, 1.03, 1.41] {
            let (after, before) = (dense.at(t + 1e-6).unwrap(), dense.at(t - 1e-6).unwrap());
            let quotient = ((after - before).unwrap() / 2e-6).unwrap();
            let gap = distance(&quotient, &values(&dense.derivative(t).unwrap()));
            // Rounding 1e-16 over 2e-6 and truncation 1e-12 times a third derivative below 100.
            let name = solver.method.name();
            assert!(gap < 1e-8, "{name} at {t}: difference quotient is off by {gap}");
        }
    }
}

#[test]
fn times_may_come_in_any_order_and_twice() {
    let dense = dense(&dopri5(1e-6), (0.0, 2.0));
    let ts = [1.3, 0.2, 0.21, 2.0, 0.0, 1.3, 0.2];
    let together = values(&dense.at_times(&ts).unwrap());
    let single: Vec<f64> = ts.iter().flat_map(|&t| values(&dense.at(t).unwrap())).collect();
    assert_eq!(together, single);
}

#[test]
fn trajectory_beside_times_is_that_without_them() {
    let leapfrog = Solver::fixed(ALF, 0.3);
    for solver in solvers().into_iter().chain([leapfrog]) {
        let ts = vec![0.1, 0.2, 1.4];
        let both = SaveAt::All(vec![SaveAt::Times(ts.clone()), SaveAt::Dense]);
        let both = CAROUSEL.solve(&solver, (0.0, 1.6), &both);
        let alone = CAROUSEL.solve(&solver, (0.0, 1.6), &SaveAt::Dense);
        let rows = |solution: &Solution| values(&solution.dense().unwrap().at_times(&ts).unwrap());
        assert_eq!(rows(&both), rows(&alone), "{}", solver.method.name());
    }
}

#[test]
fn trajectory_has_the_states_shape_and_dtype() {
    for dtype in [DType::F32, DType::F64] {
        let y0 = Tensor::ones((2, 3), dtype, &candle_core::Device::Cpu).unwrap();
        let solution = solve(&dopri5(1e-4), &decay, &y0, (0.0, 1.0), &SaveAt::Dense).unwrap();
        let dense = solution.dense().unwrap();
        let (one, many) = (dense.at(0.3).unwrap(), dense.at_times(&[0.1, 0.2, 0.3, 0.4]).unwrap());
        assert_eq!((one.dims(), one.dtype()), (&[2, 3][..], dtype));
        assert_eq!((many.dims(), many.dtype()), (&[4, 2, 3][..], dtype));
        let slope = dense.derivative(0.3).unwrap();
        assert_eq!((slope.dims(), slope.dtype()), (&[2, 3][..], dtype));
        let error = distance(&one, &[(-0.3f64).exp(); 6]);
        assert!(error < 1e-3, "{dtype:?}: error {error}, ten tolerances are 1e-3");
    }
}

#[test]
fn placement_names_the_step_and_the_fraction() {
    let y0 = state(&[1.0]);
    let solver = Solver::fixed(RK4, 0.25);
    let solution = solve(&solver, &decay, &y0, (1.0, 0.0), &SaveAt::Dense).unwrap();
    let place = |t: f64| {
        let placement = solution.dense().unwrap().place(t).unwrap();
        (placement.step, placement.s, placement.is_inside())
    };
    assert_eq!(place(1.0), (0, 0.0, false));
    assert_eq!(place(0.8125), (0, 0.75, true));
    assert_eq!(place(0.75), (0, 1.0, false));
    assert_eq!(place(0.625), (1, 0.5, true));
    assert_eq!(place(0.0), (3, 1.0, false));
}

#[test]
fn extrapolation_continues_the_nearest_steps() {
    for span in [(0.0, 1.0), (1.0, 0.0)] {
        let dense = CIRCLE.solve(&dopri5(1e-9), span, &SaveAt::Dense).dense().unwrap().clone();
        let dense = dense.extrapolating();
        for t in [-0.01, 1.01] {
            let error = distance(&dense.at(t).unwrap(), &(CIRCLE.y)(t));
            // Steps of some 0.03 are continued by a third: a quartic loses a few digits.
            assert!(error < 1e-6, "over {span:?} at {t}: error {error}");
        }
        let inside = distance(&dense.at(0.5).unwrap(), &(CIRCLE.y)(0.5));
        assert!(inside < 1e-7, "error {inside} inside");
    }
}

#[test]
fn trajectory_of_a_span_without_length_is_its_point() {
    let y0 = state(&[1.5, -2.0]);
    let solution = solve(&dopri5(1e-6), &decay, &y0, (0.5, 0.5), &SaveAt::Dense).unwrap();
    let dense = solution.dense().unwrap();
    assert_eq!(values(&dense.at(0.5).unwrap()), [1.5, -2.0]);
    assert_eq!(dense.at_times(&[0.5, 0.5]).unwrap().dims(), [2, 2]);
    assert_eq!((dense.span().t0, dense.span().t1), (0.5, 0.5));
}

#[test]
fn trajectory_has_a_kink_at_a_jump_of_the_field_and_no_error() {
    let kinked = |t: &Time, y: &Tensor| y.affine(0.0, if t.value() < 0.7 { 1.0 } else { -100.0 });
    for solver in solvers() {
        let (solver, y0) = (Solver { jump_ts: vec![0.7], ..solver }, state(&[0.0]));
        let solution = solve(&solver, &kinked, &y0, (0.0, 1.0), &SaveAt::Dense).unwrap();
        let dense = solution.dense().unwrap();
        for t in (0..=100).map(|i| 0.01 * f64::from(i)) {
            let exact = if t < 0.7 { t } else { 0.7 - 100.0 * (t - 0.7) };
            let error = distance(&dense.at(t).unwrap(), &[exact]);
            let name = solver.method.name();
            assert!(error < 1e-12, "{name} at {t}: error {error}, lines need only rounding");
        }
    }
}

#[test]
fn slope_of_one_step_is_that_of_its_stages() {
    let method = Stepper::new(&dopri5(1e-6), DType::F64).unwrap();
    let k: Vec<Tensor> = (0..7).map(|i| state(&[f64::from(i)])).collect();
    let weights = method.interpolant().derivative_weights(0.3);
    let expected: f64 = weights.iter().enumerate().map(|(i, w)| w * i as f64).sum();
    let found = values(&interpolate_derivative(&method, &k, 0.3).unwrap())[0];
    assert!((found - expected).abs() < 1e-14, "{found}, expected {expected} to rounding");
}
