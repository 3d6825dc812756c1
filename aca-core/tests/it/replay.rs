use aca_core::{Result, Solver, Step, StepSink, Time};
use aca_tableau::{ALL, RK4};
use candle_core::Tensor;

use crate::common::{
    CIRCLE, Recorder, SWING, adaptive, adaptive_tableaus, decay, distance, dopri5, state, values,
};

fn bits(states: &[f64]) -> Vec<u64> {
    states.iter().map(|y| y.to_bits()).collect()
}

/// Solves, replays the accepted grid and asserts that every state is the same to the last bit.
fn assert_replay_is_exact(solver: &Solver, y0: &Tensor, span: (f64, f64)) {
    let field = |t: &Time, y: &Tensor| {
        (CIRCLE.f)(t, y)?.affine(if t.value() < 0.5 { 1.0 } else { 2.0 }, 0.0)
    };
    let (mut solved, mut replayed) = (Recorder::default(), Recorder::default());
    let end = solver.solve(&field, y0, span, &mut solved).unwrap();
    let again = solver.replay(&field, y0, &solved.grid(), &mut replayed).unwrap();
    let name = solver.method.name();
    assert_eq!(solved.grid(), replayed.grid(), "{name}");
    for (a, b) in solved.steps.iter().zip(&replayed.steps) {
        assert_eq!(bits(&a.y1), bits(&b.y1), "{name} over {span:?}: states at {}", a.t1);
    }
    assert_eq!(values(&end.y1), values(&again.y1), "{name}");
}

#[test]
fn replay_repeats_every_state_to_the_last_bit() {
    for tableau in adaptive_tableaus() {
        for span in [(0.0, 1.3), (1.3, 0.0)] {
            let solver = Solver { first_step: Some(1.0), ..adaptive(tableau, 1e-4) };
            assert_replay_is_exact(&solver, &state(&[1.1, 0.2]), span);
        }
    }
}

#[test]
fn replay_over_a_jump_repeats_every_state_to_the_last_bit() {
    for tableau in adaptive_tableaus() {
        for span in [(0.0, 1.3), (1.3, 0.0)] {
            let solver = Solver { jump_ts: vec![0.5], ..adaptive(tableau, 1e-4) };
            assert_replay_is_exact(&solver, &state(&[1.1, 0.2]), span);
        }
    }
}

#[test]
fn replay_of_single_precision_repeats_every_state_to_the_last_bit() {
    for tableau in adaptive_tableaus() {
        assert_replay_is_exact(&adaptive(tableau, 1e-3), &state(&[1.1f32, 0.2]), (0.0, 1.3));
    }
}

#[test]
fn replay_without_the_interpolants_stages_repeats_the_solve_with_them() {
    /// Asks for the interpolant's stages, so that the solve takes over the end slope from there.
    struct Completing(Recorder);
    impl StepSink for Completing {
        fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
            step.complete()?;
            self.0.accept(step)
        }
    }
    for tableau in adaptive_tableaus() {
        let (solver, y0) = (adaptive(tableau, 1e-4), state(&[1.1, 0.2]));
        let (mut solved, mut replayed) = (Completing(Recorder::default()), Recorder::default());
        solver.solve(&CIRCLE.f, &y0, (0.0, 1.3), &mut solved).unwrap();
        solver.replay(&CIRCLE.f, &y0, &solved.0.grid(), &mut replayed).unwrap();
        for (a, b) in solved.0.steps.iter().zip(&replayed.steps) {
            assert_eq!(bits(&a.y1), bits(&b.y1), "{}: states at {}", tableau.name(), a.t1);
        }
    }
}

#[test]
fn grid_is_followed_as_given() {
    let grid = [2.0, 1.5, 1.4, 0.1];
    for tableau in ALL {
        let mut steps = Recorder::default();
        let solver = Solver::fixed(tableau.clone(), 1.0);
        solver.replay(&SWING.f, &state(&[1.0]), &grid, &mut steps).unwrap();
        assert_eq!(steps.grid(), grid, "{}", tableau.name());
    }
}

#[test]
fn grid_of_one_time_returns_the_initial_state() {
    let end = dopri5(1e-6).replay(&decay, &state(&[3.0]), &[0.5], &mut ()).unwrap();
    assert_eq!((values(&end.y1), end.stats.nfe), (vec![3.0], 0));
}

#[test]
fn fixed_steps_land_on_the_end_when_they_do_not_divide_the_span() {
    for (span, expected) in
        [((0.0, 1.0), [0.0, 0.3, 0.6, 0.9, 1.0]), ((1.0, 0.0), [1.0, 0.7, 0.4, 0.1, 0.0])]
    {
        let mut steps = Recorder::default();
        Solver::fixed(RK4, 0.3).solve(&decay, &state(&[1.0]), span, &mut steps).unwrap();
        let grid = steps.grid();
        assert_eq!(grid.last(), Some(&span.1));
        let error = distance(&state(&grid), &expected);
        assert!(error < 1e-15, "{grid:?} differs from {expected:?} by {error}");
    }
}

#[test]
fn fixed_steps_that_divide_the_span_leave_no_sliver() {
    // Ten times 0.1 in binary is a little off 1.
    for (h, span, count) in
        [(0.1, (0.0, 1.0), 10), (0.1, (0.7, 1.0), 3), (1.0 / 49.0, (0.0, 1.0), 49)]
    {
        let mut steps = Recorder::default();
        Solver::fixed(RK4, h).solve(&decay, &state(&[1.0]), span, &mut steps).unwrap();
        assert_eq!(steps.steps.len(), count, "steps of {h} over {span:?}");
    }
}

#[test]
fn fixed_step_longer_than_the_span_is_cut() {
    let mut steps = Recorder::default();
    Solver::fixed(RK4, 5.0).solve(&decay, &state(&[1.0]), (0.0, 0.5), &mut steps).unwrap();
    assert_eq!(steps.grid(), [0.0, 0.5]);
}

#[test]
fn counted_steps_are_equal() {
    for count in [1, 3, 7, 1000] {
        let mut steps = Recorder::default();
        Solver::fixed_count(RK4, count)
            .solve(&decay, &state(&[1.0]), (1.0, -1.0), &mut steps)
            .unwrap();
        assert_eq!(steps.steps.len(), count);
        let uneven = steps.steps.iter().map(|step| (step.t1 - step.t0 + 2.0 / count as f64).abs());
        let uneven = uneven.fold(0.0, f64::max);
        assert!(
            uneven < 1e-15,
            "{count} steps differ from equal ones by {uneven}, beyond rounding"
        );
    }
}

#[test]
fn fixed_grid_goes_on_after_a_stop() {
    let mut steps = Recorder::default();
    let solver = Solver { step_ts: vec![0.3, 0.5 + 1e-9], ..Solver::fixed(RK4, 0.25) };
    solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut steps).unwrap();
    assert_eq!(steps.grid(), [0.0, 0.25, 0.3, 0.5 + 1e-9, 0.75, 1.0]);
}
