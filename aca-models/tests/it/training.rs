//! Training stops anywhere and goes on with the same numbers; what does not fit is refused.

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use aca_models::{
    Error,
    data::{DataSet, Images},
    networks::{Network, NetworkName, NetworkSpec, OdeOptions},
    optimizers::Schedule,
    training::{Checkpoint, TrainPlan, Trainer, load_network},
};
use candle_core::DType;
use serde_json::Value;
use tempfile::tempdir;

/// The digits, cut down to so many images to learn and to judge by.
pub fn few(train: usize, test: usize) -> DataSet {
    let digits = DataSet::digits().unwrap();
    let cut = |images: &Images, count: usize| {
        let pixels = images.pixels()[..count * 64].to_vec();
        let labels = images.labels()[..count].to_vec();
        Arc::new(Images::new(pixels, labels, [1, 8, 8], 10).unwrap())
    };
    DataSet { train: cut(&digits.train, train), test: cut(&digits.test, test), ..digits }
}

fn plan() -> TrainPlan {
    TrainPlan { epochs: 2, batch_size: 12, ..TrainPlan::digits() }
}

fn network(seed: u64) -> Network {
    let ode = OdeOptions::digits();
    Network::new(&NetworkSpec { seed, ..NetworkSpec::of(NetworkName::Digits) }, &ode).unwrap()
}

fn trainer() -> Trainer {
    Trainer::new(network(0), few(40, 12), plan()).unwrap()
}

/// Learns to the end, or until `batches` more were learned.
fn learn(trainer: &mut Trainer, batches: usize) {
    let mut left = batches;
    while left > 0 && trainer.position().epoch < trainer.plan().epochs {
        let mut watch = |_: &_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        trainer.epoch(&mut watch).unwrap();
    }
}

fn saved(trainer: &Trainer, dir: &Path) -> Checkpoint {
    let path = dir.join("run.safetensors");
    trainer.checkpoint(Value::Null).unwrap().save(&path).unwrap();
    Checkpoint::load(&path).unwrap()
}

/// All bits of all tensors.
fn bits(checkpoint: &Checkpoint) -> Vec<(String, Vec<u32>)> {
    let bits = |(name, tensor): (&String, &candle_core::Tensor)| {
        let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (name.clone(), numbers.into_iter().map(f32::to_bits).collect())
    };
    checkpoint.tensors.iter().map(bits).collect()
}

