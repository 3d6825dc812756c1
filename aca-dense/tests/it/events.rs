//! Events of whole states and of samples: times and states against closed forms.

use aca_core::{Batching, Error, OnFailure, Solver, Time, Tolerance};
use aca_dense::{DenseError, Event, EventSolution, Events, SaveAt, solve_events};
use aca_tableau::{ALL, DOPRI5, HEUN, RK4};
use candle_core::{DType, Device, Result, Tensor};

const G: f64 = 9.81;

/// A ball in free fall, `[.., 2]`: height and speed.
fn fall(_t: &Time, y: &Tensor) -> Result<Tensor> {
    let speed = y.narrow(y.rank() - 1, 1, 1)?;
    Tensor::cat(&[&speed, &speed.affine(0.0, -G)?], y.rank() - 1)
}

/// Back up with a part of the speed, from the ground.
fn bounce(restitution: f64) -> impl Fn(&Time, &Tensor) -> Result<Tensor> {
    move |_t, y| {
        let last = y.rank() - 1;
        let (height, speed) = (y.narrow(last, 0, 1)?, y.narrow(last, 1, 1)?);
        Tensor::cat(&[height.affine(0.0, 0.0)?, speed.affine(-restitution, 0.0)?], last)
    }
}

fn ball(restitution: f64) -> Event {
    Event::component(0, 0.0).falling().jump(bounce(restitution))
}

/// When a ball dropped from a height bounces.
fn bounces(height: f64, restitution: f64, count: usize) -> Vec<f64> {
    let first = (2.0 * height / G).sqrt();
    let mut flight = 2.0 * first;
    let mut t = first;
    (0..count)
        .map(|i| {
            if i > 0 {
                flight *= restitution;
                t += flight;
            }
            t
        })
        .collect()
}

fn adaptive(tolerance: f64) -> Solver {
    Solver::adaptive(DOPRI5, Tolerance { rtol: tolerance, atol: tolerance })
}

fn state(y: &[f64]) -> Tensor {
    Tensor::new(y, &Device::Cpu).unwrap()
}

fn run(solver: &Solver, y0: &[f64], span: (f64, f64), events: impl Into<Events>) -> EventSolution {
    try_run(solver, y0, span, events).unwrap()
}

fn try_run(
    solver: &Solver,
    y0: &[f64],
    span: (f64, f64),
    events: impl Into<Events>,
) -> aca_core::Result<EventSolution> {
    let events = events.into();
    solve_events((solver, &events), &fall, &state(y0), span, &SaveAt::End)
}

fn times(sol: &EventSolution) -> Vec<f64> {
    sol.event_times.to_vec1().unwrap()
}

fn close(ours: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(ours.len(), expected.len(), "{ours:?} for {expected:?}");
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((ours - expected).abs() <= bound, "{ours:?} for {expected:?}");
    }
}

/// `y' = v`, a constant speed for each number of the state.
fn glide(speeds: &'static [f64]) -> impl Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync {
    move |_t, y| Tensor::new(speeds, y.device())?.broadcast_as(y.shape())?.contiguous()
}

/// One step from 0 to 1 over a field.
fn one_step<F>(field: F, y0: &[f64], events: Events) -> aca_core::Result<EventSolution>
where
    F: Fn(&Time, &Tensor) -> Result<Tensor> + Send + Sync,
{
    let solver = Solver::fixed_count(RK4, 1);
    solve_events((&solver, &events), &field, &state(y0), (0.0, 1.0), &SaveAt::End)
}

#[test]
fn ten_bounces_come_when_they_should() {
    let sol = run(&adaptive(1e-10), &[5.0, 0.0], (0.0, 100.0), ball(0.8).until(10));
    close(&times(&sol), &bounces(5.0, 0.8, 10), 1e-10);
    assert_eq!(sol.samples[0].t1, times(&sol)[9], "the tenth bounce is the end");
    let speed = sol.y1.to_vec1::<f64>().unwrap()[1];
    let expected = 0.8f64.powi(10) * (2.0 * G * 5.0).sqrt();
    assert!((speed - expected).abs() < 1e-9, "it leaves with {speed}, not {expected}");
}

