//! Networks: sizes, names, gradients and counters.

use std::collections::BTreeSet;

use aca_adjoint::Gradient;
use aca_core::Solver;
use aca_models::networks::{Mode, Network, NetworkName, OdeOptions};
use aca_tableau::{EULER, HEUN_EULER};
use candle_core::{DType, Tensor};

use crate::activations::{distance, filled};

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn build(name: NetworkName, dtype: DType, seed: u64) -> Network {
    let channels = if name == NetworkName::Digits { 1 } else { 3 };
    Network::new(name, 10, channels, &OdeOptions::cifar(), dtype, seed).unwrap()
}

fn digits(gradient: Gradient) -> Network {
    let ode = OdeOptions { gradient, ..OdeOptions::digits() };
    Network::new(NetworkName::Digits, 10, 1, &ode, DType::F64, 3).unwrap()
}

/// Two images that leave four pixels or more to the last batch norm: with one, its two numbers a channel
/// let gradients grow beyond `f32`.
fn images(name: NetworkName, dtype: DType) -> Tensor {
    let [channels, side] = if name == NetworkName::Digits { [1, 8] } else { [3, 16] };
    filled(&[2, channels, side, side], dtype)
}

fn loss(logits: &Tensor) -> Tensor {
    (logits * filled(logits.dims(), logits.dtype())).unwrap().sum_all().unwrap()
}

#[test]
fn parameters_are_as_many_as_documented() {
    // ResNet18 and NODE18 differ in a shortcut that has no parameters. SqueezeNext by summing numel() over
    // torch layers of the same sizes.
    for (name, count) in [
        (NetworkName::ResNet18, 11_173_962),
        (NetworkName::Node18, 11_173_962),
        (NetworkName::SqueezeNext, 461_466),
        (NetworkName::Digits, 28_410),
    ] {
        let rows = build(name, DType::F32, 0).describe();
        assert_eq!(rows.iter().map(|row| row.count).sum::<usize>(), count, "{name:?}");
        assert!(rows.iter().all(|row| row.shape.iter().product::<usize>() == row.count));
    }
}

#[test]
fn names_are_those_of_pytorch() {
    for (name, some) in [
        (NetworkName::ResNet18, ["layer1.0.bn2.bias", "layer4.0.shortcut.0.weight"]),
        (NetworkName::Node18, ["layer2_1.0.shortcut.1.bias", "layer4_2.0.odefunc.conv1.weight"]),
        (NetworkName::SqueezeNext, ["stage1_1.0.conv3.bias", "stage4_2.0.odefunc.bn5.weight"]),
        (NetworkName::Digits, ["block1.odefunc.bn1.weight", "conv2.weight"]),
    ] {
        let network = build(name, DType::F32, 0);
        let names: Vec<_> = network.parameters().into_iter().map(|(name, _)| name).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{name:?} repeats a name");
        assert_eq!((&*names[0], &**names.last().unwrap()), ("conv1.weight", "linear.bias"));
        for some in some {
            assert!(unique.contains(&some.to_owned()), "{name:?} has no {some}: {names:?}");
        }
        let statistics = network.statistics();
        let means = names.iter().filter(|name| name.contains("bn") && name.ends_with("bias"));
        let shortcuts = names.iter().filter(|name| name.ends_with("shortcut.1.bias"));
        assert_eq!(statistics.len(), 2 * (means.count() + shortcuts.count()), "{name:?}");
    }
}

#[test]
fn every_network_scores_every_class_and_its_gradients_reach_every_parameter() {
    for name in NetworkName::ALL {
        let (network, images) = (build(name, DType::F32, 0), images(name, DType::F32));
        let logits = network.forward(&images, Mode::Train).unwrap();
        assert_eq!(logits.dims(), [2, 10], "{name:?}");
        assert_eq!(network.forward(&images, Mode::Eval).unwrap().dims(), [2, 10], "{name:?}");
        let grads = loss(&logits).backward().unwrap();
        for (parameter, var) in network.parameters() {
            let grad = grads.get(&var).unwrap_or_else(|| panic!("{name:?}: none for {parameter}"));
            assert_eq!(grad.dims(), var.dims(), "{name:?}: {parameter}");
            let largest = numbers(&grad.abs().unwrap().max_all().unwrap())[0];
            assert!(largest.is_finite(), "{name:?}: {parameter} has a gradient of {largest}");
            // A bias before a batch norm is taken away again.
            let counts = !(name == NetworkName::SqueezeNext && parameter.ends_with("bias"));
            assert!(largest > 0.0 || !counts, "{name:?}: {parameter} has a gradient of 0");
        }
    }
}

