use aca_core::{Result, Solver, Step, StepSink, Tolerance};
use aca_tableau::{ALL, DOPRI5, HEUN_EULER, RK4};

use crate::common::{
    CIRCLE, Recorder, SWING, Watched, adaptive, adaptive_tableaus, decay, distance, dopri5, state,
    values,
};

/// A solver of each kind for every tableau, with its description.
fn solvers() -> Vec<(String, Solver)> {
    let fixed =
        ALL.into_iter().map(|tableau| (tableau, "fixed", Solver::fixed(tableau.clone(), 0.3)));
    let adaptive =
        adaptive_tableaus().map(|tableau| (tableau, "adaptive", adaptive(tableau, 1e-3)));
    let both = fixed.chain(adaptive);
    both.map(|(tableau, kind, solver)| (format!("{} {kind}", tableau.name()), solver)).collect()
}

const SPANS: [(f64, f64); 2] = [(-0.3, 1.7), (1.7, -0.3)];

#[test]
fn steps_meet_end_to_end() {
    for ((name, solver), span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let mut steps = Recorder::default();
        solver.solve(&SWING.f, &state(&[1.0]), span, &mut steps).unwrap();
        let steps = steps.steps;
        assert_eq!(steps[0].t0, span.0, "{name}: start of the first step");
        assert_eq!(steps[steps.len() - 1].t1, span.1, "{name}: end of the last step");
        for (index, pair) in steps.windows(2).enumerate() {
            assert_eq!(pair[0].t1, pair[1].t0, "{name}: times between steps {index} and the next");
            assert_eq!(pair[0].y1, pair[1].y0, "{name}: states between steps {index} and the next");
        }
    }
}

#[test]
fn steps_are_numbered_from_zero() {
    let mut steps = Recorder::default();
    let end = dopri5(1e-6).solve(&SWING.f, &state(&[1.0]), (0.0, 5.0), &mut steps).unwrap();
    let indices: Vec<usize> = steps.steps.iter().map(|step| step.index).collect();
    assert_eq!(indices, (0..end.stats.accepted).collect::<Vec<_>>());
}

#[test]
fn end_of_the_last_step_is_the_result() {
    let mut steps = Recorder::default();
    let end = dopri5(1e-6).solve(&CIRCLE.f, &state(&[1.1, 0.0]), (0.0, 5.0), &mut steps).unwrap();
    assert_eq!(steps.steps.last().unwrap().y1, values(&end.y1));
}

#[test]
fn rejected_steps_reach_no_sink() {
    let mut steps = Recorder::default();
    let solver = Solver { first_step: Some(1.0), ..adaptive(&HEUN_EULER, 1e-4) };
    let stiff = |_t: &aca_core::Time, y: &candle_core::Tensor| y.affine(-10.0, 0.0);
    let end = solver.solve(&stiff, &state(&[1.0]), (0.0, 1.0), &mut steps).unwrap();
    assert!(end.stats.rejected > 0, "a first step of 1 is far too long");
    assert_eq!(steps.steps.len(), end.stats.accepted);
    // A step of 1 would take y to 41, one within the tolerance never lets it rise.
    let heights = steps.steps.iter().map(|step| step.y1[0]);
    let highest = heights.fold(0.0, f64::max);
    assert!(highest <= 1.0, "a state of {highest} was accepted on a decay from 1");
}

#[test]
fn both_sinks_of_a_pair_get_every_step() {
    let mut sinks = (Recorder::default(), Some(Recorder::default()));
    let end = dopri5(1e-6).solve(&decay, &state(&[1.0]), (0.0, 3.0), &mut sinks).unwrap();
    let (first, second) = (sinks.0.grid(), sinks.1.unwrap().grid());
    assert_eq!(first.len(), end.stats.accepted + 1);
    assert_eq!(first, second);
}

#[test]
fn sink_that_fails_stops_the_solve() {
    struct Full(usize);
    impl StepSink for Full {
        fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
            self.0 += 1;
            if step.index == 2 { Err(candle_core::Error::msg("full").into()) } else { Ok(()) }
        }
    }
    let mut sink = Full(0);
    let end = Solver::fixed(RK4, 0.1).solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut sink);
    assert!(end.unwrap_err().to_string().starts_with("full"));
    assert_eq!(sink.0, 3, "steps that reached the sink");
}

#[test]
fn step_hands_out_its_stages() {
    struct EndSlopes(Vec<(usize, f64)>);
    impl StepSink for EndSlopes {
        fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
            step.complete()?;
            step.complete()?;
            let stages = step.stages()?;
            let last = &stages[stages.len() - 1];
            self.0.push((stages.len(), distance(last, &[-values(step.y1)[0]])));
            Ok(())
        }
    }
    for (tableau, stages) in [(RK4, 5), (DOPRI5, 7)] {
        let mut sink = EndSlopes(Vec::new());
        let solver = Solver::fixed(tableau.clone(), 0.5);
        solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut sink).unwrap();
        assert_eq!(sink.0, [(stages, 0.0); 2], "{}: stages, error of f(t1, y1)", tableau.name());
    }
}