#[test]
fn every_method_finds_the_ground() {
    for tableau in ALL {
        // The exact orbit is of second order in time.
        if tableau.order() < 2 {
            continue;
        }
        let sol = run(&Solver::fixed(tableau, 0.3), &[5.0, 1.0], (0.0, 9.0), ball(0.8).until(2));
        let first = (1.0 + (1.0 + 2.0 * G * 5.0f64).sqrt()) / G;
        let second = first + 2.0 * 0.8 * (1.0 + 2.0 * G * 5.0f64).sqrt() / G;
        close(&times(&sol), &[first, second], 1e-11);
    }
}

#[test]
fn function_and_component_find_the_same_time() {
    let function = Event::new(|_t, y| y.get(0)).falling();
    let solver = adaptive(1e-10);
    let by_function = times(&run(&solver, &[5.0, 0.0], (0.0, 9.0), function));
    close(&by_function, &bounces(5.0, 0.8, 1), 1e-12);
}

#[test]
fn time_alone_may_decide() {
    let event = Event::new(|t: &Time, y| t.tensor(y)?.affine(1.0, -0.3));
    let sol = run(&adaptive(1e-8), &[5.0, 0.0], (0.0, 1.0), event);
    close(&times(&sol), &[0.3], 1e-15);
}

#[test]
fn pendulum_crosses_once_each_half_period() {
    let pendulum = |_t: &Time, y: &Tensor| {
        Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.sin()?.neg()?], 0)
    };
    let events = Events::new([Event::component(0, 0.0).record()]);
    let solver = adaptive(1e-12);
    let sol =
        solve_events((&solver, &events), &pendulum, &state(&[2.0, 0.0]), (0.0, 40.0), &SaveAt::End);
    let t = times(&sol.unwrap());
    let period = 4.0 * quarter_period(2.0);
    let expected: Vec<f64> = (0..t.len()).map(|i| period * (0.25 + 0.5 * i as f64)).collect();
    assert!(t.len() >= 8);
    close(&t, &expected, 1e-9);
}

/// The complete elliptic integral K(sin(amplitude / 2)), by the arithmetic-geometric mean.
fn quarter_period(amplitude: f64) -> f64 {
    let (mut a, mut b) = (1.0, (0.5 * amplitude).cos());
    for _ in 0..10 {
        (a, b) = (0.5 * (a + b), (a * b).sqrt());
    }
    std::f64::consts::FRAC_PI_2 / a
}

#[test]
fn recording_leaves_the_solve_what_it_is() {
    let solver = adaptive(1e-6);
    let events = Events::new([Event::component(1, -3.0).record()]);
    let save_at = SaveAt::All(vec![SaveAt::Steps, SaveAt::Dense]);
    let y0 = state(&[5.0, 0.0]);
    let with = solve_events((&solver, &events), &fall, &y0, (0.0, 1.0), &save_at).unwrap();
    let without = aca_dense::solve(&solver, &fall, &y0, (0.0, 1.0), &save_at).unwrap();
    assert_eq!(with.ts, without.ts);
    assert_eq!(with.ys.to_vec2::<f64>().unwrap(), without.ys.to_vec2::<f64>().unwrap());
    close(&times(&with), &[3.0 / G], 1e-12);
}

#[test]
fn two_events_inside_one_step_come_in_order() {
    let events = Events::new([
        Event::component(1, 0.0).record(),
        Event::component(0, 0.0).record(),
        Event::new(|_t, y| y.get(1)?.affine(1.0, -0.25)).record(),
    ]);
    let sol = one_step(glide(&[-1.0, -1.0]), &[0.3, 0.7], events).unwrap();
    close(&times(&sol), &[0.3, 0.45, 0.7], 1e-15);
    assert_eq!(sol.which, [1, 2, 0]);
}

