//! NODE18 learns from files in CIFAR's format, in every mode of the original and by every strategy.

use std::ops::ControlFlow;

use aca_adjoint::{Backsolve, Gradient};
use aca_core::Solver;
use aca_models::{
    networks::{Network, NetworkName, NetworkSpec, OdeOptions},
    training::{EpochRow, TrainPlan, Trainer},
};

use crate::data_cifar::{SMALL10, written};

/// One epoch of four images, two at a time, and three to be judged by.
fn epoch(ode: &OdeOptions) -> EpochRow {
    let dir = written(&SMALL10);
    let data = SMALL10.load(dir.path()).unwrap();
    let network = Network::new(&NetworkSpec::of(NetworkName::Node18), ode).unwrap();
    let plan = TrainPlan { epochs: 1, batch_size: 2, ..TrainPlan::cifar() };
    let mut trainer = Trainer::new(network, data, plan).unwrap();
    let row = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((row.train.images, row.train.batches, row.test.images), (4, 2, 3));
    assert!(row.train.loss.is_finite() && row.test.loss.is_finite(), "{row:?}");
    assert!(row.train.accepted >= 8, "four blocks solved for two batches: {row:?}");
    row
}

/// Few steps, since only that it runs is asked: the original's tolerance, loosened.
fn options(gradient: Gradient) -> OdeOptions {
    let tableau = match gradient {
        Gradient::Mali => aca_core::Method::Leapfrog,
        _ => aca_tableau::HEUN_EULER.into(),
    };
    let solver = Solver::fixed_count(tableau, 2);
    OdeOptions { solver, gradient, ..OdeOptions::cifar() }
}

#[test]
fn the_fast_mode_keeps_the_graph() {
    assert_eq!(epoch(&options(Gradient::Naive)).train.nfe_backward, 0);
}

#[test]
fn the_memory_efficient_mode_replays() {
    assert!(epoch(&options(Gradient::Aca)).train.nfe_backward > 0);
}

#[test]
fn the_multi_time_mode_gives_the_numbers_of_the_memory_efficient_one() {
    let end = epoch(&options(Gradient::Aca));
    let times = epoch(&OdeOptions { multi_time: true, ..options(Gradient::Aca) });
    assert_eq!(end.train.loss, times.train.loss);
}

#[test]
fn the_continuous_adjoint_and_the_leapfrog_train_too() {
    epoch(&options(Gradient::Backsolve(Backsolve::default())));
    epoch(&options(Gradient::Mali));
}

#[test]
fn the_graph_of_the_leapfrog_trains_and_is_judged() {
    let solver = Solver::fixed_count(aca_core::Method::Leapfrog, 2);
    let ode = OdeOptions { solver, gradient: Gradient::Naive, ..OdeOptions::cifar() };
    let (row, mali) = (epoch(&ode), epoch(&options(Gradient::Mali)));
    assert_eq!(row.test.nfe_forward, mali.test.nfe_forward);
}
