use std::{ops::ControlFlow, sync::Arc};

use aca_models::optimizers::Sgd;
use aca_models::{
    Error,
    communicator::{Communicator, RanksError},
    data::{Batch, BatchPlan, Batches},
    networks::{Mode, Network, NetworkName, NetworkSpec, OdeOptions},
    training::{BatchReport, Checkpoint, TrainPlan, Trainer},
};
use candle_core::backprop::GradStore;
use serde_json::Value;

use super::threads::ranks;
use crate::training::few;

fn plan(batch_size: usize) -> TrainPlan {
    TrainPlan { epochs: 2, batch_size, ..TrainPlan::digits() }
}

fn network(seed: u64) -> Network {
    let ode = OdeOptions::digits();
    Network::new(&NetworkSpec { seed, ..NetworkSpec::of(NetworkName::Digits) }, &ode).unwrap()
}

/// A trainer of one of the ranks, whose start parameters differ unless they are sent.
fn trainer(c: &Arc<dyn Communicator>, images: usize, batch_size: usize) -> Trainer {
    let network = network(c.rank() as u64);
    let trainer = Trainer::new(network, few(images, 5), plan(batch_size)).unwrap();
    trainer.distributed(c.clone()).unwrap()
}

fn on(_: &BatchReport) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// All bits of the tensors whose names begin so.
fn bits(checkpoint: &Checkpoint, kind: &str) -> Vec<(String, Vec<u32>)> {
    let tensors = checkpoint.tensors.iter().filter(|(name, _)| name.starts_with(kind));
    let bits = tensors.map(|(name, tensor)| {
        let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (name.clone(), numbers.into_iter().map(f32::to_bits).collect())
    });
    bits.collect()
}

/// Learns an epoch as `size` ranks would, one after the other.
fn by_hand(images: usize, batch_size: usize, size: usize) -> Network {
    let (network, data, plan) = (network(0), few(images, 5), plan(batch_size));
    let vars = network.parameters();
    let mut sgd = Sgd::new(vars.clone(), 0.0, plan.momentum, plan.weight_decay).unwrap();
    let shard = |rank| {
        let plan = BatchPlan { shard: (rank, size), ..BatchPlan::training(batch_size, 0) };
        Batches::new(data.train.clone(), &data.recipe, &plan, 0).unwrap()
    };
    let mut shards: Vec<_> = (0..size).map(shard).collect();
    let steps = shards[0].len();
    for step in 0..steps {
        let batches: Vec<Option<Batch>> =
            shards.iter_mut().map(|shard| shard.next().transpose().unwrap()).collect();
        let count = |batch: &Batch| batch.labels.elem_count() as f64;
        let all: f64 = batches.iter().flatten().map(count).sum();
        let mut sums = GradStore::default();
        for batch in batches.iter().flatten() {
            let logits = network.forward(&batch.images, Mode::Train).unwrap();
            let loss = candle_nn::loss::cross_entropy(&logits, &batch.labels).unwrap();
            let grads = (loss * (count(batch) / all)).unwrap().backward().unwrap();
            for (_, var) in &vars {
                let own = grads.get(var).unwrap().detach();
                let sum = sums.get(var).map_or(own.clone(), |sum| (sum + own).unwrap());
                sums.insert(var, sum);
            }
        }
        sgd.lr = plan.lr_at(0, step, steps);
        sgd.step(&sums).unwrap();
    }
    network
}

#[test]
fn a_step_follows_the_mean_loss_over_the_images_of_all_ranks() {
    // Shards of 7, 7 and 6 images in batches of 3: the third step has one image on two ranks and none
    // on the last, the others nine.
    let found = ranks(3, |c| {
        let mut trainer = trainer(&c, 20, 3);
        trainer.epoch(&mut on).unwrap();
        bits(&trainer.checkpoint(Value::Null).unwrap(), "parameters/")
    });
    for (name, var) in by_hand(20, 3, 3).parameters() {
        let expected = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected: Vec<_> = expected.into_iter().map(f32::to_bits).collect();
        for (rank, found) in found.iter().enumerate() {
            let (_, found) =
                found.iter().find(|(own, _)| own == &format!("parameters/{name}")).unwrap();
            assert!(*found == expected, "{name} on rank {rank} is not what was learned by hand");
        }
    }
}

#[test]
fn no_image_is_lost_or_seen_twice() {
    for (images, size) in [(20, 2), (21, 2), (23, 3), (13, 4)] {
        for row in ranks(size, |c| trainer(&c, images, 3).epoch(&mut on).unwrap().unwrap()) {
            let counts = (row.train.images, row.test.images);
            assert_eq!(counts, (images, 5), "{images} images, {size} ranks");
        }
    }
}

#[test]
fn ranks_report_the_same_epoch() {
    let rows = ranks(2, |c| trainer(&c, 21, 4).epoch(&mut on).unwrap().unwrap());
    assert_eq!((&rows[0].train, &rows[0].test), (&rows[1].train, &rows[1].test));
    assert!(rows[0].train.accepted > 0 && rows[0].train.h_smallest <= rows[0].train.h_largest);
    let steps = rows[0].train.length / (2.0 * rows[0].train.batches as f64);
    assert!((steps - 1.0).abs() < 1e-9, "two blocks of length 1 a batch, found {steps} each");
}