#[test]
fn a_change_of_state_undoes_what_lay_behind_it() {
    // At 0.3 the second number is sent back up, so it does not come to zero at 0.4.
    let up = |_t: &Time, y: &Tensor| {
        Tensor::cat(&[y.narrow(0, 0, 1)?, y.narrow(0, 1, 1)?.affine(1.0, 5.0)?], 0)
    };
    let events = Events::new([
        Event::component(0, 0.0).falling().jump(up),
        Event::component(1, 0.0).falling().record(),
    ]);
    let sol = one_step(glide(&[-1.0, -1.0]), &[0.3, 0.4], events).unwrap();
    assert_eq!(sol.which, [0]);
    close(&sol.y1.to_vec1::<f64>().unwrap(), &[-0.7, 4.4], 1e-14);
}

#[test]
fn double_crossing_inside_a_step_is_seen() {
    // A throw that passes the height of 1.27 twice within 0.03, in one step of 1.
    let up = Event::component(0, 1.27).record();
    let solver = Solver::fixed_count(HEUN, 1);
    let sol = run(&solver, &[0.0, 5.0], (0.0, 1.0), up);
    let root = (25.0 - 2.0 * G * 1.27f64).sqrt();
    close(&times(&sol), &[(5.0 - root) / G, (5.0 + root) / G], 1e-13);
}

#[test]
fn start_on_the_surface_is_no_event() {
    for (y0, span) in [([0.0, 3.0], (0.0, 2.0)), ([0.0, -3.0], (0.0, -2.0))] {
        let sol = run(&Solver::fixed_count(RK4, 1), &y0, span, Event::component(0, 0.0));
        close(&times(&sol), &[y0[1] * 2.0 / G], 1e-14);
        // By a function, whose points inside the step all lie beyond the way back.
        let low = Event::new(|_t, y| y.get(0));
        let sol = run(&Solver::fixed_count(RK4, 1), &[0.0, 0.01 * y0[1]], span, low);
        close(&times(&sol), &[y0[1] * 0.02 / G], 1e-14);
    }
}

#[test]
fn event_at_the_very_end_of_the_span_is_seen() {
    let sol = one_step(glide(&[-1.0]), &[1.0], Event::component(0, 0.0).into()).unwrap();
    assert_eq!(times(&sol), [1.0]);
    assert_eq!(sol.samples[0].t1, 1.0);
}

#[test]
fn span_of_no_length_has_no_events() {
    let sol = run(&adaptive(1e-6), &[0.0, 1.0], (2.0, 2.0), Event::component(0, 0.0));
    assert!(sol.is_empty());
    assert_eq!(sol.event_times.dims(), [0]);
    assert_eq!(sol.states_before.dims(), [0, 2]);
}

#[test]
fn grazing_contact_is_no_crossing_unless_it_touches() {
    // The highest point of the throw is 3^2 / 2 g.
    for (threshold, expected) in [(9.0 / (2.0 * G) + 1e-9, 0), (9.0 / (2.0 * G) - 1e-9, 2)] {
        let sol =
            run(&adaptive(1e-8), &[0.0, 3.0], (0.0, 1.0), Event::component(0, threshold).record());
        assert_eq!(sol.len(), expected, "threshold {threshold}");
    }
}

#[test]
fn accumulating_events_are_refused_with_their_time() {
    let error = try_run(&adaptive(1e-8), &[5.0, 0.0], (0.0, 100.0), ball(0.5)).err().unwrap();
    let first = (10.0f64 / G).sqrt();
    match DenseError::of(&error) {
        // The first fall, and flights that halve from there.
        Some(DenseError::EventsAccumulate { event: 0, t, .. }) => {
            assert!((t - 3.0 * first).abs() < 1e-6, "at {t}, not {}", 3.0 * first);
        }
        _ => panic!("{error}"),
    }
}

