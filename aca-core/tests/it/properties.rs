use aca_core::{Solver, Time};
use aca_tableau::ALL;
use candle_core::Tensor;
use proptest::prelude::*;

use crate::common::{Recorder, Watched, adaptive, state};

/// A span of any direction and size, at times up to a billion.
fn spans() -> impl Strategy<Value = (f64, f64)> {
    let starts = prop_oneof![Just(0.0), -1.0..1.0f64, -1e9..1e9f64];
    let lengths = prop_oneof![0.01..10.0f64, 10.0..1e3f64];
    (starts, lengths, any::<bool>()).prop_map(|(start, length, backward)| {
        (start, if backward { start - length } else { start + length })
    })
}

/// A solver of any tableau, with stops and jumps at fractions of the span, some of them outside.
fn solvers((t0, t1): (f64, f64)) -> impl Strategy<Value = Solver> {
    let fractions = || prop::collection::vec(-0.2..1.2f64, 0..4);
    let place = move |s: f64| t0 + s * (t1 - t0);
    let settings = (0..ALL.len(), any::<bool>(), 0.05..2.0f64, 0.03..1.0f64);
    (settings, fractions(), fractions(), any::<bool>()).prop_map(
        move |((tableau, is_adaptive, h, h_max), stops, jumps, at_ends)| {
            let (tableau, length) = (ALL[tableau], (t1 - t0).abs());
            let base = match tableau.is_adaptive() && is_adaptive {
                true => Solver { h_max: h_max * length, ..adaptive(tableau, 1e-3) },
                false => Solver::fixed(tableau.clone(), h * length),
            };
            let mut jump_ts: Vec<f64> = jumps.into_iter().map(place).collect();
            jump_ts.extend(if at_ends { vec![t0, t1] } else { vec![] });
            Solver { step_ts: stops.into_iter().map(place).collect(), jump_ts, ..base }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn steps_cover_the_span_and_keep_every_promise_about_times(
        (span, solver) in spans().prop_flat_map(|span| (Just(span), solvers(span))),
    ) {
        let (low, high) = (span.0.min(span.1), span.0.max(span.1));
        let rate = 1.0 / (high - low);
        let field = Watched::new(move |_t: &Time, y: &Tensor| y.affine(-rate, rate));
        let mut steps = Recorder::default();
        let end = solver.solve(&field, &state(&[2.0, 0.5]), span, &mut steps).unwrap();
        let (grid, times) = (steps.grid(), field.times());

        prop_assert_eq!((grid[0], grid[grid.len() - 1]), span);
        let forward = span.0 < span.1;
        prop_assert!(grid.windows(2).all(|pair| (pair[0] < pair[1]) == forward), "{:?}", grid);
        prop_assert!(steps.steps.windows(2).all(|pair| pair[0].t1 == pair[1].t0));
        for stop in solver.step_ts.iter().chain(&solver.jump_ts) {
            let inside = low < *stop && *stop < high;
            prop_assert!(!inside || grid.contains(stop), "{} is not among {:?}", stop, grid);
        }
        prop_assert!(times.iter().all(|t| low <= *t && *t <= high), "{:?}", times);
        prop_assert!(times.iter().all(|t| !solver.jump_ts.contains(t)), "{:?}", times);
        prop_assert_eq!(end.stats.nfe, times.len());
        prop_assert_eq!(end.stats.accepted, grid.len() - 1);

        let mut replayed = Recorder::default();
        solver.replay(&field, &state(&[2.0, 0.5]), &grid, &mut replayed).unwrap();
        for (solved, replayed) in steps.steps.iter().zip(&replayed.steps) {
            prop_assert_eq!(&solved.y1, &replayed.y1);
        }
    }
}