#[test]
fn running_statistics_are_the_same_after_an_epoch() {
    let found = ranks(2, |c| {
        let mut trainer = trainer(&c, 21, 4);
        trainer.epoch(&mut on).unwrap();
        bits(&trainer.checkpoint(Value::Null).unwrap(), "statistics/")
    });
    assert!(found[0] == found[1]);
}

/// Learns so many steps as each of the ranks, and returns the checkpoint of rank 0.
fn stopped(size: usize, batch_size: usize, steps: usize) -> Checkpoint {
    let checkpoints = ranks(size, |c| {
        let mut trainer = trainer(&c, 24, batch_size);
        // The watch of one rank alone stops all.
        let watch = &mut |report: &BatchReport| match report.batch + 1 == steps && c.rank() == 0 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        assert!(trainer.epoch(watch).unwrap().is_none());
        trainer.checkpoint(Value::Null).unwrap()
    });
    checkpoints.into_iter().next().unwrap()
}

#[test]
fn a_run_resumes_with_another_number_of_ranks() {
    let checkpoint = stopped(2, 4, 2);
    assert_eq!((checkpoint.about.ranks, checkpoint.about.position.batch), (2, 2));
    for (size, batch_size) in [(1, 8), (4, 2)] {
        let rows = ranks(size, |c| {
            let mut trainer = trainer(&c, 24, batch_size);
            trainer.resume(&checkpoint).unwrap();
            trainer.epoch(&mut on).unwrap().unwrap()
        });
        assert_eq!(rows[0].train.images, 24, "{size} ranks");
    }
}

#[test]
fn a_begun_epoch_is_not_continued_with_steps_of_other_images() {
    let checkpoint = stopped(2, 4, 2);
    let mut alone = Trainer::new(network(0), few(24, 5), plan(4)).unwrap();
    let error = alone.resume(&checkpoint).unwrap_err().to_string();
    assert!(error.contains("batches of 8 and seed 0"), "{error}");
}

#[test]
fn a_rank_that_fails_in_a_step_ends_all_with_its_message() {
    let errors = ranks(3, |c| {
        let mut trainer = trainer(&c, 24, 4);
        let (_, var) = trainer.network().parameters().remove(0);
        let rank = c.rank();
        let mut spoil = |_: &BatchReport| {
            if rank == 1 {
                var.set(&(var.zeros_like().unwrap() * f64::NAN).unwrap()).unwrap();
            }
            ControlFlow::Continue(())
        };
        trainer.epoch(&mut spoil).unwrap_err().to_string()
    });
    for error in errors {
        assert!(error.starts_with("rank 1: ") && error.contains("not finite"), "{error}");
    }
}

#[test]
fn parameters_that_diverge_end_the_run() {
    let errors = ranks(2, |c| {
        let mut trainer = trainer(&c, 24, 4);
        trainer.epoch(&mut on).unwrap();
        if c.rank() == 1 {
            let (_, var) = trainer.network().parameters().swap_remove(3);
            var.set(&(var.as_tensor() * 1.0001).unwrap().detach()).unwrap();
        }
        trainer.epoch(&mut on).unwrap_err()
    });
    for error in errors {
        let Error::Ranks(RanksError::Differs { rank: 1, what }) = &error else { panic!("{error}") };
        assert_eq!(what, "parameters in epoch 2");
    }
}

/// What every rank says to joining the others.
fn refusals(size: usize, build: impl Fn(usize) -> Trainer + Sync) -> Vec<String> {
    let join = |c: Arc<dyn Communicator>| build(c.rank()).distributed(c).err().unwrap().to_string();
    ranks(size, join)
}

#[test]
fn another_network_plan_or_other_images_are_refused_at_the_start() {
    let other = |rank: usize| {
        let usual = OdeOptions::digits();
        let ode = OdeOptions { span: (0.0, 1.0 + rank as f64), ..usual };
        Network::new(&NetworkSpec::of(NetworkName::Digits), &ode).unwrap()
    };
    let networks = refusals(2, |rank| Trainer::new(other(rank), few(24, 5), plan(4)).unwrap());
    assert!(
        networks.iter().all(|text| text.starts_with("rank 1 has other network")),
        "{networks:?}"
    );
    let lr = |rank: usize| TrainPlan { lr: 0.1 + rank as f64, ..plan(4) };
    let plans = refusals(2, |rank| Trainer::new(network(0), few(24, 5), lr(rank)).unwrap());
    assert!(plans.iter().all(|text| text.starts_with("rank 1 has other training plan")));
    let data = refusals(2, |rank| Trainer::new(network(0), few(24 + rank, 5), plan(4)).unwrap());
    assert!(data.iter().all(|text| text.starts_with("rank 1 has other images")), "{data:?}");
    let few = refusals(3, |_| Trainer::new(network(0), few(24, 5), plan(9)).unwrap());
    assert!(
        few.iter()
            .all(|text| text
                .starts_with("rank 0: a batch of 27 images is larger than the 24 images"))
    );
}