#[test]
fn a_run_that_stops_anywhere_and_resumes_ends_with_the_same_bits() {
    let dir = tempdir().unwrap();
    let mut whole = trainer();
    learn(&mut whole, usize::MAX);
    let expected = saved(&whole, dir.path());
    // Four batches an epoch: within the first, after its last batch, at its end, within the second.
    for stop in [1, 4, 6] {
        let mut first = trainer();
        learn(&mut first, stop);
        let checkpoint = saved(&first, dir.path());
        let mut second = trainer();
        second.resume(&checkpoint).unwrap();
        learn(&mut second, usize::MAX);
        let found = saved(&second, dir.path());
        assert!(bits(&found) == bits(&expected), "stopped after {stop} batches");
        for (found, expected) in found.about.history.iter().zip(&expected.about.history) {
            assert_eq!((&found.train, &found.test), (&expected.train, &expected.test));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_does_not() {
    let dir = tempdir().unwrap();
    let run = |seed| {
        let mut trainer =
            Trainer::new(network(seed), few(24, 12), TrainPlan { seed, epochs: 1, ..plan() })
                .unwrap();
        learn(&mut trainer, usize::MAX);
        bits(&saved(&trainer, dir.path()))
    };
    assert!(run(0) == run(0));
    assert!(run(0) != run(1));
}

#[test]
fn an_epoch_counts_every_image_once() {
    let mut trainer = trainer();
    let row = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((row.train.images, row.train.batches, row.test.images), (40, 4, 12));
    assert!(row.train.accepted > 0 && row.train.nfe_backward > 0 && row.test.nfe_backward == 0);
    let steps = row.train.length / (2.0 * row.train.batches as f64);
    assert!((steps - 1.0).abs() < 1e-9, "two blocks of length 1 a batch, found {steps} each");
}

#[test]
fn a_checkpoint_of_another_network_changes_nothing() {
    let dir = tempdir().unwrap();
    let checkpoint = saved(&trainer(), dir.path());
    let other = Network::new(
        &NetworkSpec { classes: 7, seed: 3, ..NetworkSpec::of(NetworkName::Digits) },
        &OdeOptions::digits(),
    )
    .unwrap();
    let before = other.parameters()[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let error = load_network(&other, &checkpoint).unwrap_err();
    assert!(matches!(&error, Error::Tensors { names } if names.len() == 2), "{error}");
    let after = other.parameters()[0].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(before, after);
    let ode = OdeOptions::cifar();
    let squeezenext = Network::new(
        &NetworkSpec { channels: 1, ..NetworkSpec::of(NetworkName::SqueezeNext) },
        &ode,
    )
    .unwrap();
    let error = load_network(&squeezenext, &checkpoint).unwrap_err().to_string();
    assert!(error.contains("digits, not squeezenext"), "{error}");
}

#[test]
fn a_begun_epoch_is_not_continued_with_other_batches() {
    let dir = tempdir().unwrap();
    let mut first = trainer();
    learn(&mut first, 1);
    let checkpoint = saved(&first, dir.path());
    let plan = TrainPlan { batch_size: 20, ..plan() };
    let mut second = Trainer::new(network(0), few(40, 12), plan).unwrap();
    let error = second.resume(&checkpoint).unwrap_err().to_string();
    assert!(error.contains("batches of 12 and seed 0"), "{error}");
}

#[test]
fn damaged_and_foreign_files_are_no_checkpoints() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    saved(&trainer(), dir.path());
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[9] ^= 0xff;
    let cases =
        [whole[..whole.len() / 2].to_vec(), whole[..4].to_vec(), flipped, b"no tensors".to_vec()];
    for bytes in cases {
        fs::write(&path, &bytes).unwrap();
        let error = Checkpoint::load(&path).unwrap_err();
        assert!(matches!(error, Error::NoCheckpoint { .. }), "{} bytes: {error}", bytes.len());
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(Checkpoint::load(&path).unwrap_err(), Error::File { action: "read", .. }));
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    saved(&trainer(), dir.path());
    let old = fs::read(&path).unwrap();
    // A directory in the place of the file to be renamed.
    fs::create_dir(dir.path().join("run.safetensors.partial")).unwrap();
    let error = trainer().checkpoint(Value::Null).unwrap().save(&path).unwrap_err();
    assert!(matches!(error, Error::File { action: "write", .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), old);
}

#[test]
fn a_checkpoint_keeps_the_moment_it_was_made() {
    let mut trainer = trainer();
    let checkpoint = trainer.checkpoint(Value::Null).unwrap();
    let before = bits(&checkpoint);
    learn(&mut trainer, 1);
    assert!(bits(&checkpoint) == before, "training changed it");
}

#[test]
fn a_checkpoint_with_losses_that_are_not_finite_loads() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    let mut trainer = trainer();
    learn(&mut trainer, 100);
    let mut checkpoint = trainer.checkpoint(Value::Null).unwrap();
    for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1 + 0.2] {
        checkpoint.about.history[0].test.loss = loss;
        checkpoint.about.position.tally.loss = loss;
        checkpoint.save(&path).unwrap();
        let about = Checkpoint::load(&path).unwrap().about;
        for found in [about.history[0].test.loss, about.position.tally.loss] {
            assert!(found == loss || found.is_nan() && loss.is_nan(), "{found}, saved {loss}");
        }
    }
}

#[test]
fn a_network_of_double_precision_learns() {
    let spec = NetworkSpec { dtype: DType::F64, ..NetworkSpec::of(NetworkName::Digits) };
    let network = Network::new(&spec, &OdeOptions::digits()).unwrap();
    let plan = TrainPlan { epochs: 1, ..plan() };
    let mut trainer = Trainer::new(network, few(24, 12), plan).unwrap();
    let row = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!((row.train.images, row.test.images), (24, 12));
}

#[test]
fn plans_that_cannot_train_are_refused() {
    let refused = |plan: TrainPlan, data: DataSet, words: &str| {
        let error = Trainer::new(network(0), data, plan).err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|text| text.contains(words)), "{error:?}, not {words}");
    };
    let base = plan;
    refused(TrainPlan { batch_size: 41, ..base() }, few(40, 12), "a batch of 41 images");
    refused(TrainPlan { batch_size: 0, ..base() }, few(40, 12), "at least 1");
    refused(TrainPlan { epochs: 0, ..base() }, few(40, 12), "number of epochs of 0");
    refused(TrainPlan { lr: f64::NAN, ..base() }, few(40, 12), "learning rate of NaN");
    refused(TrainPlan { momentum: 1.0, ..base() }, few(40, 12), "momentum of 1");
    refused(TrainPlan { weight_decay: -1.0, ..base() }, few(40, 12), "weight decay of -1");
    let schedule = Schedule::Cosine { warmup: 1.5 };
    refused(TrainPlan { schedule, ..base() }, few(40, 12), "share of the warm-up of 1.5");
    let schedule = Schedule::Steps(vec![(1, f64::INFINITY)]);
    refused(TrainPlan { schedule, ..base() }, few(40, 12), "factor of the learning rate of inf");
    let images = Images::new(vec![0; 64], vec![10], [1, 8, 8], 11).unwrap();
    let data = DataSet { train: Arc::new(images), ..few(40, 12) };
    refused(TrainPlan { batch_size: 1, ..base() }, data, "11 classes");
}

