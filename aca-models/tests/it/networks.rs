//! Networks: sizes, names, initial values and gradients.

use std::collections::BTreeSet;

use aca_adjoint::Gradient;
use aca_core::Solver;
use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_models::optimizers::Sgd;
use aca_tableau::HEUN_EULER;
use candle_core::{DType, Tensor};

use crate::activations::{distance, filled};

mod pytorch;
mod second_order;
mod solving;

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn build(name: NetworkName, dtype: DType, seed: u64) -> Network {
    let channels = if name == NetworkName::Digits { 1 } else { 3 };
    Network::new(
        &NetworkSpec { channels, dtype, seed, ..NetworkSpec::of(name) },
        &OdeOptions::cifar(),
    )
    .unwrap()
}

fn digits(gradient: Gradient) -> Network {
    let ode = OdeOptions { gradient, ..OdeOptions::digits() };
    Network::new(
        &NetworkSpec { dtype: DType::F64, seed: 3, ..NetworkSpec::of(NetworkName::Digits) },
        &ode,
    )
    .unwrap()
}

/// Two images that leave four pixels or more to the last batch norm: with one, its two numbers per channel
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
fn the_bottleneck_field_has_the_gradient_of_its_graph() {
    let gradients = |gradient: Gradient| {
        let solver = Solver::fixed_count(HEUN_EULER, 1);
        let ode = OdeOptions { solver, gradient, ..OdeOptions::cifar() };
        let network = Network::new(
            &NetworkSpec {
                dtype: DType::F64,
                seed: 3,
                ..NetworkSpec::of(NetworkName::SqueezeNext)
            },
            &ode,
        )
        .unwrap();
        let images = images(NetworkName::SqueezeNext, DType::F64);
        let grads = loss(&network.forward(&images, Mode::Train).unwrap()).backward().unwrap();
        let vars = network.parameters().into_iter();
        vars.map(|(name, var)| (name, grads.get(&var).unwrap().clone())).collect::<Vec<_>>()
    };
    let naive = gradients(Gradient::Naive);
    for ((name, ours), (_, naive)) in gradients(Gradient::Aca).iter().zip(&naive) {
        // A bias before a batch norm has no gradient but what rounding leaves.
        let idle = name.contains("conv") && name.ends_with("bias") || name.ends_with("0.bias");
        let off = if idle { 0.0 } else { distance(ours, naive) };
        assert!(off <= 1e-9, "{name} is {off:e} off, bound 1e-9");
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
fn a_training_step_has_the_same_bits_on_any_number_of_threads() {
    let trained = |threads: usize| {
        let network = build(NetworkName::Digits, DType::F32, 3);
        let mut sgd = Sgd::new(network.parameters(), 0.1, 0.9, 5e-4).unwrap();
        let images = filled(&[40, 1, 8, 8], DType::F32);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let logits = network.forward(&images, Mode::Train).unwrap();
            sgd.step(&loss(&logits).backward().unwrap()).unwrap();
        });
        let all = network.parameters().into_iter().chain(network.statistics());
        all.map(|(_, var)| numbers(&var)).collect::<Vec<_>>()
    };
    let alone = trained(1);
    assert!(trained(2) == alone && trained(3) == alone, "threads change the result");
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
