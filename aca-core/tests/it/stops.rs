use aca_core::{Solver, Time};
use aca_tableau::{ALL, RK4, Tableau};
use candle_core::{DType, Tensor};

use crate::common::{
    Recorder, SWING, Watched, adaptive, adaptive_tableaus, decay, distance, dopri5,
    far_sighted_tableaus, state,
};

/// Where [`turns`] jumps.
const JUMP: f64 = 0.7;

/// `y' = 1` before 0.7 and -100 from there on.
fn turns(t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    y.affine(0.0, if t.value() < JUMP { 1.0 } else { -100.0 })
}

fn with_jump(solver: Solver) -> Solver {
    Solver { jump_ts: vec![JUMP], ..solver }
}

/// A fixed-step and, where there is one, an adaptive solver.
fn both_kinds(tableau: &Tableau) -> Vec<Solver> {
    let mut solvers = vec![Solver::fixed(tableau.clone(), 0.3)];
    solvers.extend(tableau.is_adaptive().then(|| adaptive(tableau, 1e-4)));
    solvers
}

#[test]
fn stops_are_hit_exactly() {
    let stops = [0.1, 1.0 / 3.0, 0.9, 0.90000001];
    for (tableau, span) in ALL.into_iter().flat_map(|t| [(t, (0.0, 1.0)), (t, (1.0, 0.0))]) {
        for solver in both_kinds(tableau) {
            let mut steps = Recorder::default();
            let solver = Solver { step_ts: stops.to_vec(), ..solver };
            solver.solve(&SWING.f, &state(&[1.0]), span, &mut steps).unwrap();
            for stop in stops {
                let hit = steps.steps.iter().any(|step| step.t1 == stop);
                assert!(hit, "{} over {span:?}: no step ends at {stop}", tableau.name());
            }
        }
    }
}

#[test]
fn stops_outside_the_span_and_at_its_ends_change_nothing() {
    let grid = |step_ts: Vec<f64>| {
        let mut steps = Recorder::default();
        let solver = Solver { step_ts, ..dopri5(1e-6) };
        solver.solve(&SWING.f, &state(&[1.0]), (0.0, 2.0), &mut steps).unwrap();
        steps.grid()
    };
    assert_eq!(grid(vec![-1.0, 0.0, 2.0, 3.0]), grid(vec![]));
}

#[test]
fn stops_may_come_in_any_order_and_twice() {
    let grid = |step_ts: Vec<f64>| {
        let mut steps = Recorder::default();
        let solver = Solver { step_ts, ..dopri5(1e-6) };
        solver.solve(&SWING.f, &state(&[1.0]), (0.0, 2.0), &mut steps).unwrap();
        steps.grid()
    };
    assert_eq!(grid(vec![1.5, 0.5, 1.5]), grid(vec![0.5, 1.5]));
}

#[test]
fn step_size_survives_a_stop() {
    // On a straight line steps grow by the largest factor; the sliver before a stop is no reason
    // to start over.
    let mut steps = Recorder::default();
    let line = |_t: &Time, y: &Tensor| y.affine(0.0, 1.0);
    let solver = Solver { first_step: Some(1.0), step_ts: vec![1.001e-3], ..dopri5(1e-6) };
    solver.solve(&line, &state(&[0.0]), (0.0, 100.0), &mut steps).unwrap();
    assert!(steps.steps[1].t1 - steps.steps[1].t0 >= 1.0, "steps are {:?}", steps.grid());
}

#[test]
fn jumps_are_hit_exactly() {
    for tableau in ALL {
        for solver in both_kinds(tableau) {
            let mut steps = Recorder::default();
            with_jump(solver).solve(&turns, &state(&[0.0]), (0.0, 1.0), &mut steps).unwrap();
            let hit = steps.steps.iter().any(|step| step.t1 == JUMP);
            assert!(hit, "{}: {:?}", tableau.name(), steps.grid());
        }
    }
}

#[test]
fn field_is_never_evaluated_at_a_jump() {
    for (tableau, span) in ALL.into_iter().flat_map(|t| [(t, (0.0, 1.0)), (t, (1.0, 0.0))]) {
        for solver in both_kinds(tableau) {
            let field = Watched::new(turns);
            with_jump(solver).solve(&field, &state(&[0.0]), span, &mut ()).unwrap();
            let at_jump = field.times().contains(&JUMP);
            assert!(!at_jump, "{} over {span:?}: evaluated at {JUMP}", tableau.name());
        }
    }
}