#[test]
fn field_is_never_evaluated_outside_the_span() {
    for ((name, solver), span) in solvers().iter().flat_map(|s| SPANS.map(|span| (s, span))) {
        let solver = Solver { step_ts: vec![0.1, 0.1000001, 9.0, -9.0], ..solver.clone() };
        let field = Watched::new(SWING.f);
        solver.solve(&field, &state(&[1.0]), span, &mut ()).unwrap();
        let outside = field.times().into_iter().find(|t| !(-0.3..=1.7).contains(t));
        assert_eq!(outside, None, "{name}: a time outside the span {span:?}");
    }
}

#[test]
fn first_step_longer_than_the_span_stays_inside() {
    let field = Watched::new(decay);
    let solver = Solver { first_step: Some(100.0), ..dopri5(1e-1) };
    solver.solve(&field, &state(&[1.0]), (0.0, 0.25), &mut ()).unwrap();
    let latest = field.times().into_iter().fold(0.0, f64::max);
    assert_eq!(latest, 0.25);
}

#[test]
fn span_without_length_returns_the_initial_state() {
    for (name, solver) in solvers() {
        let field = Watched::new(decay);
        let mut steps = Recorder::default();
        let end = solver.solve(&field, &state(&[1.5, -2.0]), (0.7, 0.7), &mut steps).unwrap();
        assert_eq!(values(&end.y1), [1.5, -2.0], "{name}");
        assert_eq!(end.stats, aca_core::Stats::default(), "{name}");
        assert_eq!((steps.steps.len(), field.times().len()), (0, 0), "{name}: steps, evaluations");
    }
}

#[test]
fn states_keep_their_shape_and_dtype() {
    let y0 =
        candle_core::Tensor::ones((2, 1, 3), candle_core::DType::F32, &candle_core::Device::Cpu);
    let end = dopri5(1e-3).solve(&decay, &y0.unwrap(), (0.0, 1.0), &mut ()).unwrap();
    assert_eq!(end.y1.dims(), [2, 1, 3]);
    assert_eq!(end.y1.dtype(), candle_core::DType::F32);
}

#[test]
fn state_without_dimensions_is_a_state() {
    let y0 = candle_core::Tensor::new(1.0f64, &candle_core::Device::Cpu).unwrap();
    let end = dopri5(1e-8).solve(&decay, &y0, (0.0, 1.0), &mut ()).unwrap();
    let error = (end.y1.to_scalar::<f64>().unwrap() - (-1.0f64).exp()).abs();
    assert!(error < 1e-7, "error {error}, ten times the tolerance is 1e-7");
}

#[test]
fn transposed_state_is_read_in_its_own_order() {
    let rows = candle_core::Tensor::new(
        &[[1.0f64, 2.0], [3.0, 4.0], [5.0, 6.0]],
        &candle_core::Device::Cpu,
    );
    let y0 = rows.unwrap().t().unwrap();
    let end = Solver::fixed(RK4, 0.125).solve(&decay, &y0, (0.0, 1.0), &mut ()).unwrap();
    let expected = [1.0, 3.0, 5.0, 2.0, 4.0, 6.0].map(|y: f64| y * (-1.0f64).exp());
    let error = distance(&end.y1, &expected);
    assert!(error < 1e-4, "error {error}; RK4 with steps of 1/8 errs by 1e-6 relative");
}

#[test]
fn result_is_not_tracked_by_candle() {
    let y0 = candle_core::Var::from_tensor(&state(&[1.0])).unwrap();
    let rate = candle_core::Var::from_tensor(&state(&[-1.0])).unwrap();
    let field = move |_t: &aca_core::Time, y: &candle_core::Tensor| y.mul(&rate);
    let end = dopri5(1e-3).solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
    assert!(!end.y1.track_op() && !end.y1.is_variable());
}

#[test]
fn tolerance_of_each_entry_is_its_own() {
    // The fast entry alone sets the step unless its tolerance is loosened.
    let pair = |_t: &aca_core::Time, y: &candle_core::Tensor| y.mul(&state(&[-1.0, -40.0]));
    let accepted = |atol: &[f64]| {
        let tolerances = aca_core::Tolerances::Each { rtol: state(&[1e-12]), atol: state(atol) };
        let solver = Solver::adaptive(DOPRI5, tolerances);
        solver.solve(&pair, &state(&[1.0, 1e-3]), (0.0, 0.5), &mut ()).unwrap().stats.accepted
    };
    let (tight, loose) = (accepted(&[1e-6, 1e-9]), accepted(&[1e-6, 1.0]));
    assert!(
        2 * loose <= tight,
        "{loose} steps with a loose second entry, {tight} with a tight one"
    );
}

#[test]
fn same_tolerance_for_each_entry_is_the_uniform_one() {
    let uniform = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-5, atol: 1e-7 });
    let (rtol, atol) = (state(&[1e-5]), state(&[1e-7, 1e-7]));
    let each = Solver::adaptive(DOPRI5, aca_core::Tolerances::Each { rtol, atol });
    let solve = |solver: &Solver| {
        let end = solver.solve(&CIRCLE.f, &state(&[1.1, 0.0]), (0.0, 5.0), &mut ()).unwrap();
        (values(&end.y1), end.stats)
    };
    assert_eq!(solve(&uniform), solve(&each));
}
