//! Batches: complete, reproducible, and varied as the recipe says.

mod refusals;

use std::sync::Arc;

use aca_models::data::{Batch, BatchPlan, Batches, Images, Recipe};
use proptest::prelude::*;

const SIDE: usize = 5;

/// Images whose bytes and labels tell their position, for up to 250 images.
fn images(count: usize) -> Arc<Images> {
    let pixels = (0..count).flat_map(|image| (0..SIDE * SIDE * 2).map(move |_| image as u8 + 1));
    let labels = (0..count).map(|image| image as u8);
    Arc::new(Images::new(pixels.collect(), labels.collect(), [2, SIDE, SIDE], 256).unwrap())
}

/// One image of one channel whose bytes count from 1.
fn counting_image() -> Arc<Images> {
    let pixels = (1..=(SIDE * SIDE) as u8).collect();
    Arc::new(Images::new(pixels, vec![0], [1, SIDE, SIDE], 1).unwrap())
}

fn plain(channels: usize) -> Recipe {
    let (mean, std) = (vec![0.0; channels], vec![1.0; channels]);
    Recipe { scale: 1.0, mean, std, crop_padding: 0, flip: false }
}

fn varied(channels: usize) -> Recipe {
    Recipe { crop_padding: 2, flip: true, ..plain(channels) }
}

fn epoch(images: &Arc<Images>, recipe: &Recipe, plan: &BatchPlan, epoch: u64) -> Vec<Batch> {
    let batches = Batches::new(images.clone(), recipe, plan, epoch).unwrap();
    batches.map(|batch| batch.unwrap()).collect()
}

fn labels(batches: &[Batch]) -> Vec<u32> {
    batches.iter().flat_map(|batch| batch.labels.to_vec1::<u32>().unwrap()).collect()
}

fn bits(batches: &[Batch]) -> Vec<u32> {
    let values = |batch: &Batch| batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    batches.iter().flat_map(values).map(f32::to_bits).collect()
}

/// The crop of `counting_image` that starts at (top, left) of the padded one, by definition.
fn crop(top: usize, left: usize, mirrored: bool) -> Vec<f32> {
    let at = |row: usize, column: usize| {
        let column = if mirrored { SIDE - 1 - column } else { column };
        let (row, column) = ((row + top).checked_sub(2), (column + left).checked_sub(2));
        match (row.filter(|row| *row < SIDE), column.filter(|column| *column < SIDE)) {
            (Some(row), Some(column)) => (row * SIDE + column + 1) as f32,
            _ => 0.0,
        }
    };
    (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| at(row, column))).collect()
}

/// Which crop each of many epochs made of `counting_image`.
fn crops_of_many_epochs() -> Vec<Option<usize>> {
    let all: Vec<_> = (0..50).map(|view| crop(view / 10, view / 2 % 5, view % 2 == 1)).collect();
    let seen = |number| {
        let batch = epoch(&counting_image(), &varied(1), &BatchPlan::training(1, 3), number);
        let seen = batch[0].images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        all.iter().position(|crop| *crop == seen)
    };
    (0..400).map(seen).collect()
}

#[test]
fn every_augmented_image_is_a_crop_of_the_padded_one() {
    let seen = crops_of_many_epochs();
    let strange = seen.iter().position(Option::is_none);
    assert_eq!(strange, None, "the image of that epoch is none of the 50 crops");
}

#[test]
fn every_crop_and_flip_occurs() {
    let seen = crops_of_many_epochs();
    let missing: Vec<_> = (0..50).filter(|view| !seen.contains(&Some(*view))).collect();
    // Each is missed by 400 draws with probability 3e-4.
    assert_eq!(missing, [0; 0], "views that 400 epochs never showed");
}

#[test]
fn about_half_of_the_images_are_flipped() {
    let flipped = crops_of_many_epochs().into_iter().flatten().filter(|view| view % 2 == 1).count();
    // Five standard deviations of 400 fair coins.
    assert!(flipped.abs_diff(200) < 50, "{flipped} of 400 flipped, expected 200, bound 50");
}

#[test]
fn numbers_are_normalised_by_channel() {
    let (mean, std) = (vec![0.4914, 0.4465], vec![0.2023, 0.2010]);
    let recipe = Recipe { scale: 1.0 / 255.0, mean: mean.clone(), std: std.clone(), ..plain(2) };
    let batch = epoch(&images(200), &recipe, &BatchPlan::evaluation(200), 0);
    let values = batch[0].images.flatten_from(2).unwrap().to_vec3::<f32>().unwrap();
    for (image, channels) in values.iter().enumerate() {
        for (channel, pixels) in channels.iter().enumerate() {
            let byte = (image + 1) as f64;
            let expected = (byte / 255.0 - f64::from(mean[channel])) / f64::from(std[channel]);
            let error = (f64::from(pixels[0]) - expected).abs();
            // One unit in the last place of values up to 2.6, and the rounded 1/255.
            assert!(error < 5e-7, "byte {byte}: {}, expected {expected}, bound 5e-7", pixels[0]);
        }
    }
}

