//! What holds in a process that `mpirun` started.
//!
//! The gradients are those of a small network without batch norm and with fixed steps: a batch norm
//! and an error norm see the images of their own rank alone, so with either of them the solves of two
//! ranks are not those of one process, whatever the communication. Where a strategy needs an error
//! norm, both ranks have the same states.

use std::ops::ControlFlow;
use std::sync::Arc;

use aca_adjoint::{Backsolve, Gradient, Ode};
use aca_core::{Solver, Tolerance};
use aca_dense::SaveAt;
use aca_models::{
    communicator::{Alone, Communicator, Mpi, gather, sum_gradients},
    data::DataSet,
    fields::{Mlp, MlpConfig, TimeInput},
    layers::Activation,
    networks::{Network, NetworkName, NetworkSpec, OdeOptions},
    optimizers::Sgd,
    training::{TrainPlan, Trainer},
};
use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candle_nn::VarBuilder;

use super::super::{numbers, tensor};
use crate::activations::filled;

#[test]
#[ignore = "run by mpirun"]
fn sums_follow_the_order_of_the_ranks() {
    let mpi = Mpi::start().unwrap();
    // From left to right the one is lost in the large number; in any other order it is not.
    let mut sum = [tensor(&[[1e16, 1.0, -1e16][mpi.rank()]])];
    mpi.all_reduce(&mut sum).unwrap();
    assert_eq!(numbers(&sum[0]), [0.0]);
}

#[test]
#[ignore = "run by mpirun"]
fn tensors_of_both_types_and_of_many_buckets_arrive() {
    let mpi = Mpi::start().unwrap();
    let own = mpi.rank() as f64 + 1.0;
    let full = |value: f64, shape: &[usize], dtype| {
        Tensor::full(value, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    };
    let shapes: [(&[usize], _); 4] =
        [(&[3, 5], DType::F32), (&[7], DType::F64), (&[4_200_001], DType::F32), (&[], DType::F32)];
    let mut tensors: Vec<_> =
        shapes.iter().enumerate().map(|(i, (s, d))| full(own * (i + 1) as f64, s, *d)).collect();
    // A transposed tensor is sent in its logical order.
    tensors[0] = tensors[0].t().unwrap();
    mpi.all_reduce(&mut tensors).unwrap();
    assert_eq!(tensors[0].dims(), [5, 3]);
    for (i, tensor) in tensors.iter().enumerate() {
        let expected = 3.0 * (i + 1) as f64;
        let off = (tensor.to_dtype(DType::F64).unwrap() - expected).unwrap().abs().unwrap();
        assert_eq!(numbers(&off.flatten_all().unwrap().max(0).unwrap()), [0.0], "tensor {i}");
    }
}

#[test]
#[ignore = "run by mpirun"]
fn every_rank_gets_the_tensors_of_the_root() {
    let mpi = Mpi::start().unwrap();
    let mut sent = [tensor(&[mpi.rank() as f64, 7.0])];
    mpi.broadcast(&mut sent, 1).unwrap();
    mpi.barrier().unwrap();
    assert_eq!(numbers(&sent[0]), [1.0, 7.0]);
}

#[test]
#[ignore = "run by mpirun"]
fn what_cannot_be_sent_is_refused() {
    let mpi = Mpi::start().unwrap();
    let mut tensors = [Tensor::zeros(2, DType::U32, &Device::Cpu).unwrap()];
    let error = mpi.all_reduce(&mut tensors).unwrap_err().to_string();
    assert!(error.contains("u32") && error.contains("give f32 or f64 on the CPU"), "{error}");
    let error = mpi.broadcast(&mut [], 2).unwrap_err().to_string();
    assert!(error.contains("no rank 2 among 2"), "{error}");
    let error = Mpi::start().err().unwrap().to_string();
    assert!(error.contains("started in this process before"), "{error}");
}

/// States that a field moves, and what they should become.
struct Problem {
    ode: Ode,
    vars: Vec<Var>,
    y0: Tensor,
    target: Tensor,
}

const STATES: usize = 10;

impl Problem {
    fn new(gradient: Gradient, dtype: DType) -> Self {
        let tensor = |shape: &[usize]| filled(shape, dtype);
        let tensors = [("0.weight", vec![8, 3]), ("0.bias", vec![8]), ("1.weight", vec![3, 8])];
        let tensors = tensors.into_iter().chain([("1.bias", vec![3])]);
        let vars: Vec<_> = tensors
            .map(|(name, shape)| (name.to_owned(), Var::from_tensor(&tensor(&shape)).unwrap()))
            .collect();
        let by_name = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone()));
        let vb = VarBuilder::from_tensors(by_name.collect(), dtype, &Device::Cpu);
        let (hidden, activation) = (vec![8], Activation::Tanh);
        let config = MlpConfig { dim: 3, hidden, activation, time: TimeInput::None };
        let field = Mlp::new(&config, vb).unwrap();
        let tolerance = Tolerance { rtol: 1e-4, atol: 1e-4 };
        let solver = match gradient {
            Gradient::Mali => Solver::fixed(aca_core::Method::Leapfrog, 0.125),
            Gradient::NaiveThroughStepSize => Solver::adaptive(aca_tableau::DOPRI5, tolerance),
            _ => Solver::fixed(aca_tableau::DOPRI5, 0.125),
        };
        let adaptive = matches!(gradient, Gradient::NaiveThroughStepSize);
        let vars = field.variables().to_vec();
        let ode = Ode::new(solver, field, vars.clone()).unwrap().gradient(gradient);
        let mut y0 = tensor(&[STATES, 3]);
        if adaptive {
            // Every state twice, once on either rank: the norms of their errors are then alike.
            let twins = Tensor::arange(0u32, STATES as u32, &Device::Cpu).unwrap();
            let twins = twins.to_vec1::<u32>().unwrap().into_iter().map(|i| i / 2 * 2);
            let twins = Tensor::from_iter(twins, &Device::Cpu).unwrap();
            y0 = y0.index_select(&twins, 0).unwrap();
        }
        let target = (&y0 * 0.5).unwrap();
        Self { ode, vars, y0, target }
    }

    /// Mean loss of the states of all ranks, and its gradients: what every rank learns of them.
    fn learn(&self, c: &dyn Communicator) -> (f64, GradStore) {
        let (rank, size) = (c.rank(), c.size());
        let own: Vec<u32> = (rank..STATES).step_by(size).map(|i| i as u32).collect();
        let share = own.len() as f64 / STATES as f64;
        let own = Tensor::new(own, &Device::Cpu).unwrap();
        let [y0, target] = [&self.y0, &self.target].map(|x| x.index_select(&own, 0).unwrap());
        let y1 = self.ode.solve(&y0, (0.0, 1.0), &SaveAt::End).unwrap().y1;
        let loss = (candle_nn::loss::mse(&y1, &target).unwrap() * share).unwrap();
        let gradients = sum_gradients(c, &self.vars, &loss.backward().unwrap()).unwrap();
        let loss = numbers(&loss.to_dtype(DType::F64).unwrap())[0];
        let losses = gather(c, &[loss]).unwrap();
        (losses.iter().map(|row| row[0]).sum(), gradients)
    }
}

