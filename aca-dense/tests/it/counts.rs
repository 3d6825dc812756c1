use std::sync::atomic::{AtomicUsize, Ordering};

use aca_core::Method::Leapfrog as ALF;
use aca_core::{Solver, Time};
use aca_dense::{SaveAt, solve};
use aca_tableau::{ALL, BOSH3, CASH_KARP, DOP853, DOPRI5, EULER, RK4, Tableau};
use candle_core::Tensor;

use crate::common::{adaptive, state};

/// Calls of the field in a solve of `y' = -10 y` over `[0, 1]`, and its statistics.
fn calls(solver: &Solver, save_at: &SaveAt) -> (usize, aca_core::Stats) {
    let calls = AtomicUsize::new(0);
    let field = |_t: &Time, y: &Tensor| {
        calls.fetch_add(1, Ordering::Relaxed);
        y.affine(-10.0, 0.0)
    };
    let stats = solve(solver, &field, &state(&[1.0]), (0.0, 1.0), save_at).unwrap().stats;
    assert_eq!(stats.nfe, calls.load(Ordering::Relaxed), "{}: nfe", solver.method.name());
    (stats.nfe, stats)
}

fn fixed(tableau: &Tableau, save_at: &SaveAt) -> usize {
    calls(&Solver::fixed_count(tableau.clone(), 8), save_at).0
}

#[test]
fn slope_at_a_steps_end_serves_the_next_step() {
    for (tableau, a_step) in [(EULER, 1), (RK4, 4), (CASH_KARP, 6), (DOPRI5, 6), (BOSH3, 3)] {
        let found = fixed(&tableau, &SaveAt::Dense);
        assert_eq!(found, 8 * a_step + 1, "{}, eight steps", tableau.name());
    }
}

#[test]
fn trajectory_of_dop853_costs_three_stages_more_a_step() {
    assert_eq!(fixed(&DOP853, &SaveAt::Dense), 8 * (12 + 3) + 1);
}

#[test]
fn outputs_at_steps_cost_nothing() {
    for tableau in ALL {
        let end = fixed(tableau, &SaveAt::End);
        assert_eq!(fixed(tableau, &SaveAt::Steps), end, "{}, steps", tableau.name());
        let nodes = SaveAt::Times((0..=8).map(|i| f64::from(i) / 8.0).collect());
        assert_eq!(fixed(tableau, &nodes), end, "{}, times at the nodes", tableau.name());
    }
}

#[test]
fn only_steps_that_are_looked_into_are_completed() {
    // One time in a step that is not the last: of the end slope's kind the next step pays less.
    for tableau in ALL {
        let extra = tableau.interpolant().extra_stages();
        let expected = fixed(tableau, &SaveAt::End) + extra.saturating_sub(1);
        let found = fixed(tableau, &SaveAt::Times(vec![0.3]));
        assert_eq!(found, expected, "{}", tableau.name());
    }
}

#[test]
fn many_times_in_a_step_cost_no_more_than_one() {
    for tableau in ALL {
        let many = SaveAt::Times((0..100).map(|i| 0.26 + 0.001 * f64::from(i)).collect());
        let one = fixed(tableau, &SaveAt::Times(vec![0.3]));
        assert_eq!(fixed(tableau, &many), one, "{}", tableau.name());
    }
}

#[test]
fn times_and_trajectory_share_their_stages() {
    for tableau in ALL {
        let both = SaveAt::All(vec![SaveAt::Times(vec![0.1, 0.3, 0.9]), SaveAt::Dense]);
        let dense = fixed(tableau, &SaveAt::Dense);
        assert_eq!(fixed(tableau, &both), dense, "{}", tableau.name());
    }
}

#[test]
fn leapfrog_costs_one_evaluation_a_step_whatever_is_kept() {
    let solver = Solver::fixed_count(ALF, 8);
    let times = SaveAt::Times(vec![0.1, 0.3, 0.9]);
    for save_at in [SaveAt::End, SaveAt::Dense, SaveAt::All(vec![times, SaveAt::Dense])] {
        assert_eq!(calls(&solver, &save_at).0, 8 + 1, "{save_at:?}");
    }
}

#[test]
fn rejected_steps_are_not_completed() {
    for tableau in ALL.into_iter().filter(|tableau| tableau.is_adaptive()) {
        let solver = Solver { first_step: Some(1.0), ..adaptive(tableau, 1e-4) };
        let (nfe, stats) = calls(&solver, &SaveAt::Dense);
        let stages = tableau.interpolant().stages() - 1;
        let expected = stages * stats.accepted + (tableau.stages() - 1) * stats.rejected + 1;
        assert!(stats.rejected > 0, "{}: nothing rejected", tableau.name());
        assert_eq!(nfe, expected, "{}: {stats:?}", tableau.name());
    }
}
