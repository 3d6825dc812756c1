use aca_core::{Solver, Time};
use aca_dense::{SaveAt, solve};
use aca_tableau::{DOPRI5, RK4};
use candle_core::{DType, Device, Tensor};

use crate::common::{CAROUSEL, CIRCLE, Recorder, decay, distance, dopri5, solvers, state, values};

const SPANS: [(f64, f64); 2] = [(0.0, 1.6), (1.6, 0.0)];

/// Times over the span, both ends included.
fn times((t0, t1): (f64, f64), count: usize) -> Vec<f64> {
    let inner = (1..count - 1).map(|i| t0 + (t1 - t0) * i as f64 / (count - 1) as f64);
    [t0].into_iter().chain(inner).chain([t1]).collect()
}

/// The times of the solver's own steps.
fn grid(solver: &Solver, span: (f64, f64)) -> Vec<f64> {
    let mut steps = Recorder::default();
    solver.solve(&CIRCLE.f, &CIRCLE.start(span), span, &mut steps).unwrap();
    std::iter::once(span.0).chain(steps.ends.iter().map(|&(_, t1)| t1)).collect()
}

#[test]
fn end_keeps_the_end_alone() {
    for span in SPANS {
        let solution = CIRCLE.solve(&dopri5(1e-6), span, &SaveAt::End);
        assert_eq!(solution.ts, [span.1]);
        assert_eq!(solution.ys.dims(), [1, 2]);
        assert_eq!(values(&solution.ys), values(&solution.y1));
    }
}

#[test]
fn steps_keeps_the_start_and_the_end_of_every_step() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let solution = CIRCLE.solve(solver, span, &SaveAt::Steps);
        let name = solver.method.name();
        assert_eq!(solution.ts, grid(solver, span), "{name} over {span:?}");
        assert_eq!(solution.ys.dims(), [solution.stats.accepted + 1, 2], "{name} over {span:?}");
    }
}

#[test]
fn times_at_the_ends_are_the_ends_to_the_last_bit() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let solution = CIRCLE.solve(solver, span, &SaveAt::Times(times(span, 5)));
        let name = solver.method.name();
        assert_eq!(values(&solution.ys.get(0).unwrap()), (CIRCLE.y)(span.0), "{name}: start");
        assert_eq!(values(&solution.ys.get(4).unwrap()), values(&solution.y1), "{name}: end");
    }
}

#[test]
fn times_at_a_steps_end_are_its_state_to_the_last_bit() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let steps = CIRCLE.solve(solver, span, &SaveAt::Steps);
        let times = CIRCLE.solve(solver, span, &SaveAt::Times(steps.ts.clone()));
        assert_eq!(values(&times.ys), values(&steps.ys), "{} over {span:?}", solver.method.name());
    }
}

#[test]
fn thousand_times_equal_the_trajectory_there() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let ts = times(span, 1000);
        let saved = CAROUSEL.solve(solver, span, &SaveAt::Times(ts.clone()));
        let dense = CAROUSEL.solve(solver, span, &SaveAt::Dense);
        let expected = values(&dense.dense().unwrap().at_times(&ts).unwrap());
        let gap = distance(&saved.ys, &expected);
        let name = solver.method.name();
        assert_eq!((saved.ts.len(), saved.ys.dims()), (1000, &[1000, 2][..]), "{name}");
        assert!(gap <= 1e-15, "{name} over {span:?}: differs by {gap}, more than rounding");
    }
}

#[test]
fn requested_times_do_not_change_the_steps() {
    for solver in solvers() {
        let stats = |save_at: &SaveAt| {
            let stats = CIRCLE.solve(&solver, (0.0, 1.6), save_at).stats;
            aca_core::Stats { nfe: 0, ..stats }
        };
        let (end, name) = (stats(&SaveAt::End), solver.method.name());
        assert_eq!(stats(&SaveAt::Times(times((0.0, 1.6), 50))), end, "{name}, times");
        assert_eq!(stats(&SaveAt::Steps), end, "{name}, steps");
        assert_eq!(stats(&SaveAt::Dense), end, "{name}, dense");
    }
}

#[test]
fn requested_times_do_not_change_the_end_by_a_bit() {
    for solver in solvers() {
        let y1 = |save_at: &SaveAt| values(&CIRCLE.solve(&solver, (0.0, 1.6), save_at).y1);
        let (end, name) = (y1(&SaveAt::End), solver.method.name());
        assert_eq!(y1(&SaveAt::Times(times((0.0, 1.6), 50))), end, "{name}, times");
        assert_eq!(y1(&SaveAt::Dense), end, "{name}, dense");
    }
}

