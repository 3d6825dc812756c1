//! Events where rounding, exact zeros and limits decide.

use aca_core::{Batching, Error, OnFailure, Solver, Time, Tolerance};
use aca_dense::{DenseError, Event, EventSolution, Events, SaveAt, solve_events};
use aca_tableau::{DOPRI5, RK4};
use candle_core::{DType, Device, Result, Tensor};

const G: f64 = 9.81;

fn state(y: &[f64]) -> Tensor {
    Tensor::new(y, &Device::Cpu).unwrap()
}

fn times(sol: &EventSolution) -> Vec<f64> {
    sol.event_times.to_vec1().unwrap()
}

fn adaptive(tolerance: f64) -> Solver {
    Solver::adaptive(DOPRI5, Tolerance { rtol: tolerance, atol: tolerance })
}

fn fall(_t: &Time, y: &Tensor) -> Result<Tensor> {
    let (last, speed) = (y.rank() - 1, y.narrow(y.rank() - 1, 1, 1)?);
    Tensor::cat(&[&speed, &speed.affine(0.0, -G)?], last)
}

/// `y' = 1`.
fn clock(_t: &Time, y: &Tensor) -> Result<Tensor> {
    y.ones_like()
}

/// Steps of 1 along `y = t`, to 3.
fn along_the_clock(events: impl Into<Events>, save_at: &SaveAt) -> EventSolution {
    let solver = Solver::fixed(RK4, 1.0);
    solve_events((&solver, &events.into()), &clock, &state(&[0.0]), (0.0, 3.0), save_at).unwrap()
}

fn close(ours: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(ours.len(), expected.len(), "{ours:?} for {expected:?}");
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((ours - expected).abs() <= bound, "{ours:?} for {expected:?}");
    }
}

#[test]
fn a_state_sent_behind_its_surface_comes_to_it_again() {
    // In one step of a straight line the first try hits the zero exactly, with the other end of the bracket far away.
    for threshold in [0.3, 0.5, 0.7] {
        let back = |_t: &Time, y: &Tensor| y.affine(0.0, 0.2);
        let function = Event::new(move |_t, y| y.affine(1.0, -threshold));
        for event in [Event::component(0, threshold), function] {
            let sol = along_the_clock(event.jump(back).until(4), &SaveAt::End);
            let expected: Vec<f64> =
                (0..4).map(|i| threshold + f64::from(i) * (threshold - 0.2)).collect();
            close(&times(&sol), &expected, 1e-14);
        }
    }
}

#[test]
fn a_function_that_stays_zero_happens_where_it_comes_to_zero() {
    let stays = || Event::new(|_t, y| y.affine(-1.0, 1.3)?.relu()).record();
    let passes =
        || Event::new(|_t, y| y.affine(1.0, -1.7)?.relu()? - y.affine(-1.0, 1.3)?.relu()?).record();
    for points in [0, 1, 4, 9] {
        for event in [stays(), passes()] {
            let sol = along_the_clock(Events { points, ..Events::new([event]) }, &SaveAt::End);
            close(&times(&sol), &[1.3], 1e-14);
        }
    }
}

#[test]
fn a_function_that_is_zero_all_along_never_happens() {
    let zero = Event::new(|_t, y| y.zeros_like()).record();
    assert!(along_the_clock(zero, &SaveAt::End).is_empty());
}

#[test]
fn rounding_in_a_jump_does_not_let_a_ball_through_its_ground() {
    for ground in [0.0, 0.1, -3.3, 1000.0, 1e6] {
        // The height is what it was but for rounding, and both directions count.
        let bounce = |_t: &Time, y: &Tensor| {
            let height = y.narrow(0, 0, 1)?.affine(1.0 / 3.0, 0.0)?.affine(3.0, 0.0)?;
            Tensor::cat(&[height, y.narrow(0, 1, 1)?.affine(-0.9, 0.0)?], 0)
        };
        let function = Event::new(move |_t, y| y.get(0)?.affine(1.0, -ground));
        for event in [Event::component(0, ground), function] {
            let events = Events::new([event.jump(bounce).until(4)]);
            let y0 = state(&[ground + 5.0, 0.0]);
            let sol =
                solve_events((&adaptive(1e-9), &events), &fall, &y0, (0.0, 90.0), &SaveAt::End);
            let first = (10.0 / G).sqrt();
            let expected = [0.0, 1.8, 3.42, 4.878].map(|flights| first * (1.0 + flights));
            close(&times(&sol.unwrap()), &expected, 1e-8 + 1e-13 * ground.abs());
        }
    }
}

#[test]
fn an_event_recorded_beside_a_jump_is_not_counted_again_behind_it() {
    for ground in [0.0, 0.1, -3.3, 1000.0] {
        let bounce = |_t: &Time, y: &Tensor| {
            Tensor::cat(&[y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?.affine(-0.9, 0.0)?], 0)
        };
        let function = Event::new(move |_t, y| y.get(0)?.affine(1.0, -ground));
        for beside in [Event::component(0, ground), function] {
            let jumps = Event::component(0, ground).jump(bounce).until(4);
            let events = Events::new([jumps, beside.record()]);
            let y0 = state(&[ground + 5.0, 0.0]);
            let sol =
                solve_events((&adaptive(1e-9), &events), &fall, &y0, (0.0, 90.0), &SaveAt::End);
            assert_eq!(sol.unwrap().which, [1, 0, 1, 0, 1, 0, 1, 0], "ground {ground}");
        }
    }
}