#[test]
fn ball_that_lies_does_not_fall_through_the_ground() {
    // Every bounce takes all of the speed.
    let error = try_run(&adaptive(1e-8), &[5.0, 0.0], (0.0, 100.0), ball(0.0)).err().unwrap();
    assert!(matches!(DenseError::of(&error), Some(DenseError::EventsAccumulate { .. })), "{error}");
}

#[test]
fn too_many_events_are_refused() {
    let events = Events { limit: 5, ..Events::new([ball(0.99)]) };
    let error = try_run(&adaptive(1e-8), &[5.0, 0.0], (0.0, 100.0), events).err().unwrap();
    assert!(
        matches!(DenseError::of(&error), Some(DenseError::TooManyEvents { limit: 5, .. })),
        "{error}"
    );
}

#[test]
fn function_without_a_value_is_refused() {
    let event = Event::new(|_t, y| y.get(0)?.affine(1.0, -4.9)?.sqrt());
    let error = try_run(&adaptive(1e-8), &[5.0, 0.0], (0.0, 1.0), event).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("the function of event 0 is NaN at t = "), "{text}");
}

#[test]
fn wrong_shapes_are_refused() {
    let refused = |event: Event| {
        try_run(&adaptive(1e-8), &[5.0, 0.0], (0.0, 9.0), event).err().unwrap().to_string()
    };
    let shape = refused(Event::new(|_t, y| Ok(y.clone())));
    assert!(
        shape.starts_with("the function of event 0 returned shape [2] where 1 numbers"),
        "{shape}"
    );
    let jump = refused(Event::component(0, 0.0).jump(|_t, y| y.narrow(0, 0, 1)));
    assert!(
        jump.starts_with("the jump of event 0 returned shape [1] for states of shape [2]"),
        "{jump}"
    );
    let place = refused(Event::component(2, 0.0));
    assert!(place.starts_with("event 0 looks at number 2 of a state of 2"), "{place}");
}

#[test]
fn two_jumps_at_one_time_are_refused() {
    let corner = Events::new([
        Event::component(0, 0.0).jump(|_t, y| y.affine(-1.0, 0.0)),
        Event::component(1, 0.0).jump(|_t, y| y.affine(-1.0, 0.0)),
    ]);
    let error = one_step(glide(&[-1.0, -1.0]), &[0.5, 0.5], corner).err().unwrap();
    assert!(error.to_string().starts_with("events 0 and 1 both act at t = 0.5"), "{error}");
}

#[test]
fn record_beside_a_jump_at_one_time_is_kept() {
    let both = Events::new([ball(0.8).until(3), Event::component(0, 0.0).falling().record()]);
    let sol = run(&adaptive(1e-10), &[5.0, 0.0], (0.0, 100.0), both);
    assert_eq!(sol.which, [1, 0, 1, 0, 1, 0]);
}

#[test]
fn backward_in_time_events_come_from_the_other_side() {
    let falling = Event::component(0, 0.0).falling();
    let sol = run(&adaptive(1e-10), &[5.0, 0.0], (0.0, -9.0), falling);
    close(&times(&sol), &[-(10.0 / G).sqrt()], 1e-12);
}

#[test]
fn outputs_beyond_a_stop_are_reported_as_not_reached() {
    let events = Events::new([Event::component(0, 0.0)]);
    let save_at = SaveAt::Times(vec![0.0, 0.5, 1.0, 1.5, 2.0]);
    let sol =
        solve_events((&adaptive(1e-10), &events), &fall, &state(&[5.0, 0.0]), (0.0, 2.0), &save_at);
    let sol = sol.unwrap();
    let heights: Vec<f64> = sol.ys.to_vec2::<f64>().unwrap().iter().map(|y| y[0]).collect();
    close(&heights[..3], &[5.0, 5.0 - G / 8.0, 5.0 - G / 2.0], 1e-10);
    assert!(heights[3].is_nan() && heights[4].is_nan());
    assert!((sol.y1.to_vec1::<f64>().unwrap()[0]).abs() < 1e-12);
}