#[test]
fn an_image_alone_in_a_batch_is_refused_where_it_has_one_number_a_channel() {
    let ode = OdeOptions::digits();
    let small = |name| Network::new(&NetworkSpec::of(name), &ode).unwrap();
    let spec = NetworkSpec { channels: 1, ..NetworkSpec::of(NetworkName::ResNet18) };
    let deep = || Network::new(&spec, &ode).unwrap();
    let plan = |batch_size| TrainPlan { epochs: 1, batch_size, ..plan() };
    let epoch = |network: Network, batch_size| {
        let mut trainer = Trainer::new(network, few(13, 5), plan(batch_size)).unwrap();
        trainer.epoch(&mut |_| ControlFlow::Break(())).map(|_| ())
    };
    for batch_size in [1, 4, 12] {
        let error = epoch(deep(), batch_size).unwrap_err();
        assert!(matches!(error, Error::LoneImage { images: 13, .. }), "{error}");
        let text = format!(
            "13 images in batches of {batch_size} leave one image alone in a batch, so batch norms \
             of resnet18 see one number per channel, and that has no variance; give another batch size"
        );
        assert_eq!(error.to_string(), text);
    }
    epoch(deep(), 5).unwrap();
    epoch(small(NetworkName::Digits), 12).unwrap();
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_with_a_message() {
    let plan = TrainPlan { lr: 1e30, schedule: Schedule::Steps(Vec::new()), ..plan() };
    let mut trainer = Trainer::new(network(0), few(40, 12), plan).unwrap();
    let error = trainer.epoch(&mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
}

#[test]
fn the_learning_rate_of_the_original_falls_after_30_and_60_epochs() {
    let plan = TrainPlan::cifar();
    let rates = [0, 29, 30, 59, 60, 89].map(|epoch| plan.lr_at(epoch, 5, 100));
    for (found, expected) in rates.into_iter().zip([0.1, 0.1, 0.01, 0.01, 0.001, 0.001]) {
        assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
    }
}

#[test]
fn a_cosine_rises_and_falls_to_nothing() {
    let schedule = Schedule::Cosine { warmup: 0.25 };
    let plan = TrainPlan { epochs: 4, lr: 2.0, schedule, ..TrainPlan::cifar() };
    let rates: Vec<f64> = (0..4)
        .flat_map(|e| (0..10).map(move |b| (e, b)))
        .map(|(e, b)| plan.lr_at(e, b, 10))
        .collect();
    assert!(rates[..10].is_sorted() && rates[10..].iter().rev().is_sorted(), "{rates:?}");
    assert!((rates[9] - 1.9).abs() < 1e-12 && rates[39] < 1e-2, "{rates:?}");
}