#[test]
fn steps_that_are_kept_hold_both_states_of_an_event() {
    let back = |_t: &Time, y: &Tensor| y.affine(0.0, 0.25);
    let jumps = along_the_clock(Event::component(0, 0.5).jump(back).until(2), &SaveAt::Steps);
    assert_eq!(jumps.ts, [0.0, 0.5, 0.5, 0.75]);
    close(&jumps.ys.flatten_all().unwrap().to_vec1().unwrap(), &[0.0, 0.5, 0.25, 0.5], 1e-15);
    let stops = along_the_clock(Event::component(0, 1.5), &SaveAt::Steps);
    assert_eq!(stops.ts, [0.0, 1.0, 1.5]);
    close(&stops.ys.flatten_all().unwrap().to_vec1().unwrap(), &[0.0, 1.0, 1.5], 1e-15);
    // Each sample its own.
    let solver = Solver { batching: Batching::PerSample, ..Solver::fixed(RK4, 1.0) };
    let y0 = Tensor::new(&[[0.0f64], [5.0], [0.5]], &Device::Cpu).unwrap();
    let stop = Events::new([Event::component(0, 1.25)]);
    let sol = solve_events((&solver, &stop), &clock, &y0, (0.0, 2.0), &SaveAt::Steps).unwrap();
    let ys = sol.ys.flatten_all().unwrap().to_vec1().unwrap();
    close(&sol.ts, &[0.0, 1.0, 1.25, 0.0, 1.0, 2.0, 0.0, 0.75], 1e-15);
    close(&ys, &[0.0, 1.0, 1.25, 5.0, 6.0, 7.0, 0.5, 1.25], 1e-15);
}

#[test]
fn steps_of_all_pieces_count_together_against_the_limit() {
    let bounce = |_t: &Time, y: &Tensor| {
        let last = y.rank() - 1;
        let height = y.narrow(last, 0, 1)?.zeros_like()?;
        Tensor::cat(&[height, y.narrow(last, 1, 1)?.affine(-0.9, 0.0)?], last)
    };
    let events = Events::new([Event::component(0, 0.0).falling().jump(bounce)]);
    let solve = |solver: &Solver, y0: &Tensor| {
        solve_events((solver, &events), &fall, y0, (0.0, 10.0), &SaveAt::End)
    };
    let y0 = state(&[5.0, 0.0]);
    let taken = solve(&adaptive(1e-8), &y0).unwrap().stats.accepted;
    let exact = Solver { max_steps: taken, ..adaptive(1e-8) };
    assert!(solve(&exact, &y0).is_ok());
    let short = Solver { max_steps: taken - 1, ..adaptive(1e-8) };
    let error = solve(&short, &y0).err().unwrap();
    assert!(matches!(error, Error::MaxSteps { .. }), "{error}");
    // One sample bounces too often, the other does not bounce.
    let keep = Solver { batching: Batching::PerSample, on_failure: OnFailure::Keep, ..short };
    let y0 = Tensor::new(&[[5.0f64, 0.0], [5000.0, 0.0]], &Device::Cpu).unwrap();
    let sol = solve(&keep, &y0).unwrap();
    assert!(!sol.samples[0].status.is_finished() && sol.samples[1].status.is_finished());
}

#[test]
fn occurrence_number_0_is_refused() {
    let events = Events::new([Event::component(0, 0.5).record().until(0)]);
    let y0 = state(&[0.0]);
    let error = solve_events((&adaptive(1e-6), &events), &clock, &y0, (0.0, 1.0), &SaveAt::End);
    let error = error.err().unwrap();
    assert!(matches!(DenseError::of(&error), Some(DenseError::UntilZero { event: 0 })), "{error}");
}

#[test]
fn jumps_of_another_type_or_without_a_value_are_refused() {
    let refused = |event: Event, solver: Solver| {
        let y0 = Tensor::new(&[[0.0f64], [0.4], [7.0]], &Device::Cpu).unwrap();
        let y0 = if solver.batching == Batching::Shared { y0.get(0).unwrap() } else { y0 };
        solve_events((&solver, &event.into()), &clock, &y0, (0.0, 1.0), &SaveAt::End)
    };
    let single = Event::component(0, 0.5).jump(|_t, y| y.to_dtype(DType::F32));
    let error = refused(single, adaptive(1e-6)).err().unwrap().to_string();
    assert!(error.starts_with("the jump of event 0 returned F32 for states of F64"), "{error}");
    let lost = || Event::component(0, 0.5).jump(|_t, y| y.affine(f64::NAN, 0.0)).until(1);
    let error = refused(lost(), adaptive(1e-6)).err().unwrap();
    let found = DenseError::of(&error);
    assert!(matches!(found, Some(DenseError::JumpNotFinite { event: 0, index: 0, .. })), "{error}");
    // The sample that does not jump goes on.
    let solver =
        Solver { batching: Batching::PerSample, on_failure: OnFailure::Keep, ..adaptive(1e-6) };
    let sol = refused(lost(), solver).unwrap();
    let finished: Vec<bool> = sol.samples.iter().map(|own| own.status.is_finished()).collect();
    assert_eq!(finished, [false, false, true]);
    close(&sol.y1.flatten_all().unwrap().to_vec1().unwrap(), &[0.5, 0.5, 8.0], 1e-9);
}