fn flat(vars: &[Var], gradients: &GradStore) -> Vec<f64> {
    let of = |var: &Var| numbers(&gradients.get(var).unwrap().to_dtype(DType::F64).unwrap());
    vars.iter().flat_map(of).collect()
}

#[test]
#[ignore = "run by mpirun"]
fn two_ranks_have_the_gradients_of_one_with_twice_the_batch() {
    let mpi = Mpi::start().unwrap();
    let strategies = [
        Gradient::Aca,
        Gradient::AcaBudget { checkpoints: 2 },
        Gradient::Naive,
        Gradient::NaiveThroughStepSize,
        Gradient::Backsolve(Backsolve::default()),
        Gradient::Mali,
    ];
    for (dtype, bound) in [(DType::F32, 1e-6), (DType::F64, 1e-12)] {
        for gradient in &strategies {
            let problem = Problem::new(gradient.clone(), dtype);
            let found = flat(&problem.vars, &problem.learn(&mpi).1);
            let expected = flat(&problem.vars, &problem.learn(&Alone).1);
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let off = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
            let off = off / norm(&mut expected.iter().copied());
            assert!(off <= bound, "{gradient:?} in {dtype:?}: {off:e} off, bound {bound:e}");
            assert!(found.iter().any(|x| x.abs() > 1e-3), "{gradient:?}: no gradient to speak of");
            if mpi.rank() == 0 {
                println!("{dtype:?} {gradient:?} {off:e}");
            }
        }
    }
}

#[test]
#[ignore = "run by mpirun"]
fn two_ranks_have_the_losses_of_one_over_twenty_steps() {
    let mpi = Mpi::start().unwrap();
    let curve = |c: &dyn Communicator| -> Vec<f64> {
        let problem = Problem::new(Gradient::Aca, DType::F32);
        let named = problem.vars.iter().map(|var| (String::new(), var.clone())).collect();
        let mut sgd = Sgd::new(named, 0.01, 0.9, 5e-4).unwrap();
        let step = |_| {
            let (loss, gradients) = problem.learn(c);
            sgd.step(&gradients).unwrap();
            loss
        };
        (0..20).map(step).collect()
    };
    let (found, expected) = (curve(&mpi), curve(&Alone));
    assert!(expected[19] < 0.8 * expected[0], "nothing was learned: {expected:?}");
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let off = (found - expected).abs() / expected;
        assert!(off <= 1e-5, "step {step}: {found} is {off:e} from {expected}, bound 1e-5");
    }
    if mpi.rank() == 0 {
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        println!("loss curve {off:e} {:?}", expected);
    }
}

#[test]
#[ignore = "run by mpirun"]
fn ranks_that_train_a_network_count_every_image_once() {
    let mpi: Arc<dyn Communicator> = Arc::new(Mpi::start().unwrap());
    let ode = OdeOptions::digits();
    let network = Network::new(&NetworkSpec::of(NetworkName::Digits), &ode).unwrap();
    let plan = TrainPlan { epochs: 1, batch_size: 64, ..TrainPlan::digits() };
    let trainer = Trainer::new(network, DataSet::digits().unwrap(), plan).unwrap();
    let mut trainer = trainer.distributed(mpi).unwrap();
    let row = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((row.train.images, row.test.images), (1437, 360));
}
