//! Whole networks against PyTorch, with parameters that both sides compute.

use aca_adjoint::Gradient;
use aca_core::Solver;
use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_tableau::HEUN_EULER;
use candle_core::{DType, Device, Tensor};

/// What `tests/fixtures/networks.py` prints.
struct Printed {
    parameters: usize,
    logits: [[f64; 3]; 2],
    /// Sums of the magnitudes of the first and the last parameter's gradient.
    gradients: [f64; 2],
}

fn wave(j: u64, shape: &[usize]) -> Tensor {
    let entry = |k: u64| ((7 * k * k + 3 * k + 11 * j) % 10007) as f64 / 5003.5 - 1.0;
    let entries = (0..shape.iter().product::<usize>() as u64).map(entry).collect::<Vec<_>>();
    Tensor::from_vec(entries, shape, &Device::Cpu).unwrap()
}

fn network(name: NetworkName) -> Network {
    let solver = Solver::fixed_count(HEUN_EULER, 1);
    let ode = OdeOptions { solver, gradient: Gradient::Aca, ..OdeOptions::cifar() };
    let network =
        Network::new(&NetworkSpec { dtype: DType::F64, ..NetworkSpec::of(name) }, &ode).unwrap();
    for (j, (name, var)) in network.parameters().iter().enumerate() {
        let shape = var.dims();
        let fan_in: usize = shape[1..].iter().product();
        let (scale, start) = match shape.len() {
            1 if name.ends_with("weight") => (0.1, 1.0),
            1 => (0.1, 0.0),
            _ => (1.0 / (fan_in as f64).sqrt(), 0.0),
        };
        var.set(&wave(j as u64, shape).affine(scale, start).unwrap()).unwrap();
    }
    network
}

fn assert_like(name: NetworkName, printed: &Printed) {
    let (network, images) = (network(name), wave(0, &[2, 3, 16, 16]));
    let (parameters, logits) =
        (network.parameters(), network.forward(&images, Mode::Train).unwrap());
    assert_eq!(parameters.len(), printed.parameters);
    let some = logits.narrow(1, 0, 3).unwrap().to_vec2::<f64>().unwrap();
    for (ours, theirs) in some.iter().flatten().zip(printed.logits.iter().flatten()) {
        assert!((ours - theirs).abs() <= 1e-9, "{name:?}: {ours}, PyTorch {theirs}, bound 1e-9");
    }
    let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let ends = [parameters.first().unwrap(), parameters.last().unwrap()];
    for ((parameter, var), theirs) in ends.into_iter().zip(printed.gradients) {
        let sum = grads.get(var).unwrap().abs().unwrap().sum_all().unwrap();
        let (ours, bound) = (sum.to_scalar::<f64>().unwrap(), 1e-8 * theirs);
        let off = (ours - theirs).abs();
        assert!(off <= bound, "{name:?}: {parameter} {ours}, PyTorch {theirs}, bound {bound:e}");
    }
}

#[test]
fn resnet18_is_that_of_pytorch() {
    let logits = [
        [1.068874492208849, 1.016689086236231, -0.19231782013676704],
        [0.7378788583404273, 0.3266628075792545, -0.3081711176306556],
    ];
    let gradients = [2713.956839482352, 20.59720061664961];
    assert_like(NetworkName::ResNet18, &Printed { parameters: 62, logits, gradients });
}

#[test]
fn node18_is_that_of_pytorch() {
    let logits = [
        [0.8933794687397417, 1.008027630490865, -0.10884328660428097],
        [1.1063735965091666, 0.5435449293456132, -0.4995833155759176],
    ];
    let gradients = [2015.7206850301604, 23.235931030683844];
    assert_like(NetworkName::Node18, &Printed { parameters: 62, logits, gradients });
}

#[test]
fn squeezenext_is_that_of_pytorch() {
    let logits = [
        [0.20816158140349794, 0.35261913963704694, 0.14154486330107602],
        [0.014708983159964217, 0.2661527058797848, -0.14540665735114672],
    ];
    let gradients = [125422.16943363548, 9.905443262543447];
    assert_like(NetworkName::SqueezeNext, &Printed { parameters: 186, logits, gradients });
}