#[test]
fn combinations_keep_every_time_once_and_in_order() {
    for (solver, span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let asked = times(span, 4);
        let all = SaveAt::All(vec![
            SaveAt::End,
            SaveAt::Times(asked.clone()),
            SaveAt::Steps,
            SaveAt::Times(vec![asked[1]]),
            SaveAt::Dense,
        ]);
        let solution = CIRCLE.solve(solver, span, &all);
        let sign = (span.1 - span.0).signum();
        let mut expected = [grid(solver, span), asked].concat();
        expected.sort_by(|a, b| (a * sign).total_cmp(&(b * sign)));
        expected.dedup();
        let name = solver.method.name();
        assert_eq!(solution.ts, expected, "{name} over {span:?}");
        assert_eq!(solution.ys.dims(), [expected.len(), 2], "{name} over {span:?}");
        let dense = values(&solution.dense().unwrap().at_times(&expected).unwrap());
        let gap = distance(&solution.ys, &dense);
        assert!(gap <= 1e-15, "{name} over {span:?}: rows differ from the trajectory by {gap}");
    }
}

#[test]
fn nothing_asked_for_gives_no_rows() {
    for save_at in [SaveAt::Dense, SaveAt::All(vec![])] {
        let solution = CIRCLE.solve(&dopri5(1e-6), (0.0, 1.0), &save_at);
        assert_eq!(solution.ts, [0.0; 0], "{save_at:?}");
        assert_eq!(solution.ys.dims(), [0, 2], "{save_at:?}");
        assert_eq!(solution.placements().len(), 0, "{save_at:?}");
    }
}

#[test]
fn placements_say_where_the_outputs_lie() {
    let save_at = SaveAt::Times(vec![1.0, 0.8125, 0.5, 0.125, 0.0]);
    let y0 = state(&[1.0]);
    let solution = solve(&Solver::fixed(RK4, 0.25), &decay, &y0, (1.0, 0.0), &save_at).unwrap();
    let placed: Vec<_> = solution.placements().iter().map(|p| (p.step, p.s)).collect();
    assert_eq!(placed, [(0, 0.0), (0, 0.75), (1, 1.0), (3, 0.5), (3, 1.0)]);
}

#[test]
fn span_without_length_has_its_one_time() {
    let y0 = state(&[1.5, -2.0]);
    let kinds = [SaveAt::End, SaveAt::Times(vec![0.5]), SaveAt::Steps];
    let all = SaveAt::All(kinds.to_vec());
    for save_at in kinds.iter().chain([&all]) {
        let solution = solve(&dopri5(1e-6), &decay, &y0, (0.5, 0.5), save_at).unwrap();
        assert_eq!(solution.ts, [0.5], "{save_at:?}");
        assert_eq!((solution.ys.dims(), values(&solution.ys)), (&[1, 2][..], vec![1.5, -2.0]));
        assert_eq!(values(&solution.y1), [1.5, -2.0], "{save_at:?}");
        assert_eq!(solution.stats.nfe, 0, "{save_at:?}");
    }
}

#[test]
fn outputs_have_the_states_shape_and_dtype() {
    for dtype in [DType::F32, DType::F64] {
        for shape in [&[][..], &[3], &[2, 1, 3]] {
            let y0 = Tensor::ones(shape, dtype, &Device::Cpu).unwrap();
            let save_at = SaveAt::Times(times((0.0, 1.0), 7));
            let solution = solve(&dopri5(1e-4), &decay, &y0, (0.0, 1.0), &save_at).unwrap();
            assert_eq!(solution.ys.dims(), [&[7][..], shape].concat());
            assert_eq!((solution.ys.dtype(), solution.y1.dtype()), (dtype, dtype));
            let exact = solution.ts.iter().flat_map(|t| vec![(-t).exp(); y0.elem_count()]);
            let error = distance(&solution.ys, &exact.collect::<Vec<_>>());
            assert!(error < 1e-3, "{dtype:?} {shape:?}: error {error}, ten tolerances are 1e-3");
        }
    }
}

#[test]
fn times_keep_double_precision_for_single_precision_states() {
    let line = |t: &Time, y: &Tensor| y.affine(0.0, 2.0 * (t.value() - 1e9));
    let ts: Vec<f64> = [0.25, 0.5, 0.75].iter().map(|t| 1e9 + t).collect();
    let save_at = SaveAt::Times(ts);
    let solution =
        solve(&Solver::fixed(DOPRI5, 1.0), &line, &state(&[0.0f32]), (1e9, 1e9 + 1.0), &save_at);
    let error = distance(&solution.unwrap().ys, &[0.0625, 0.25, 0.5625]);
    assert!(error < 1e-6, "error {error}; a quartic holds (t - 1e9)^2 but for rounding");
}

#[test]
fn outputs_are_not_tracked_by_candle() {
    let y0 = candle_core::Var::from_tensor(&state(&[1.0])).unwrap();
    let save_at = SaveAt::All(vec![SaveAt::Times(vec![0.0, 0.4]), SaveAt::Dense, SaveAt::End]);
    let solution = solve(&dopri5(1e-4), &decay, &y0, (0.0, 1.0), &save_at).unwrap();
    let at = solution.dense().unwrap().at(0.2).unwrap();
    for (y, what) in [(&solution.ys, "ys"), (&solution.y1, "y1"), (&at, "trajectory")] {
        assert!(!y.track_op() && !y.is_variable(), "{what} is tracked");
    }
}