#[test]
fn padding_is_black_before_normalisation() {
    let recipe = Recipe { mean: vec![4.0], std: vec![2.0], ..varied(1) };
    let seen: Vec<_> = (0..40)
        .flat_map(|n| bits(&epoch(&counting_image(), &recipe, &BatchPlan::training(1, 3), n)))
        .collect();
    // No byte of the image is 0, so only padding can be (0 - 4) / 2.
    let lowest = seen.iter().map(|bits| f32::from_bits(*bits)).fold(f32::INFINITY, f32::min);
    assert_eq!(lowest, -2.0);
}

#[test]
fn evaluation_keeps_order_and_images() {
    let set = images(7);
    let batches = epoch(&set, &varied(2), &BatchPlan::evaluation(3), 5);
    let bytes: Vec<_> = set.pixels().iter().map(|byte| f32::from(*byte).to_bits()).collect();
    assert_eq!((labels(&batches), bits(&batches)), ((0..7).collect(), bytes));
}

#[test]
fn labels_stay_with_their_images() {
    let batches = epoch(&images(100), &plain(2), &BatchPlan::training(9, 1), 0);
    let first = |batch: &Batch| batch.images.narrow(1, 0, 1).unwrap().mean((1, 2, 3)).unwrap();
    let positions: Vec<_> =
        batches.iter().flat_map(|b| first(b).to_vec1::<f32>().unwrap()).collect();
    let expected: Vec<_> = labels(&batches).iter().map(|label| *label as f32 + 1.0).collect();
    assert_eq!(positions, expected);
}

#[test]
fn same_seed_and_epoch_repeat_bit_for_bit() {
    let plan = BatchPlan::training(8, 11);
    let run = || epoch(&images(50), &varied(2), &plan, 4);
    let (first, second) = (run(), run());
    assert_eq!((bits(&first), labels(&first)), (bits(&second), labels(&second)));
}

#[test]
fn epochs_have_different_orders() {
    let plan = BatchPlan::training(50, 11);
    let order = |number| labels(&epoch(&images(50), &plain(2), &plan, number));
    assert_ne!(order(0), order(1));
}

#[test]
fn seeds_have_different_orders() {
    let order = |seed| labels(&epoch(&images(50), &plain(2), &BatchPlan::training(50, seed), 0));
    assert_ne!(order(0), order(1));
}

#[test]
fn augmentation_does_not_depend_on_the_batch_size() {
    let run = |size| bits(&epoch(&images(50), &varied(2), &BatchPlan::training(size, 2), 3));
    assert_eq!(run(7), run(50));
}

#[test]
fn batches_of_all_shards_make_the_batches_of_one_run() {
    let whole = epoch(&images(40), &plain(2), &BatchPlan::training(12, 5), 1);
    let shard = |rank| BatchPlan { shard: (rank, 3), ..BatchPlan::training(4, 5) };
    let shards: Vec<_> =
        (0..3).map(|rank| epoch(&images(40), &plain(2), &shard(rank), 1)).collect();
    for (k, batch) in whole.iter().enumerate() {
        let parts = shards.iter().filter_map(|shard| shard.get(k)).cloned();
        let mut together = labels(&parts.collect::<Vec<_>>());
        let mut expected = labels(std::slice::from_ref(batch));
        together.sort_unstable();
        expected.sort_unstable();
        assert_eq!(together, expected, "batch {k}");
    }
}

#[test]
fn length_counts_the_batches_that_are_left() {
    let mut batches = Batches::new(images(10), &plain(2), &BatchPlan::evaluation(4), 0).unwrap();
    let before = batches.len();
    let index = batches.next().unwrap().unwrap().index;
    assert_eq!((before, index, batches.len(), batches.count()), (3, 0, 2, 2));
}

#[test]
fn last_batch_is_dropped_when_asked() {
    let plan = BatchPlan { drop_last: true, ..BatchPlan::training(4, 0) };
    let sizes: Vec<_> = epoch(&images(10), &plain(2), &plan, 0)
        .iter()
        .map(|batch| batch.labels.elem_count())
        .collect();
    assert_eq!(sizes, [4, 4]);
}

#[test]
fn dropping_batches_early_releases_the_images() {
    let set = images(200);
    let mut batches = Batches::new(set.clone(), &plain(2), &BatchPlan::evaluation(1), 0).unwrap();
    batches.next();
    drop(batches);
    // The thread held the second count: it has ended.
    assert_eq!(Arc::strong_count(&set), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn shards_are_disjoint_and_complete(
        count in 8usize..120,
        ranks in 1usize..8,
        batch_size in 1usize..9,
        seed: u64,
    ) {
        let batch_size = batch_size.min(count / ranks);
        let mut seen = Vec::new();
        for rank in 0..ranks {
            let plan = BatchPlan { shard: (rank, ranks), ..BatchPlan::training(batch_size, seed) };
            seen.extend(labels(&epoch(&images(count), &plain(2), &plan, 0)));
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..count as u32).collect::<Vec<_>>());
    }
}
