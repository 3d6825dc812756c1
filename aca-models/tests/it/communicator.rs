//! Ranks sum in a fixed order, agree on failures, and learn what one process learns.

use aca_models::communicator::{
    Alone, Communicator, Fingerprint, RanksError, gather, gather_texts, same, together,
};
use aca_models::{Error, Result};
use candle_core::{Device, Tensor};

use threads::ranks;

#[cfg(feature = "mpi")]
mod mpi;
mod synchronised;
mod threads;
mod trainer;

fn tensor(numbers: &[f64]) -> Tensor {
    Tensor::new(numbers, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn one_process_keeps_its_tensors() {
    let mut tensors = [tensor(&[1.0, 2.0])];
    Alone.all_reduce(&mut tensors).unwrap();
    Alone.broadcast(&mut tensors, 0).unwrap();
    Alone.barrier().unwrap();
    assert_eq!(numbers(&tensors[0]), [1.0, 2.0]);
    assert_eq!((Alone.rank(), Alone.size()), (0, 1));
}

#[test]
fn a_rank_that_does_not_exist_is_refused() {
    let error = Alone.broadcast(&mut [], 1).unwrap_err().to_string();
    assert_eq!(error, "there is no rank 1 among 1; ranks count from 0");
}

#[test]
fn every_rank_hears_the_numbers_of_all() {
    for rows in ranks(3, |c| gather(&*c, &[c.rank() as f64, -1.5]).unwrap()) {
        assert_eq!(rows, [[0.0, -1.5], [1.0, -1.5], [2.0, -1.5]]);
    }
}

#[test]
fn every_rank_hears_the_texts_of_all_and_the_silence_of_some() {
    let texts = ["h = 0.1 \u{b5}s", "", "never said"];
    for heard in ranks(3, |c| gather_texts(&*c, texts[..2].get(c.rank()).copied()).unwrap()) {
        assert_eq!(heard, [Some(texts[0].to_owned()), Some(String::new()), None]);
    }
    assert_eq!(gather_texts(&Alone, None).unwrap(), [None]);
}

#[test]
fn a_failure_of_one_rank_is_the_same_error_on_all() {
    let outcomes = ranks(3, |c| {
        let own = if c.rank() == 1 { Err(Error::EmptyBatch) } else { Ok(c.rank()) };
        together(&*c, own).unwrap_err().to_string()
    });
    for text in outcomes {
        assert_eq!(text, "rank 1: batches of 0 images are not possible; give at least 1");
    }
}

#[test]
fn success_of_all_ranks_is_left_alone() {
    let outcomes = ranks(2, |c| together(&*c, Ok::<_, Error>(c.rank())).unwrap());
    assert_eq!(outcomes, [0, 1]);
}

#[test]
fn a_failure_alone_keeps_its_type() {
    let error = together::<(), _>(&Alone, Err(Error::EmptyBatch)).unwrap_err();
    assert!(matches!(error, Error::EmptyBatch), "{error}");
}

#[test]
fn the_rank_that_differs_is_named() {
    let check = |c: &dyn Communicator| -> Result<()> {
        let bytes = if c.rank() == 2 { b"h = 0.1" } else { b"h = 0.2" };
        same(c, "settings", Fingerprint::of(bytes))
    };
    for outcome in ranks(3, |c| check(&*c)) {
        let error = outcome.unwrap_err();
        let Error::Ranks(RanksError::Differs { rank: 2, what }) = &error else { panic!("{error}") };
        assert_eq!(what, "settings");
    }
}

#[test]
fn a_fingerprint_sees_one_bit_a_zero_and_a_change_of_places() {
    let of = |numbers: &[f64]| {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add_tensor(&tensor(numbers)).unwrap();
        fingerprint
    };
    let base = of(&[1.0, 2.0, 0.0]);
    assert_eq!(base, of(&[1.0, 2.0, 0.0]));
    for other in
        [&[1.0, 2.0, -0.0][..], &[1.0 + f64::EPSILON, 2.0, 0.0], &[2.0, 1.0, 0.0], &[1.0, 2.0]]
    {
        assert_ne!(base, of(other), "{other:?}");
    }
}
