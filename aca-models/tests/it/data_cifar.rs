//! The binary format of CIFAR: what is read, and what is refused.

use std::{fs, path::Path};

use aca_models::{
    Error,
    data::{CifarFile, CifarFormat, DataSet},
};
use tempfile::{TempDir, tempdir};

pub const SMALL10: CifarFormat = CifarFormat {
    train: &[
        CifarFile { name: "data_batch_1.bin", images: 2 },
        CifarFile { name: "data_batch_2.bin", images: 2 },
    ],
    test: CifarFile { name: "test_batch.bin", images: 3 },
    ..CifarFormat::CIFAR10
};

pub const SMALL100: CifarFormat = CifarFormat {
    train: &[CifarFile { name: "train.bin", images: 4 }],
    test: CifarFile { name: "test.bin", images: 3 },
    ..CifarFormat::CIFAR100
};

/// Byte `at` of image `image` of a file whose name has `salt` letters.
fn pixel(salt: usize, image: usize, at: usize) -> u8 {
    ((salt * 31 + image * 7 + at) % 251) as u8
}

fn record(format: &CifarFormat, salt: usize, image: usize) -> Vec<u8> {
    // Coarse labels are 19, so that a reader who takes the wrong byte is found out.
    let mut record = vec![19; format.label_bytes - 1];
    record.push(((salt + image) % format.classes) as u8);
    record.extend((0..3072).map(|at| pixel(salt, image, at)));
    record
}

fn write(format: &CifarFormat, dir: &Path) {
    for file in format.train.iter().chain([&format.test]) {
        let bytes = (0..file.images).flat_map(|image| record(format, file.name.len(), image));
        fs::write(dir.join(file.name), bytes.collect::<Vec<_>>()).unwrap();
    }
}

pub fn written(format: &CifarFormat) -> TempDir {
    let dir = tempdir().unwrap();
    write(format, dir.path());
    dir
}

#[test]
fn cifar10_images_come_in_the_order_of_the_files() {
    let dir = written(&SMALL10);
    let set = SMALL10.load(dir.path()).unwrap();
    assert_eq!((set.train.len(), set.test.len()), (4, 3));
    let expected: Vec<u8> = (0..3072).map(|at| pixel(16, 1, at)).collect();
    // Image 3 is the second of the second file.
    assert_eq!(set.train.image(3), Some(&expected[..]));
}

#[test]
fn cifar10_label_is_the_byte_before_the_image() {
    let dir = written(&SMALL10);
    let set = SMALL10.load(dir.path()).unwrap();
    assert_eq!(set.train.labels(), [6, 7, 6, 7]);
}

#[test]
fn cifar100_label_is_the_fine_one() {
    let dir = written(&SMALL100);
    let set = SMALL100.load(dir.path()).unwrap();
    assert_eq!(set.train.labels(), [9, 10, 11, 12]);
}

#[test]
fn cifar100_pixels_follow_both_labels() {
    let dir = written(&SMALL100);
    let set = SMALL100.load(dir.path()).unwrap();
    let expected: Vec<u8> = (0..3072).map(|at| pixel(8, 2, at)).collect();
    assert_eq!(set.test.image(2), Some(&expected[..]));
}

#[test]
fn folder_of_the_archive_is_found_in_the_directory() {
    let dir = tempdir().unwrap();
    let inner = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    write(&SMALL10, &inner);
    assert_eq!(SMALL10.load(dir.path()).unwrap().test.len(), 3);
}

#[test]
fn recipe_has_the_constants_of_the_original() {
    let dir = written(&SMALL10);
    let recipe = SMALL10.load(dir.path()).unwrap().recipe;
    assert_eq!((recipe.mean, recipe.crop_padding), (vec![0.4914, 0.4822, 0.4465], 4));
    assert_eq!((recipe.std, recipe.flip), (vec![0.2023, 0.1994, 0.2010], true));
}

#[test]
fn all_missing_files_are_named_with_their_publisher() {
    let dir = written(&CifarFormat { train: &[], ..SMALL10 });
    let error = DataSet::cifar10(dir.path()).unwrap_err();
    assert!(matches!(error, Error::MissingFiles { .. }), "got {error:?}");
    let expected = format!(
        "{} lacks data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, \
         data_batch_5.bin of CIFAR-10; its binary version is published at \
         https://www.cs.toronto.edu/~kriz/cifar.html",
        dir.path().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn cifar100_names_its_own_missing_files() {
    let dir = tempdir().unwrap();
    let error = DataSet::cifar100(dir.path()).unwrap_err().to_string();
    let expected = "lacks train.bin, test.bin of CIFAR-100;";
    assert!(error.contains(expected), "got {error:?}, expected {expected:?} in it");
}

#[test]
fn path_that_is_no_directory_is_refused() {
    let dir = written(&SMALL10);
    let path = dir.path().join("test_batch.bin");
    let error = DataSet::cifar10(&path).unwrap_err();
    assert!(matches!(error, Error::NotADirectory { .. }), "got {error:?}");
    let expected =
        format!("{} is not a directory; give the one that holds CIFAR-10", path.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn truncated_file_is_refused() {
    let dir = written(&SMALL10);
    let path = dir.path().join("data_batch_2.bin");
    fs::write(&path, vec![0; 6145]).unwrap();
    let error = SMALL10.load(dir.path()).unwrap_err();
    assert!(matches!(error, Error::FileSize { .. }), "got {error:?}");
    let expected = format!(
        "{} has 6145 bytes, but 6146 in the binary version of CIFAR-10; unpack or fetch it again",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn official_files_of_cifar10_have_30730000_bytes() {
    let dir = tempdir().unwrap();
    for file in CifarFormat::CIFAR10.train.iter().chain([&CifarFormat::CIFAR10.test]) {
        fs::write(dir.path().join(file.name), [0]).unwrap();
    }
    let error = DataSet::cifar10(dir.path()).unwrap_err();
    assert!(
        matches!(error, Error::FileSize { got: 1, expected: 30_730_000, .. }),
        "got {error:?}, expected 30730000 as the publisher's page says"
    );
}

#[test]
fn label_byte_beyond_the_classes_is_refused() {
    let dir = written(&SMALL10);
    let path = dir.path().join("data_batch_2.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3073] = 10;
    fs::write(&path, bytes).unwrap();
    let error = SMALL10.load(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Label { .. }), "got {error:?}");
    let path = path.display();
    let expected = format!("image 1 of {path} has label 10, but the classes are 0 to 9");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn error_becomes_a_candle_error_with_its_whole_text() {
    let error = DataSet::cifar10("no-such-place".as_ref()).unwrap_err();
    let text = error.to_string();
    let error = candle_core::Error::from(error).to_string();
    assert!(error.starts_with(&text), "got {error:?}, expected {text:?} first");
}
