//! Gradients of every strategy on a GPU against the CPU's.
//!
//! Where there is no GPU the tests say so and pass.
#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{Batching, Solver};
use aca_dense::SaveAt;
use aca_tableau::{DOPRI5, RK4};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::{Mlp, adaptive, distance, loss, state};

/// The first GPU, if there is one.
fn gpu() -> Option<Device> {
    let gpu = aca_core::kernels::cuda::device(0);
    gpu.inspect_err(|missing| eprintln!("skipped, {missing}")).ok()
}

/// The test's field with its variables on a device.
fn field(device: &Device) -> Mlp {
    let Mlp { w1, w2 } = Mlp::new(DType::F64);
    let there = |var: Var| Var::from_tensor(&var.to_device(device).unwrap()).unwrap();
    Mlp { w1: there(w1), w2: there(w2) }
}

/// Outputs, and the gradients of their loss with respect to the start and the variables.
fn results(solver: Solver, gradient: Gradient, times: &SaveAt, device: &Device) -> Vec<Tensor> {
    let field = field(device);
    let vars = field.vars();
    let ode = Ode::new(solver, field, vars.clone()).unwrap().gradient(gradient);
    let y0 = Var::from_tensor(&state(DType::F64).to_device(device).unwrap()).unwrap();
    let ys = ode.solve(&y0, (0.0, 2.0), times).unwrap().ys;
    let ys_there = ys.to_device(&Device::Cpu).unwrap();
    let grads = loss(&ys_there).backward().unwrap();
    let gradients = [y0].into_iter().chain(vars);
    let gradients = gradients.map(|var| grads.get(&var).unwrap().to_device(&Device::Cpu).unwrap());
    std::iter::once(ys_there.detach()).chain(gradients).collect()
}

fn assert_agrees(solver: &Solver, gradient: &Gradient, times: &SaveAt, bound: f64) {
    let Some(gpu) = gpu() else { return };
    let all = |device| results(solver.clone(), gradient.clone(), times, device);
    for (i, (here, there)) in all(&Device::Cpu).iter().zip(all(&gpu)).enumerate() {
        let off = distance(&there, here);
        assert!(off <= bound, "{gradient:?}, result {i}: off by {off:e}, bound {bound:e}");
    }
}

fn times() -> SaveAt {
    SaveAt::Times(vec![0.0, 0.33, 1.21, 2.0])
}

#[test]
fn strategies_on_a_gpu_give_the_cpus_gradients() {
    let strategies = [
        Gradient::Aca,
        Gradient::AcaBudget { checkpoints: 2 },
        Gradient::Naive,
        Gradient::NaiveThroughStepSize,
        Gradient::Backsolve(Backsolve::default()),
    ];
    for tableau in [&DOPRI5, &RK4] {
        let moves_steps = |gradient: &&Gradient| {
            tableau.is_adaptive() || !matches!(gradient, Gradient::NaiveThroughStepSize)
        };
        for gradient in strategies.iter().filter(moves_steps) {
            // Rounding moves step sizes, which a tolerance of 1e-5 forgives; the steps stay as many.
            assert_agrees(&adaptive(tableau, 1e-5), gradient, &times(), 1e-9);
        }
    }
}

#[test]
fn mali_on_a_gpu_gives_the_cpus_gradient() {
    assert_agrees(&adaptive(&ALF, 1e-4), &Gradient::Mali, &SaveAt::End, 1e-9);
}

#[test]
fn clocks_of_samples_on_a_gpu_give_the_cpus_gradients() {
    let solver = Solver { batching: Batching::PerSample, ..adaptive(&DOPRI5, 1e-5) };
    for gradient in [Gradient::Aca, Gradient::Naive] {
        assert_agrees(&solver, &gradient, &times(), 1e-9);
    }
}
