//! Running statistics of a trained network against evaluations by hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aca_adjoint::{Backsolve, Gradient};
use aca_core::Method::Leapfrog as ALF;
use aca_core::{ProgressFn, Solver, Time, Tolerance, VectorField};
use aca_models::fields::ConvBlock;
use aca_models::layers::{BatchNorm2d, Conv2d};
use aca_models::networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions};
use aca_tableau::HEUN_EULER;
use candle_core::{DType, Tensor};
use candle_nn::Module;

use crate::activations::filled;

/// Sizes of the accepted steps of one block after the other.
type Sizes = Vec<Vec<f64>>;

/// Statistics by name.
type Statistics = HashMap<String, Vec<f64>>;

fn network(ode: &OdeOptions) -> Network {
    Network::new(
        &NetworkSpec { dtype: DType::F64, seed: 11, ..NetworkSpec::of(NetworkName::Digits) },
        ode,
    )
    .unwrap()
}

fn images() -> Tensor {
    filled(&[3, 1, 8, 8], DType::F64)
}

/// Trains one step's worth of forward and backward.
fn trained(method: impl Into<aca_core::Method>, gradient: Gradient) -> (Statistics, Sizes) {
    let sizes = Arc::new(Mutex::new(vec![Vec::new()]));
    let seen = sizes.clone();
    let progress = ProgressFn::new(move |progress| {
        let mut seen = seen.lock().unwrap();
        seen.last_mut().unwrap().push(progress.h);
        if progress.t == 1.0 {
            seen.push(Vec::new());
        }
    });
    let solver = Solver::adaptive(method, Tolerance { rtol: 1e-3, atol: 1e-3 });
    let solver = Solver { first_step: Some(1.0), progress: Some(progress), ..solver };
    let network = network(&OdeOptions { solver, gradient, ..OdeOptions::digits() });
    let logits = network.forward(&images(), Mode::Train).unwrap();
    let sizes = sizes.lock().unwrap().clone();
    logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let evaluations = network.evaluations();
    assert!(evaluations.rejected > 0, "nothing was rejected, so nothing is tested");
    let statistics = network.statistics().into_iter();
    (statistics.map(|(name, var)| (name, var.to_vec1().unwrap())).collect(), sizes)
}

/// The same network in layers of its own, evaluated at accepted steps alone.
struct ByHand {
    parameters: HashMap<String, Tensor>,
    statistics: Statistics,
}

impl ByHand {
    fn new() -> Self {
        let parameters = network(&OdeOptions::digits()).parameters().into_iter();
        let parameters = parameters.map(|(name, var)| (name, var.as_detached_tensor())).collect();
        Self { parameters, statistics: HashMap::new() }
    }

    fn conv(&self, name: &str, stride: usize) -> Conv2d {
        let weight = self.parameters[&format!("{name}.weight")].clone();
        Conv2d { weight, bias: None, stride, padding: [1, 1] }
    }

    fn norm(&self, name: &str) -> BatchNorm2d {
        let [weight, bias] =
            ["weight", "bias"].map(|x| self.parameters[&format!("{name}.{x}")].clone());
        let running = [weight.zeros_like().unwrap(), weight.ones_like().unwrap()];
        BatchNorm2d::from_tensors([weight, bias], running).unwrap()
    }

    fn note(&mut self, name: &str, norm: &BatchNorm2d) {
        for (var, what) in norm.running_statistics().iter().zip(["mean", "var"]) {
            self.statistics.insert(format!("{name}.running_{what}"), var.to_vec1().unwrap());
        }
    }

    fn unit(&mut self, index: usize, stride: usize, x: &Tensor) -> Tensor {
        let name = format!("bn{index}");
        let (conv, norm) =
            (self.conv(&format!("conv{index}"), stride), self.norm(&name).with_relu());
        let x = norm.forward(&conv.forward(x).unwrap()).unwrap();
        self.note(&name, &norm);
        x
    }

    fn block(&mut self, index: usize, sizes: &[f64], leapfrog: bool, y: &Tensor) -> Tensor {
        let place = format!("block{index}.odefunc");
        let convs = [1, 2].map(|i| self.conv(&format!("{place}.conv{i}"), 1));
        let norms = [1, 2].map(|i| self.norm(&format!("{place}.bn{i}")));
        let field = ConvBlock::from_layers(convs.into_iter().zip(norms)).unwrap();
        let y = if leapfrog { leap(&field, sizes, y) } else { heun(&field, sizes, y) };
        for (i, norm) in field.norms().enumerate() {
            self.note(&format!("{place}.bn{}", i + 1), norm);
        }
        y
    }
}

fn heun(field: &ConvBlock, sizes: &[f64], y: &Tensor) -> Tensor {
    let f = |y: &Tensor| field.eval(&Time::new(0.0), y).unwrap();
    sizes.iter().fold(y.clone(), |y, h| {
        let k1 = f(&y);
        let k2 = f(&(&y + (&k1 * *h).unwrap()).unwrap());
        (y + ((k1 + k2).unwrap() * (h / 2.0)).unwrap()).unwrap()
    })
}

fn leap(field: &ConvBlock, sizes: &[f64], y: &Tensor) -> Tensor {
    let f = |y: &Tensor| field.eval(&Time::new(0.0), y).unwrap();
    let ends = sizes.iter().fold((y.clone(), f(y)), |(z, v), h| {
        let k = (z + (&v * (h / 2.0)).unwrap()).unwrap();
        let v = ((f(&k) * 2.0).unwrap() - v).unwrap();
        ((k + (&v * (h / 2.0)).unwrap()).unwrap(), v)
    });
    ends.0
}

fn by_hand(sizes: &Sizes, leapfrog: bool) -> Statistics {
    let mut network = ByHand::new();
    let x = network.unit(1, 1, &images());
    let x = network.block(1, &sizes[0], leapfrog, &x);
    let x = network.unit(2, 2, &x);
    network.block(2, &sizes[1], leapfrog, &x);
    network.statistics
}

fn assert_accepted_alone(method: impl Into<aca_core::Method>, gradient: Gradient) {
    let name = format!("{gradient:?}");
    let leapfrog = matches!(gradient, Gradient::Mali);
    let (ours, sizes) = trained(method, gradient);
    let by_hand = by_hand(&sizes, leapfrog);
    assert_eq!(ours.len(), by_hand.len());
    for (statistic, values) in &ours {
        for (ours, by_hand) in values.iter().zip(&by_hand[statistic]) {
            let off = (ours - by_hand).abs();
            assert!(off <= 1e-11, "{name}: {statistic} is {ours}, by hand {by_hand}, bound 1e-11");
        }
    }
}

#[test]
fn statistics_follow_accepted_evaluations_alone_with_aca() {
    assert_accepted_alone(HEUN_EULER, Gradient::Aca);
}

#[test]
fn statistics_follow_accepted_evaluations_alone_with_a_budget() {
    assert_accepted_alone(HEUN_EULER, Gradient::AcaBudget { checkpoints: 1 });
}

#[test]
fn statistics_follow_accepted_evaluations_alone_with_naive() {
    assert_accepted_alone(HEUN_EULER, Gradient::Naive);
}

#[test]
fn statistics_follow_accepted_evaluations_alone_with_backsolve() {
    assert_accepted_alone(HEUN_EULER, Gradient::Backsolve(Backsolve::default()));
}

#[test]
fn statistics_follow_accepted_evaluations_alone_with_mali() {
    assert_accepted_alone(ALF, Gradient::Mali);
}