#[test]
fn outputs_and_dense_output_go_over_all_pieces() {
    let events = Events::new([ball(0.8)]);
    let ts: Vec<f64> = (0..40).map(|i| f64::from(i) / 10.0).collect();
    let save_at = SaveAt::All(vec![SaveAt::Times(ts.clone()), SaveAt::Dense]);
    let y0 = state(&[5.0, 0.0]);
    let sol = solve_events((&adaptive(1e-10), &events), &fall, &y0, (0.0, 3.9), &save_at).unwrap();
    let knots = bounces(5.0, 0.8, 3);
    let (v1, v2) = (0.8 * (2.0 * G * 5.0f64).sqrt(), 0.64 * (2.0 * G * 5.0f64).sqrt());
    let height = |t: f64| match t {
        t if t <= knots[0] => 5.0 - 0.5 * G * t * t,
        t if t <= knots[1] => v1 * (t - knots[0]) - 0.5 * G * (t - knots[0]).powi(2),
        t => v2 * (t - knots[1]) - 0.5 * G * (t - knots[1]).powi(2),
    };
    let expected: Vec<f64> = ts.iter().map(|&t| height(t)).collect();
    let column =
        |ys: &Tensor| ys.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    close(&column(&sol.ys), &expected, 1e-9);
    close(&column(&sol.at_times(0, &ts).unwrap()), &expected, 1e-9);
    assert!(knots[2] > 3.9 && sol.len() == 2, "{knots:?}");
}

#[test]
fn given_times_act_exactly_then() {
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let dose = Event::at_times(vec![0.5, 1.0, 5.0]).jump(|_t, y| y.affine(1.0, 1.0));
    let events = Events::new([dose]);
    let sol =
        solve_events((&adaptive(1e-11), &events), &decay, &state(&[1.0]), (0.0, 2.0), &SaveAt::End);
    let sol = sol.unwrap();
    assert_eq!(times(&sol), [0.5, 1.0]);
    let expected = (-2.0f64).exp() + (-1.5f64).exp() + (-1.0f64).exp();
    close(&sol.y1.to_vec1::<f64>().unwrap(), &[expected], 1e-10);
}

#[test]
fn steps_can_be_projected() {
    // A turn by the crude method of Heun leaves the circle; projected, it stays.
    let turn =
        |_t: &Time, y: &Tensor| Tensor::cat(&[y.narrow(0, 1, 1)?, y.narrow(0, 0, 1)?.neg()?], 0);
    let project = |_t: &Time, y: &Tensor| y.broadcast_div(&y.sqr()?.sum_all()?.sqrt()?);
    let events = Events::new([Event::every_step().jump(project)]);
    let solver = Solver::fixed(HEUN, 0.25);
    let sol =
        solve_events((&solver, &events), &turn, &state(&[1.0, 0.0]), (0.0, 20.0), &SaveAt::End);
    let sol = sol.unwrap();
    let y = sol.y1.to_vec1::<f64>().unwrap();
    assert!((y[0].hypot(y[1]) - 1.0).abs() < 1e-15);
    assert_eq!(sol.len(), 80);
}

#[test]
fn steady_state_ends_a_solve() {
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let events = Events::new([Event::steady(std::sync::Arc::new(decay), 1e-3)]);
    let sol = solve_events(
        (&adaptive(1e-10), &events),
        &decay,
        &state(&[1.0]),
        (0.0, 100.0),
        &SaveAt::End,
    );
    close(&times(&sol.unwrap()), &[1e3f64.ln()], 1e-7);
}

