//! Second derivatives through a whole network.

use std::process::Command;

use aca_adjoint::{Gradient, hessian_vector};
use aca_core::Solver;
use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_tableau::HEUN_EULER;
use candle_core::{DType, Tensor, Var};

use super::{images, loss};
use crate::activations::{distance, filled};

#[test]
fn second_derivatives_are_right_or_refused() {
    let name = "networks::second_order::a_second_derivative_matches_finite_differences";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored"])
        .env("CANDLE_GRAD_DO_NOT_DETACH", "1")
        .output();
    let output = child.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A network of one Heun step a block, and the variable whose second derivative is looked at.
fn network(gradient: Gradient) -> (Network, Var) {
    let ode =
        OdeOptions { solver: Solver::fixed_count(HEUN_EULER, 1), gradient, ..OdeOptions::digits() };
    let network = Network::new(
        &NetworkSpec { dtype: DType::F64, seed: 3, ..NetworkSpec::of(NetworkName::Digits) },
        &ode,
    )
    .unwrap();
    let (_, var) = network.parameters().swap_remove(0);
    (network, var)
}

fn product(gradient: Gradient, along: &Tensor) -> aca_core::Result<Tensor> {
    let (network, var) = network(gradient);
    let logits = network.forward(&images(NetworkName::Digits, DType::F64), Mode::Train).unwrap();
    let loss = loss(&logits.sqr().unwrap());
    Ok(hessian_vector(&loss, &[&var], std::slice::from_ref(along))?.swap_remove(0))
}

#[test]
#[ignore = "runs as a child process in which candle keeps gradients in its graph"]
fn a_second_derivative_matches_finite_differences() {
    let along = filled(&[16, 1, 3, 3], DType::F64);
    let moved = |step: f64| {
        let (network, var) = network(Gradient::Naive);
        let point = (&along * step).unwrap() + var.as_detached_tensor();
        var.set(&point.unwrap()).unwrap();
        let images = images(NetworkName::Digits, DType::F64);
        let loss = loss(&network.forward(&images, Mode::Train).unwrap().sqr().unwrap());
        loss.backward().unwrap().remove(&var).unwrap().detach()
    };
    let differences = ((moved(1e-6) - moved(-1e-6)).unwrap() / 2e-6).unwrap();
    let ours = product(Gradient::Naive, &along).unwrap();
    let off = distance(&ours, &differences);
    assert!(off <= 1e-6, "{off:e} off, bound 1e-6");
    let error = product(Gradient::Aca, &along).unwrap_err().to_string();
    assert!(error.contains("cannot be differentiated again"), "{error}");
}