#[test]
fn field_is_never_evaluated_at_a_jump_at_an_end_of_the_span() {
    for (span, why) in [((0.0, JUMP), "jump at the end"), ((JUMP, 1.0), "jump at the start")] {
        for tableau in adaptive_tableaus() {
            // So slow that the trial step for the first step size spans everything.
            let slow = Watched::new(|_t: &Time, y: &Tensor| y.affine(1e-3, 0.0));
            let solver = with_jump(adaptive(tableau, 1e-4));
            solver.solve(&slow, &state(&[1.0]), span, &mut ()).unwrap();
            assert!(!slow.times().contains(&JUMP), "{}, {why}: {:?}", tableau.name(), slow.times());
        }
    }
}

#[test]
fn every_step_sees_one_side_of_a_jump() {
    // Constant on both sides, so that one side alone is integrated without any error.
    for (tableau, span) in ALL.into_iter().flat_map(|t| [(t, (0.0, 1.0)), (t, (1.0, 0.0))]) {
        for solver in both_kinds(tableau) {
            let y0 = if span.0 == 0.0 { 0.0 } else { JUMP - 30.0 };
            let expected = if span.0 == 0.0 { JUMP - 30.0 } else { 0.0 };
            let end = with_jump(solver).solve(&turns, &state(&[y0]), span, &mut ()).unwrap();
            let error = distance(&end.y1, &[expected]);
            // 30 in units in the last place is 4e-15; some ten steps round.
            assert!(error < 1e-12, "{} over {span:?}: error {error}", tableau.name());
        }
    }
}

#[test]
fn known_jump_costs_no_rejections() {
    for tableau in far_sighted_tableaus() {
        let rejected = |solver: Solver| {
            let end = solver.solve(&turns, &state(&[0.0]), (0.0, 1.0), &mut ()).unwrap();
            end.stats.rejected
        };
        let solver = adaptive(tableau, 1e-6);
        let (unknown, known) = (rejected(solver.clone()), rejected(with_jump(solver)));
        assert!(unknown >= 3, "{}: {unknown} rejections without jump_ts", tableau.name());
        assert_eq!(known, 0, "{}: rejections with jump_ts", tableau.name());
    }
}

#[test]
fn first_step_before_a_jump_does_not_look_past_it() {
    // The field after the jump is a thousand times as steep; the first step has no business there.
    let cliff = Watched::new(|t: &Time, y: &Tensor| {
        y.affine(if t.value() < JUMP { -1e-3 } else { -1.0 }, 0.0)
    });
    with_jump(dopri5(1e-4)).solve(&cliff, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
    let times = cliff.times();
    let first_after = times.iter().position(|&t| t > JUMP).unwrap();
    let last_before = times.iter().rposition(|&t| t < JUMP).unwrap();
    assert!(last_before < first_after, "evaluated beyond the jump, then before it: {times:?}");
}

#[test]
fn jump_of_a_smooth_field_does_no_harm() {
    let solver = Solver { jump_ts: vec![0.25, 0.5], ..Solver::fixed(RK4, 0.125) };
    let end = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
    let error = distance(&end.y1, &[(-1.0f64).exp()]);
    assert_eq!(end.stats.accepted, 8);
    assert!(error < 1e-5, "error {error}; RK4 with steps of 1/8 errs by about 1e-6");
}

/// [`turns`] for fields that compare the time as a tensor, which `f32` rounds.
fn turns_by_tensor(t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    let late = t.tensor(y)?.ge(JUMP)?.to_dtype(y.dtype())?;
    y.zeros_like()?.broadcast_add(&late.affine(-101.0, 1.0)?)
}

#[test]
fn jumps_are_crossed_on_one_side_in_single_precision_too() {
    for (tableau, dtype) in ALL.into_iter().flat_map(|t| [(t, DType::F32), (t, DType::F64)]) {
        for solver in both_kinds(tableau) {
            for (y0, span, y1) in [(0.0, (0.0, 1.0), -29.3), (-29.3, (1.0, 0.0), 0.0)] {
                let y0 = state(&[y0]).to_dtype(dtype).unwrap();
                let end = with_jump(solver.clone()).solve(&turns_by_tensor, &y0, span, &mut ());
                let off = distance(&end.unwrap().y1, &[y1]);
                assert!(off < 1e-4, "{} {dtype:?} over {span:?}: off by {off}", tableau.name());
            }
        }
    }
}