#[test]
fn balls_of_a_batch_have_the_bits_of_each_alone() {
    let heights: Vec<f64> = (0..256).map(|i| 1.0 + 0.05 * f64::from(i)).collect();
    let y0: Vec<f64> = heights.iter().flat_map(|&h| [h, 0.0]).collect();
    let y0 = Tensor::from_vec(y0, (256, 2), &Device::Cpu).unwrap();
    let solver = Solver { batching: Batching::PerSample, ..adaptive(1e-8) };
    let function = Event::new(|_t, y| y.narrow(1, 0, 1)?.squeeze(1)).falling().jump(bounce(0.8));
    for event in [ball(0.8), function] {
        let events = Events::new([event]);
        let save_at = SaveAt::Times(vec![1.0, 2.5, 4.0]);
        let solve = |y0: &Tensor| {
            solve_events((&solver, &events), &fall, y0, (0.0, 4.0), &save_at).unwrap()
        };
        let all = solve(&y0);
        assert!(
            all.counts.iter().any(|&count| count > 3) && all.counts.iter().any(|&count| count < 3)
        );
        for sample in (0..256).step_by(5) {
            let alone = solve(&y0.narrow(0, sample, 1).unwrap());
            let own = all.of_sample(sample).unwrap();
            let same = |all: &Tensor, alone: &Tensor| {
                let all = all.narrow(0, own.start, own.len()).unwrap();
                assert_eq!(
                    all.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
                    alone.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
                    "sample {sample}"
                );
            };
            same(&all.event_times, &alone.event_times);
            same(&all.states_after, &alone.states_after);
            let ys =
                |sol: &EventSolution, i: usize| sol.sample(i).unwrap().to_vec2::<f64>().unwrap();
            assert_eq!(ys(&all, sample), ys(&alone, 0), "sample {sample}");
            close(&times(&alone), &bounces(heights[sample], 0.8, own.len()), 1e-7);
        }
    }
}

#[test]
fn samples_with_spans_of_their_own_stop_on_their_own() {
    let y0 = Tensor::new(&[[5.0f64, 0.0], [5.0, 0.0], [1.0, 0.0]], &Device::Cpu).unwrap();
    let solver = Solver { batching: Batching::PerSample, ..adaptive(1e-10) };
    let events = Events::new([Event::component(0, 0.0)]);
    let spans = [(0.0, 2.0), (0.0, 0.5), (1.0, 3.0)];
    let sol = solve_events((&solver, &events), &fall, &y0, spans, &SaveAt::Steps).unwrap();
    assert_eq!(sol.counts, [1, 0, 1]);
    close(&times(&sol), &[(10.0 / G).sqrt(), 1.0 + (2.0 / G).sqrt()], 1e-11);
    assert_eq!(sol.samples[1].t1, 0.5);
}

#[test]
fn sample_whose_events_accumulate_fails_alone() {
    let y0 = Tensor::new(&[[5.0f64, 0.0], [5.0, 20.0]], &Device::Cpu).unwrap();
    let solver =
        Solver { batching: Batching::PerSample, on_failure: OnFailure::Keep, ..adaptive(1e-8) };
    let events = Events::new([ball(0.2)]);
    let solve =
        |solver: &Solver| solve_events((solver, &events), &fall, &y0, (0.0, 4.0), &SaveAt::End);
    let sol = solve(&solver).unwrap();
    assert!(!sol.samples[0].status.is_finished() && sol.samples[1].status.is_finished());
    let strict = Solver { on_failure: OnFailure::Error, ..solver };
    assert!(matches!(solve(&strict), Err(Error::SamplesFailed { .. })));
}

#[test]
fn single_precision_finds_the_ground_too() {
    let events = Events::new([ball(0.8).until(5)]);
    let y0 = state(&[5.0, 0.0]).to_dtype(DType::F32).unwrap();
    let sol =
        solve_events((&adaptive(1e-6), &events), &fall, &y0, (0.0, 100.0), &SaveAt::End).unwrap();
    close(&times(&sol), &bounces(5.0, 0.8, 5), 1e-5);
    assert_eq!(sol.y1.dtype(), DType::F32);
}
