//! The embedded digits: whole, and split as promised.

use aca_models::data::{DataSet, Images};

fn class_counts(images: &Images) -> Vec<usize> {
    let mut counts = vec![0; images.classes()];
    images.labels().iter().for_each(|label| counts[usize::from(*label)] += 1);
    counts
}

#[test]
fn digits_have_1437_training_and_360_test_images_of_8_by_8() {
    let digits = DataSet::digits().unwrap();
    let sizes = (digits.train.len(), digits.test.len(), digits.train.shape());
    assert_eq!(sizes, (1437, 360, [1, 8, 8]));
}

#[test]
fn every_digit_has_its_share_of_the_test_images_up_to_one() {
    let digits = DataSet::digits().unwrap();
    let (train, test) = (class_counts(&digits.train), class_counts(&digits.test));
    for (class, (train, test)) in train.iter().zip(&test).enumerate() {
        let share = (train + test) as f64 * 360.0 / 1797.0;
        let distance = (*test as f64 - share).abs();
        assert!(distance < 1.0, "class {class}: {test} test images, share {share}, bound 1");
    }
}

#[test]
fn both_parts_together_have_the_published_class_counts() {
    // Counts that scikit-learn's `load_digits().target` has.
    let published = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180];
    let digits = DataSet::digits().unwrap();
    let (train, test) = (class_counts(&digits.train), class_counts(&digits.test));
    let total: Vec<_> = train.iter().zip(&test).map(|(train, test)| train + test).collect();
    assert_eq!(total, published);
}

#[test]
fn both_parts_together_have_the_published_sum_of_pixels() {
    // Sum of scikit-learn's `load_digits().data`: 561718.
    let digits = DataSet::digits().unwrap();
    let sum = |images: &Images| images.pixels().iter().map(|byte| u64::from(*byte)).sum::<u64>();
    assert_eq!(sum(&digits.train) + sum(&digits.test), 561_718);
}

#[test]
fn two_readings_give_the_same_split() {
    let (first, second) = (DataSet::digits().unwrap(), DataSet::digits().unwrap());
    assert!(first.train == second.train && first.test == second.test, "the splits differ");
}

#[test]
fn the_split_is_the_one_of_every_release() {
    // FNV-1a of the test images in the order of the file, so that results stay comparable between
    // releases. A second ChaCha8, in Python, gives the same: key of 16 zeros, a 1 and 15 zeros,
    // stream = class; from the last of a class to the second, swap item i with item
    // floor((i + 1) u / 2^64), u the next 64 bits; the first ones are the test images.
    let digits = DataSet::digits().unwrap();
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = digits.test.pixels().iter().fold(0xcbf2_9ce4_8422_2325, step);
    assert_eq!(hash, 0xc496_167f_4795_b21b);
}

#[test]
fn the_recipe_standardises_the_training_images() {
    let digits = DataSet::digits().unwrap();
    let (mean, std) = (f64::from(digits.recipe.mean[0]), f64::from(digits.recipe.std[0]));
    let values = digits.train.pixels().iter().map(|byte| (f64::from(*byte) / 16.0 - mean) / std);
    let (sum, squares) = values.fold((0.0, 0.0), |(s, q), value| (s + value, q + value * value));
    let count = digits.train.pixels().len() as f64;
    let (mean, variance) = (sum / count, squares / count);
    // The constants are rounded to f32.
    assert!(mean.abs() < 1e-6, "mean {mean}, expected 0, bound 1e-6");
    assert!((variance - 1.0).abs() < 1e-6, "variance {variance}, expected 1, bound 1e-6");
}

#[test]
fn images_end_behind_the_last_one() {
    let digits = DataSet::digits().unwrap();
    assert_eq!((digits.test.image(360), digits.test.label(360)), (None, None));
}

#[test]
fn bytes_that_are_no_whole_images_are_refused() {
    let error = Images::new(vec![0; 7], vec![0, 1], [1, 2, 2], 2).unwrap_err();
    assert_eq!(error.to_string(), "7 bytes are not 2 images of shape [1, 2, 2]");
}

#[test]
fn label_that_names_no_class_is_refused() {
    let error = Images::new(vec![0; 8], vec![0, 2], [1, 2, 2], 2).unwrap_err();
    let expected = "image 1 of the collection has label 2, but the classes are 0 to 1";
    assert_eq!(error.to_string(), expected);
}
