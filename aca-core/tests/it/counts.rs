use std::sync::{Arc, Mutex};

use aca_core::{Progress, ProgressFn, Solver, Time};
use aca_tableau::{ALL, DOPRI5, HEUN_EULER, RK4};
use candle_core::Tensor;

use crate::common::{
    CIRCLE, Recorder, SWING, Watched, adaptive, adaptive_tableaus, decay, dopri5, state,
};

fn stiff(_t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    y.affine(-10.0, 0.0)
}

#[test]
fn nfe_is_the_number_of_calls() {
    for tableau in adaptive_tableaus() {
        for first_step in [None, Some(1.0)] {
            let field = Watched::new(stiff);
            let solver = Solver { first_step, ..adaptive(tableau, 1e-4) };
            let end = solver.solve(&field, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
            let name = tableau.name();
            assert_eq!(end.stats.nfe, field.times().len(), "{name}, first step {first_step:?}");
        }
    }
}

#[test]
fn steps_cost_their_stages_less_what_is_reused() {
    for tableau in adaptive_tableaus() {
        let solver = Solver { first_step: Some(1.0), ..adaptive(tableau, 1e-4) };
        let stats = solver.solve(&stiff, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap().stats;
        let (stages, reused) = (tableau.stages(), usize::from(tableau.is_fsal()));
        // A rejected step keeps its first slope, an accepted one of FSAL kind hands on its last.
        let steps = stats.accepted * (stages - reused) + stats.rejected * (stages - 1);
        assert!(stats.rejected > 0, "{}: nothing rejected", tableau.name());
        assert_eq!(stats.nfe, steps + reused, "{}", tableau.name());
    }
}

#[test]
fn dopri5_costs_six_evaluations_a_step_and_two_at_the_start() {
    let field = Watched::new(stiff);
    let end = dopri5(1e-6).solve(&field, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap();
    let trials = end.stats.accepted + end.stats.rejected;
    assert_eq!(field.times().len(), 6 * trials + 2);
}

#[test]
fn fixed_steps_cost_no_search() {
    for tableau in ALL {
        let solver = Solver::fixed_count(tableau.clone(), 7);
        let stats = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap().stats;
        let reused = usize::from(tableau.is_fsal());
        assert_eq!(stats.nfe, 7 * (tableau.stages() - reused) + reused, "{}", tableau.name());
        assert_eq!((stats.accepted, stats.rejected), (7, 0), "{}", tableau.name());
    }
}

#[test]
fn extreme_step_sizes_are_counted() {
    let mut steps = Recorder::default();
    let stats = dopri5(1e-6).solve(&SWING.f, &state(&[1.0]), (5.0, 0.0), &mut steps).unwrap().stats;
    let sizes = steps.steps.iter().map(|step| (step.t1 - step.t0).abs());
    assert_eq!(stats.h_smallest, sizes.clone().fold(f64::INFINITY, f64::min));
    assert_eq!(stats.h_largest, sizes.fold(0.0, f64::max));
}

#[test]
fn no_step_exceeds_the_largest() {
    for span in [(0.0, 1.0), (1.0, 0.0)] {
        let solver = Solver { h_max: 0.3, ..dopri5(1e-2) };
        let largest = solver.solve(&decay, &state(&[1.0]), span, &mut ()).unwrap().stats.h_largest;
        // The difference of two times rounds.
        assert!(largest <= 0.3 * (1.0 + 1e-14), "a step of {largest} over {span:?}, h_max 0.3");
    }
}

#[test]
fn step_is_not_stretched_to_the_end_beyond_the_largest() {
    let solver = Solver { h_max: 0.995, first_step: Some(0.995), ..dopri5(1e-1) };
    let stats = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap().stats;
    assert!(stats.h_largest <= 0.995, "a step of {}, h_max 0.995", stats.h_largest);
}

#[test]
fn first_step_is_held_to_the_largest() {
    let solver = Solver { h_max: 0.25, first_step: Some(0.5), ..dopri5(1e-2) };
    let stats = solver.solve(&decay, &state(&[1.0]), (0.0, 1.0), &mut ()).unwrap().stats;
    assert!(stats.h_largest <= 0.25, "a step of {}", stats.h_largest);
}

#[test]
fn no_step_falls_below_the_smallest_except_at_stops() {
    let mut steps = Recorder::default();
    let solver = Solver { h_min: 0.04, step_ts: vec![0.51], ..dopri5(1e-3) };
    solver.solve(&SWING.f, &state(&[1.0]), (0.0, 3.0), &mut steps).unwrap();
    let free = steps.steps.iter().filter(|step| step.t1 != 0.51 && step.t1 != 3.0);
    let smallest = free.map(|step| step.t1 - step.t0).fold(f64::INFINITY, f64::min);
    assert!(smallest >= 0.04 * (1.0 - 1e-12), "a step of {smallest}, h_min 0.04");
}

#[test]
fn smallest_step_that_meets_the_tolerance_is_taken() {
    // The controller would like nine tenths of h_min at most, though h_min itself is good enough.
    let mut steps = Recorder::default();
    let solver = dopri5(1e-6);
    solver.solve(&CIRCLE.f, &state(&[1.1, 0.0]), (0.0, 5.0), &mut steps).unwrap();
    let sizes: Vec<f64> = steps.steps.iter().map(|step| step.t1 - step.t0).collect();
    // On the circle every step has the same error, so the steady size is what the controller keeps.
    let steady = sizes[sizes.len() / 2];
    let solver = Solver { h_min: 1.03 * steady, first_step: Some(1.03 * steady), ..solver };
    let end = solver.solve(&CIRCLE.f, &state(&[1.1, 0.0]), (0.0, 5.0), &mut ());
    assert!(end.is_ok(), "steady size {steady}, h_min three hundredths above: {end:?}");
}

#[test]
fn progress_is_reported_once_an_accepted_step() {
    for solver in
        [Solver::fixed(RK4, 0.3), Solver { first_step: Some(2.0), ..adaptive(&HEUN_EULER, 1e-3) }]
    {
        for span in [(0.0, 2.0), (2.0, 0.0)] {
            let reports: Arc<Mutex<Vec<Progress>>> = Arc::default();
            let kept = reports.clone();
            let progress = Some(ProgressFn::new(move |report| kept.lock().unwrap().push(report)));
            let solver = Solver { progress, ..solver.clone() };
            let mut steps = Recorder::default();
            let stats = solver.solve(&stiff, &state(&[1.0]), span, &mut steps).unwrap().stats;
            let reports = reports.lock().unwrap();
            let ends: Vec<f64> = reports.iter().map(|report| report.t).collect();
            assert_eq!(ends, steps.grid()[1..], "times of the reports");
            assert!(reports.iter().enumerate().all(|(i, report)| report.accepted == i + 1));
            assert_eq!(reports.last().unwrap().rejected, stats.rejected);
            assert!(reports.iter().all(|report| report.h.signum() == (span.1 - span.0).signum()));
        }
    }
}

#[test]
fn progress_rises_to_one() {
    let fractions: Arc<Mutex<Vec<f64>>> = Arc::default();
    let kept = fractions.clone();
    let progress = ProgressFn::new(move |report| kept.lock().unwrap().push(report.fraction));
    let solver = Solver {
        progress: Some(progress),
        ..Solver::adaptive(DOPRI5, aca_core::Tolerance { rtol: 1e-6, atol: 1e-6 })
    };
    solver.solve(&SWING.f, &state(&[1.0]), (3.0, -1.0), &mut ()).unwrap();
    let fractions = fractions.lock().unwrap();
    assert!(
        fractions[0] > 0.0 && fractions.windows(2).all(|pair| pair[0] < pair[1]),
        "{fractions:?}"
    );
    assert_eq!(fractions.last(), Some(&1.0));
}
