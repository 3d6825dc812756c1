use aca_core::Solver;
use aca_tableau::{ALL, Tableau};

use crate::common::{CAROUSEL, CIRCLE, Problem};

/// Fewest steps of a measurement: enough for the leading term of the error to rule, few enough
/// that a quarter of the step still errs by a hundred roundings.
fn fewest_steps(tableau: &Tableau) -> usize {
    match tableau.order() {
        0..=3 => 64,
        4 => 32,
        5 => 16,
        _ => 4,
    }
}

/// How fast the error at the end falls with the step: the power of h.
fn slope(tableau: &Tableau, problem: Problem, span: (f64, f64)) -> f64 {
    let count = fewest_steps(tableau);
    let error = |count| problem.error_at_end(&Solver::fixed_count(tableau.clone(), count), span);
    (error(count) / error(4 * count)).log2() / 2.0
}

fn assert_slopes_are_orders(problem: Problem, span: (f64, f64)) {
    for tableau in ALL {
        let (slope, order) = (slope(tableau, problem, span), tableau.order() as f64);
        assert!(
            (order - 0.3..=order + 0.7).contains(&slope),
            "{} on {} over {span:?}: slope {slope:.2}, must be the order {order} less 0.3 at \
             least, and 0.7 more at most or the problem shows nothing",
            tableau.name(),
            problem.name,
        );
    }
}

#[test]
fn error_at_fixed_steps_falls_with_the_order_on_a_field_with_a_clock() {
    assert_slopes_are_orders(CAROUSEL, (0.0, 1.5));
}

#[test]
fn error_at_fixed_steps_falls_with_the_order_backward_on_a_field_with_a_clock() {
    assert_slopes_are_orders(CAROUSEL, (1.5, 0.0));
}

#[test]
fn error_at_fixed_steps_falls_with_the_order_on_a_nonlinear_field() {
    assert_slopes_are_orders(CIRCLE, (0.0, 2.0));
}

#[test]
fn error_at_fixed_steps_falls_with_the_order_backward_on_a_nonlinear_field() {
    assert_slopes_are_orders(CIRCLE, (2.0, 0.0));
}