#[test]
fn exact_strategies_agree() {
    let gradients = |gradient: Gradient| {
        let network = digits(gradient);
        let images = images(NetworkName::Digits, DType::F64);
        let grads = loss(&network.forward(&images, Mode::Train).unwrap()).backward().unwrap();
        let vars = network.parameters().into_iter();
        vars.map(|(name, var)| (name, grads.get(&var).unwrap().clone())).collect::<Vec<_>>()
    };
    let naive = gradients(Gradient::Naive);
    for gradient in [Gradient::Aca, Gradient::AcaBudget { checkpoints: 1 }] {
        for ((name, ours), (_, naive)) in gradients(gradient.clone()).iter().zip(&naive) {
            let off = distance(ours, naive);
            assert!(off <= 1e-9, "{gradient:?}: {name} is {off:e} off, bound 1e-9");
        }
    }
}

#[test]
fn a_seed_decides_every_initial_value() {
    let values = |seed: u64| {
        let parameters = build(NetworkName::SqueezeNext, DType::F32, seed).parameters();
        parameters.iter().map(|(_, var)| numbers(var)).collect::<Vec<_>>()
    };
    assert_eq!(values(5), values(5));
    assert_ne!(values(5)[0], values(6)[0]);
}

#[test]
fn initial_values_fill_the_interval_of_their_layer() {
    // By the definitions: 1/sqrt(fan in) without a bias and for dense layers, Xavier's with gain sqrt(2)
    // else. Of n uniform numbers the largest magnitude is below 1 - 20/n of the bound once in e^20.
    for (network, parameter, bound) in [
        (NetworkName::Node18, "layer3_2.0.odefunc.conv1.weight", (256.0f64 * 9.0).sqrt().recip()),
        (NetworkName::Node18, "linear.weight", 512f64.sqrt().recip()),
        (NetworkName::SqueezeNext, "stage4_1.0.conv3.weight", (12.0 / (3.0 * 192.0f64)).sqrt()),
    ] {
        let parameters = build(network, DType::F64, 1).parameters();
        let (_, var) = parameters.iter().find(|(name, _)| name == parameter).unwrap();
        let values = numbers(var);
        let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        let low = 1.0 - 20.0 / values.len() as f64;
        let part = largest / bound;
        assert!(
            (low..=1.0).contains(&part),
            "{parameter} fills {part} of its bound, from {low} on"
        );
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = bound / (3.0 * values.len() as f64).sqrt();
        assert!(
            mean.abs() <= 5.0 * deviation,
            "{parameter} has mean {mean}, deviation {deviation}"
        );
    }
}

#[test]
fn evaluation_moves_nothing_and_stays_outside_the_graph() {
    let network = digits(Gradient::Aca);
    let images = images(NetworkName::Digits, DType::F64);
    network.forward(&images, Mode::Train).unwrap();
    let statistics =
        || network.statistics().iter().map(|(_, var)| numbers(var)).collect::<Vec<_>>();
    let before = statistics();
    let logits = network.forward(&images, Mode::Eval).unwrap();
    assert!(!logits.track_op());
    assert_eq!(statistics(), before);
    let alone = network.forward(&images.narrow(0, 1, 1).unwrap(), Mode::Eval).unwrap();
    assert_eq!(alone.dims(), [1, 10]);
}

#[test]
fn an_evaluation_before_the_backward_changes_no_gradient() {
    let network = digits(Gradient::Aca);
    let images = images(NetworkName::Digits, DType::F64);
    let gradient = |between: bool| {
        let loss = loss(&network.forward(&images, Mode::Train).unwrap());
        if between {
            network.forward(&images, Mode::Eval).unwrap();
        }
        let grads = loss.backward().unwrap();
        let parameters = network.parameters();
        parameters.iter().map(|(_, var)| numbers(grads.get(var).unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(gradient(false), gradient(true));
}

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
    let tolerance = aca_core::Tolerance { rtol: 1e-4, atol: 1e-4 };
    let solver = Solver { stepping: aca_core::Stepping::Adaptive(tolerance.into()), ..solver };
    let ode = OdeOptions { solver, ..OdeOptions::digits() };
    let network = Network::new(NetworkName::Digits, 10, 1, &ode, DType::F64, 3).unwrap();
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
        let network = Network::new(NetworkName::Digits, 10, 1, &ode, DType::F64, 3).unwrap();
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
    let half = Network::new(NetworkName::Digits, 10, 1, &options, DType::F16, 0);
    let error = half.err().unwrap().to_string();
    assert!(error.starts_with("a network holds f32 or f64, not F16"), "{error}");
    let solver = Solver { max_steps: 1, first_step: Some(1e-3), ..options.solver.clone() };
    let ode = OdeOptions { solver, ..options };
    let network = Network::new(NetworkName::Digits, 10, 1, &ode, DType::F64, 0).unwrap();
    let error = network.forward(&images(NetworkName::Digits, DType::F64), Mode::Train).unwrap_err();
    assert!(error.to_string().starts_with("reached max_steps = 1"), "{error}");
}
