//! A training step of NODE18: forward, gradient and update of images of CIFAR's shape, 32 of them on the CPU and
//! 128 on a GPU.

use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_models::optimizers::Sgd;
use candle_core::{Device, Tensor};
use serde::Serialize;

use super::timing::median;
use super::workload::fill_on;
use crate::args::BenchArgs;
use crate::counting;
use crate::report::{self, Error, Result};

const CLASSES: usize = 10;

/// What a step costs.
#[derive(Serialize)]
struct Findings {
    workload: &'static str,
    peer: &'static str,
    ms_step: f64,
    images_per_second: f64,
    /// Evaluations of fields in a step.
    nfe: usize,
    /// Loss of the first step.
    loss: f64,
    peak_bytes: isize,
    note: String,
}

/// Times training steps and prints what they cost.
pub fn run(args: &BenchArgs) -> Result<()> {
    let device = args.device.open()?;
    let network = network(args, &device)?;
    let count = if device.is_cpu() { 32 } else { 128 };
    let images = fill_on(&device, &[count, 3, 32, 32], 1.0, 0.5)?.as_detached_tensor();
    let labels = Tensor::from_iter((0..count).map(|i| (i % CLASSES) as u32), &device)?;
    // So slow that every step does the work of the first.
    let mut sgd = Sgd::new(network.parameters(), 1e-6, 0.9, 5e-4)?;
    let mut step = || -> Result<f64> {
        network.reset_evaluations();
        let logits = network.forward(&images, Mode::Train)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
        sgd.step(&loss.backward()?)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    };
    let loss = step()?;
    let (ms_step, _) = median(args.reps as usize, &mut step)?;
    counting::start();
    let before = counting::alive();
    let (peak, again) = counting::peak(&mut step);
    again?;
    let work = network.evaluations();
    let findings = Findings {
        workload: "node18",
        peer: "aca",
        ms_step,
        images_per_second: 1e3 * count as f64 / ms_step,
        nfe: work.nfe_forward + work.nfe_backward,
        loss,
        peak_bytes: peak - before,
        note: format!("{} accepted, {} rejected steps", work.accepted, work.rejected),
    };
    if args.json {
        return report::json(&findings);
    }
    let Findings { ms_step, images_per_second, nfe, note, .. } = &findings;
    report::line(&format!(
        "{ms_step:.1} ms per step, {images_per_second:.1} images per second; {nfe} evaluations, {note}"
    ))
}

/// NODE18 as PyTorch's checkpoint has it, if one is given.
fn network(args: &BenchArgs, device: &Device) -> Result<Network> {
    let solver = super::solver(args, ("heun_euler", 1e-2))?;
    let gradient = super::gradient(args);
    let ode = OdeOptions { solver, gradient, ..OdeOptions::cifar() };
    let spec = NetworkSpec { device: device.clone(), ..NetworkSpec::of(NetworkName::Node18) };
    let network = Network::new(&spec, &ode)?;
    if let Some(path) = &args.pth {
        let missing = network.load_pth(path)?.missing;
        if let Some(first) = missing.first() {
            let (path, first) = (path.clone(), first.clone());
            return Err(Error::IncompleteCheckpoint { path, missing: missing.len(), first });
        }
    }
    Ok(network)
}
