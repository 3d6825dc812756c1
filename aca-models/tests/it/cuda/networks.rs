use aca_core::Solver;
use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use candle_core::{DType, Device, Tensor};

use super::{cotangent, gpu};
use crate::activations::filled;

/// Logits while learning, the gradients of all parameters, statistics and logits afterwards, in `f64`.
///
/// Steps are fixed, so that rounding cannot decide about one.
fn pass(name: NetworkName, images: &[usize], device: &Device) -> Vec<Tensor> {
    let solver = Solver::fixed_count(aca_tableau::HEUN_EULER, 2);
    let ode = OdeOptions { solver, ..OdeOptions::cifar() };
    let spec = NetworkSpec { dtype: DType::F64, device: device.clone(), ..NetworkSpec::of(name) };
    let network = Network::new(&spec, &ode).unwrap();
    let images = filled(images, DType::F64).to_device(device).unwrap();
    let logits = network.forward(&images, Mode::Train).unwrap();
    let loss = (&logits * cotangent(&logits)).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let gradients = network.parameters();
    let gradients = gradients.iter().map(|(_, var)| grads.get(var).unwrap().clone());
    let statistics = network.statistics();
    let statistics = statistics.iter().map(|(_, var)| var.as_detached_tensor());
    let judged = network.forward(&images, Mode::Eval).unwrap();
    [logits.detach(), judged].into_iter().chain(gradients).chain(statistics).collect()
}

/// The magnitude of the largest entry.
fn largest(x: &Tensor) -> f64 {
    x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn assert_agrees(name: NetworkName, images: &[usize]) {
    let Some(gpu) = gpu() else { return };
    let (here, there) = (pass(name, images, &Device::Cpu), pass(name, images, &gpu));
    assert_eq!(here.len(), there.len());
    let all = here.iter().map(largest).fold(0.0, f64::max);
    for (i, (here, there)) in here.iter().zip(&there).enumerate() {
        let off = largest(&(there.to_device(&Device::Cpu).unwrap() - here).unwrap());
        // Norms over few pixels amplify rounding by orders of magnitude; a wrong term is off by far more. The
        // gradient of a bias before a norm is zero, and what is found of it rounding alone.
        let bound = 1e-6 * largest(here).max(1e-6 * all);
        assert!(off <= bound, "{name:?}, result {i}: off by {off:e}, bound {bound:e}");
    }
}

#[test]
fn digits_on_a_gpu_learn_as_on_the_cpu() {
    assert_agrees(NetworkName::Digits, &[4, 1, 8, 8]);
}

#[test]
fn node18_on_a_gpu_learns_as_on_the_cpu() {
    assert_agrees(NetworkName::Node18, &[2, 3, 16, 16]);
}

#[test]
fn squeezenext_on_a_gpu_learns_as_on_the_cpu() {
    assert_agrees(NetworkName::SqueezeNext, &[2, 3, 16, 16]);
}
