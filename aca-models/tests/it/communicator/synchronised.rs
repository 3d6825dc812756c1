//! Batch norms with the statistics of all ranks: many ranks do what one process does with all images.

use std::{ops::ControlFlow, sync::Arc};

use aca_adjoint::{Backsolve, Gradient};
use aca_core::Solver;
use aca_models::{
    communicator::{Alone, Communicator, sum_gradients},
    layers::BatchNorm2d,
    networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions},
    training::{TrainPlan, Trainer},
};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Module;

use super::threads::ranks;
use crate::{activations::filled, training::few};

const SHAPE: [usize; 4] = [7, 3, 2, 2];

/// Every `size`-th image from `rank` on.
fn share(x: &Tensor, c: &dyn Communicator) -> Tensor {
    let images = x.dim(0).unwrap();
    let own: Vec<u32> = (c.rank()..images).step_by(c.size()).map(|i| i as u32).collect();
    x.index_select(&Tensor::new(own, &Device::Cpu).unwrap(), 0).unwrap()
}

/// What a layer makes of its share of images, its running statistics and its cotangents.
fn normalised(c: Arc<dyn Communicator>) -> Vec<Vec<f64>> {
    let x = Var::from_tensor(&share(&(filled(&SHAPE, DType::F64) + 2.0).unwrap(), &*c)).unwrap();
    let z = share(&filled(&[7, 3, 2, 2], DType::F64).sqr().unwrap(), &*c);
    let [weight, bias] =
        [0.7, -0.1].map(|x| Var::from_tensor(&Tensor::full(x, 3, &Device::Cpu).unwrap()).unwrap());
    let constant = |x: f64| Tensor::full(x, 3, &Device::Cpu).unwrap();
    let parameters = [weight.as_tensor().clone(), bias.as_tensor().clone()];
    let running = [constant(0.0), constant(1.0)];
    let layer = BatchNorm2d::from_tensors(parameters, running).unwrap().with_relu();
    layer.synchronise(c.clone());
    let value = layer.forward(&x).unwrap();
    let own = (&value * z).unwrap().sum_all().unwrap().backward().unwrap();
    let sums = sum_gradients(&*c, &[weight.clone(), bias.clone()], &own).unwrap();
    let [mean, variance] = layer.running_statistics();
    let found =
        [&value, own.get(&x).unwrap(), sums.get(&weight).unwrap(), sums.get(&bias).unwrap()];
    let found = found.into_iter().chain([mean.as_tensor(), variance.as_tensor()]);
    found.map(|x| x.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn apart(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_layer_on_three_ranks_is_that_of_one_process_and_so_are_its_cotangents() {
    let expected = normalised(Arc::new(Alone));
    let image = 12;
    for (rank, found) in ranks(3, normalised).into_iter().enumerate() {
        for (what, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // Value and cotangent of the input are those of the rank's images.
            let own = expected.chunks(image).skip(rank).step_by(3).flatten().copied();
            let expected = if what < 2 { own.collect() } else { expected.clone() };
            let off = apart(found, &expected);
            assert!(off < 1e-13, "rank {rank}, number {what}: {off:e} off, bound 1e-13");
        }
    }
}

/// A network for digits whose blocks take fixed steps.
fn network(gradient: Gradient, dtype: DType) -> Network {
    let tableau = match gradient {
        Gradient::Mali => aca_core::Method::Leapfrog,
        _ => aca_tableau::HEUN_EULER.into(),
    };
    let ode = OdeOptions { solver: Solver::fixed(tableau, 0.5), gradient, ..OdeOptions::digits() };
    Network::new(&NetworkSpec { dtype, ..NetworkSpec::of(NetworkName::Digits) }, &ode).unwrap()
}

/// Gradients of the mean loss over 12 images of all ranks.
fn gradients(c: Arc<dyn Communicator>, gradient: Gradient, dtype: DType) -> Vec<f64> {
    let network = network(gradient, dtype);
    network.synchronise(c.clone()).unwrap();
    let images = share(&filled(&[12, 1, 8, 8], dtype), &*c);
    let labels = share(&Tensor::arange(0u32, 12, &Device::Cpu).unwrap(), &*c);
    let labels = labels.to_vec1::<u32>().unwrap().into_iter().map(|i| i % 10).collect::<Vec<_>>();
    let labels = Tensor::new(labels, &Device::Cpu).unwrap();
    let logits = network.forward(&images, Mode::Train).unwrap();
    let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
    let own = (loss / c.size() as f64).unwrap().backward().unwrap();
    let vars: Vec<_> = network.parameters().into_iter().map(|(_, var)| var).collect();
    let sums = sum_gradients(&*c, &vars, &own).unwrap();
    let of = |var: &Var| sums.get(var).unwrap().to_dtype(DType::F64).unwrap();
    vars.iter().flat_map(|var| of(var).flatten_all().unwrap().to_vec1().unwrap()).collect()
}

fn size(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn two_ranks_have_the_gradients_of_a_network_with_twice_the_batch() {
    let strategies = [
        Gradient::Aca,
        Gradient::AcaBudget { checkpoints: 2 },
        Gradient::Naive,
        Gradient::Backsolve(Backsolve::default()),
        Gradient::Mali,
    ];
    for gradient in strategies {
        // In f32 the rounding of eight layers: gradients of other orders of the images are as far apart.
        for (dtype, bound) in [(DType::F32, 3e-6), (DType::F64, 1e-12)] {
            let expected = gradients(Arc::new(Alone), gradient.clone(), dtype);
            for found in ranks(2, |c| gradients(c, gradient.clone(), dtype)) {
                let off = size(found.iter().zip(&expected).map(|(a, b)| a - b));
                let off = off / size(expected.iter().copied());
                assert!(off <= bound, "{gradient:?} in {dtype:?}: {off:e} off, bound {bound:e}");
            }
        }
    }
}

fn plan(batch_size: usize) -> TrainPlan {
    TrainPlan { epochs: 1, batch_size, sync_batch_norm: true, ..TrainPlan::digits() }
}

#[test]
fn an_epoch_of_two_ranks_is_that_of_one_process_with_twice_the_batch() {
    let epoch = |c: Arc<dyn Communicator>, batch_size: usize| {
        let network = network(Gradient::Aca, DType::F32);
        let trainer = Trainer::new(network, few(20, 5), plan(batch_size)).unwrap();
        let mut trainer = trainer.distributed(c).unwrap();
        trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap().unwrap()
    };
    let expected = epoch(Arc::new(Alone), 8);
    for found in ranks(2, |c| epoch(c, 4)) {
        assert_eq!((found.train.images, found.test.images), (20, 5));
        let off = (found.train.mean_loss() / expected.train.mean_loss() - 1.0).abs();
        assert!(off < 1e-5, "loss {:e} off", off);
    }
}

#[test]
fn steps_that_follow_each_ranks_images_are_refused() {
    let texts = ranks(2, |c| {
        let ode = OdeOptions::digits();
        let network = Network::new(&NetworkSpec::of(NetworkName::Digits), &ode).unwrap();
        let trainer = Trainer::new(network, few(20, 5), plan(4)).unwrap();
        trainer.distributed(c).err().unwrap().to_string()
    });
    assert!(
        texts.iter().all(|text| text.starts_with("rank 0: heun_euler adapts its steps")),
        "{texts:?}"
    );
}

#[test]
fn steps_back_that_follow_each_ranks_images_are_refused() {
    let tolerance = aca_core::Tolerance { rtol: 1e-2, atol: 1e-2 };
    let back = Solver::adaptive(aca_tableau::BOSH3, tolerance);
    let texts = ranks(2, |c| {
        let solver = Some(Box::new(back.clone()));
        let gradient = Gradient::Backsolve(Backsolve { solver, ..Backsolve::default() });
        let trainer = Trainer::new(network(gradient, DType::F32), few(20, 5), plan(4)).unwrap();
        trainer.distributed(c).err().unwrap().to_string()
    });
    assert!(
        texts.iter().all(|text| text.starts_with("rank 0: bosh3 adapts its steps")),
        "{texts:?}"
    );
}

#[test]
fn a_last_step_without_images_for_a_rank_is_refused() {
    let texts = ranks(3, |c| {
        let network = network(Gradient::Aca, DType::F32);
        let trainer = Trainer::new(network, few(20, 5), plan(3)).unwrap();
        trainer.distributed(c).err().unwrap().to_string()
    });
    let start = "rank 0: 20 images in steps of 9 leave 2 for the last step of 3 ranks";
    assert!(texts.iter().all(|text| text.starts_with(start)), "{texts:?}");
}

#[test]
fn the_learning_rate_grows_with_the_ranks_when_asked() {
    let lr = |scale_lr: bool| {
        let rates = ranks(2, |c| {
            let network = network(Gradient::Aca, DType::F32);
            let schedule = aca_models::optimizers::Schedule::Steps(vec![]);
            let plan = TrainPlan { scale_lr, schedule, sync_batch_norm: false, ..plan(4) };
            let trainer = Trainer::new(network, few(20, 5), plan).unwrap();
            let mut trainer = trainer.distributed(c).unwrap();
            let row = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap().unwrap();
            row.lr
        });
        rates[0]
    };
    assert_eq!((lr(false), lr(true)), (0.1, 0.2));
}

#[test]
fn second_derivatives_need_the_statistics_of_one_rank() {
    let texts = ranks(2, |c| {
        let layer = BatchNorm2d::from_tensors(
            [1.0, 0.0].map(|x| Tensor::full(x, 3, &Device::Cpu).unwrap()),
            [0.0, 1.0].map(|x| Tensor::full(x, 3, &Device::Cpu).unwrap()),
        );
        let layer = layer.unwrap();
        layer.synchronise(c);
        layer.trace(&filled(&SHAPE, DType::F64)).unwrap_err().to_string()
    });
    assert!(texts.iter().all(|text| text.contains("no second derivatives")), "{texts:?}");
}
