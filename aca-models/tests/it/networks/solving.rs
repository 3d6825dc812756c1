//! How ODE blocks are solved, what that costs, and what networks refuse.

use aca_adjoint::Gradient;
use aca_core::{Solver, Stepping, Tolerance};
use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_tableau::{EULER, HEUN_EULER};
use candle_core::DType;

use super::{digits, images, loss, numbers};
use crate::activations::{distance, filled};

#[test]
fn evaluations_are_counted_forward_and_backward_until_reset() {
    let mut network = digits(Gradient::Aca);
    let solver = Solver::fixed_count(HEUN_EULER, 5);
    network.set_ode(OdeOptions { solver, ..OdeOptions::digits() }).unwrap();
    let images = images(NetworkName::Digits, DType::F64);
    for round in 1..3 {
        network.reset_evaluations();
        let logits = network.forward(&images, Mode::Train).unwrap();
        assert_eq!(network.evaluations().nfe_backward, 0, "round {round}");
        loss(&logits).backward().unwrap();
        // Two blocks of five steps of two stages.
        let all = network.evaluations();
        assert_eq!((all.solves, all.accepted, all.rejected), (2, 10, 0), "round {round}");
        assert_eq!((all.nfe_forward, all.nfe_backward), (20, 20), "round {round}");
        let sizes = [all.h_smallest, all.h_largest, all.h_mean()];
        assert!(sizes.iter().all(|h| (h - 0.2).abs() < 1e-15), "{sizes:?} are not 0.2");
    }
    let blocks = network.evaluations_by_block();
    let names: Vec<_> = blocks.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["block1", "block2"]);
    assert!(blocks.iter().all(|(_, block)| block.accepted == 5));
}

#[test]
fn rejected_steps_are_counted_apart() {
    let solver = Solver { first_step: Some(1.0), ..OdeOptions::digits().solver };
    let tolerance = Tolerance { rtol: 1e-4, atol: 1e-4 };
    let solver = Solver { stepping: Stepping::Adaptive(tolerance.into()), ..solver };
    let ode = OdeOptions { solver, ..OdeOptions::digits() };
    let network = Network::new(
        &NetworkSpec { dtype: DType::F64, seed: 3, ..NetworkSpec::of(NetworkName::Digits) },
        &ode,
    )
    .unwrap();
    network.forward(&images(NetworkName::Digits, DType::F64), Mode::Train).unwrap();
    let all = network.evaluations();
    assert!(all.rejected > 0 && all.accepted > 2, "{all:?}");
    // A first slope for each step, and a second for each trial.
    assert_eq!(all.nfe_forward, 2 * all.accepted + all.rejected);
    assert!((all.length - 2.0).abs() < 1e-15 && all.h_smallest < all.h_largest, "{all:?}");
}

#[test]
fn another_solver_takes_over_with_the_same_parameters() {
    let mut network = digits(Gradient::Aca);
    let images = images(NetworkName::Digits, DType::F64);
    let mut euler = |count: usize| {
        let solver = Solver::fixed_count(EULER, count);
        network.set_ode(OdeOptions { solver, ..OdeOptions::digits() }).unwrap();
        network.forward(&images, Mode::Eval).unwrap()
    };
    let exact = euler(2048);
    let [coarse, fine] = [8, 64].map(|count| distance(&euler(count), &exact));
    let ratio = coarse / fine;
    assert!((5.0..15.0).contains(&ratio), "8 Euler steps err {ratio} times as much as 64, near 8");
}

#[test]
fn an_output_at_a_requested_time_is_that_at_the_end() {
    let images = images(NetworkName::Digits, DType::F64);
    let both = [false, true].map(|multi_time| {
        let ode = OdeOptions { multi_time, ..OdeOptions::digits() };
        let network = Network::new(
            &NetworkSpec { dtype: DType::F64, seed: 3, ..NetworkSpec::of(NetworkName::Digits) },
            &ode,
        )
        .unwrap();
        let logits = network.forward(&images, Mode::Train).unwrap();
        let grads = loss(&logits).backward().unwrap();
        let (_, first) = &network.parameters()[0];
        (numbers(&logits), numbers(grads.get(first).unwrap()))
    });
    assert_eq!(both[0], both[1]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let options = OdeOptions::digits();
    let network = digits(Gradient::Aca);
    let colours = filled(&[2, 3, 8, 8], DType::F64);
    let error = network.forward(&colours, Mode::Train).unwrap_err().to_string();
    assert!(error.contains("1 input channels, but x has shape [2, 3, 8, 8]"), "{error}");
    let single = images(NetworkName::Digits, DType::F32);
    let error = network.forward(&single, Mode::Eval).unwrap_err().to_string();
    assert!(error.contains("x is F32 but a parameter is F64"), "{error}");
    let half = Network::new(
        &NetworkSpec { dtype: DType::F16, ..NetworkSpec::of(NetworkName::Digits) },
        &options,
    );
    let error = half.err().unwrap().to_string();
    assert!(error.starts_with("a network holds f32 or f64, not F16"), "{error}");
    let solver = Solver { max_steps: 1, first_step: Some(1e-3), ..options.solver.clone() };
    let ode = OdeOptions { solver, ..options };
    let network = Network::new(
        &NetworkSpec { dtype: DType::F64, ..NetworkSpec::of(NetworkName::Digits) },
        &ode,
    )
    .unwrap();
    let error = network.forward(&images(NetworkName::Digits, DType::F64), Mode::Train).unwrap_err();
    assert!(error.to_string().starts_with("reached max_steps = 1"), "{error}");
}
