//! Plans and recipes that make no batches.

use aca_models::data::{BatchPlan, Batches, Recipe};

use super::{images, plain};

fn refusal(recipe: &Recipe, plan: &BatchPlan) -> String {
    Batches::new(images(10), recipe, plan, 0).unwrap_err().to_string()
}

#[test]
fn batch_of_no_images_is_refused() {
    let got = refusal(&plain(2), &BatchPlan::training(0, 0));
    assert_eq!(got, "batches of 0 images are not possible; give at least 1");
}

#[test]
fn batch_larger_than_the_data_is_refused() {
    let got = refusal(&plain(2), &BatchPlan::training(11, 0));
    assert_eq!(got, "a batch of 11 images is larger than the 10 images; lower the batch size");
}

#[test]
fn shard_beyond_the_ranks_is_refused() {
    let got = refusal(&plain(2), &BatchPlan { shard: (2, 2), ..BatchPlan::training(1, 0) });
    assert_eq!(got, "there is no shard 2 of 2; ranks count from 0");
}

#[test]
fn recipe_for_other_channels_is_refused() {
    let recipe = Recipe { std: vec![1.0], ..plain(3) };
    let got = refusal(&recipe, &BatchPlan::training(1, 0));
    assert_eq!(got, "the recipe has 3 means and 1 deviations for 2 channels");
}

#[test]
fn deviation_of_zero_is_refused() {
    let recipe = Recipe { std: vec![1.0, 0.0], ..plain(2) };
    let got = refusal(&recipe, &BatchPlan::training(1, 0));
    assert_eq!(got, "std = 0 is not allowed in a recipe; it must be positive and finite");
}

#[test]
fn mean_that_is_not_a_number_is_refused() {
    let recipe = Recipe { mean: vec![f32::NAN, 0.0], ..plain(2) };
    let got = refusal(&recipe, &BatchPlan::training(1, 0));
    assert_eq!(got, "mean = NaN is not allowed in a recipe; it must be finite");
}

#[test]
fn padding_wider_than_the_image_is_refused() {
    let recipe = Recipe { crop_padding: 6, ..plain(2) };
    let got = refusal(&recipe, &BatchPlan::training(1, 0));
    let expected = "crop_padding = 6 is not allowed in a recipe; it must be at most the smaller \
                    side of the images";
    assert_eq!(got, expected);
}
