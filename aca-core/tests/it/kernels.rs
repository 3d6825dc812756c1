use aca_core::Error;
use aca_core::kernels::{self, Scale};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use crate::common::{state, values};

/// Sizes around the blocks of 2048 entries that the kernels work in, and one beyond the size above
/// which they run on several threads.
pub const SIZES: [usize; 6] = [1, 7, 2047, 2048, 2049, 200_000];

/// A tensor of entries between -1 and 1, which repeats for the same seed.
pub fn noise(size: usize, seed: u64, dtype: DType) -> Tensor {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        // xorshift64, Marsaglia 2003
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let entries: Vec<f64> = (0..size).map(|_| next()).collect();
    Tensor::from_vec(entries, size, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Several of them.
pub fn noises(count: usize, size: usize, dtype: DType) -> Vec<Tensor> {
    (0..count).map(|i| noise(size, 17 + i as u64, dtype)).collect()
}

/// `base + sum(w_i x_i)` entry by entry in f64.
fn plain_sum(base: Option<&Tensor>, terms: &[(f64, &Tensor)], size: usize) -> Vec<f64> {
    let mut sum = base.map_or(vec![0.0; size], values);
    for (w, x) in terms {
        sum.iter_mut().zip(values(x)).for_each(|(sum, x)| *sum += w * x);
    }
    sum
}

pub fn rounding(dtype: DType) -> f64 {
    if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON }
}

pub fn assert_close(found: &Tensor, expected: &[f64], bound: f64, what: &str) {
    let found = values(found);
    assert_eq!(found.len(), expected.len(), "{what}");
    let entries = found.iter().zip(expected).enumerate();
    for (i, (found, expected)) in entries {
        let off = (found - expected).abs();
        assert!(off <= bound, "{what}, entry {i}: {found}, expected {expected} within {bound}");
    }
}

#[test]
fn combine_adds_any_number_of_terms() {
    for dtype in [DType::F32, DType::F64] {
        for (size, count) in SIZES.into_iter().zip([1, 3, 4, 5, 8, 13]) {
            let (base, xs) = (noise(size, 1, dtype), noises(count, size, dtype));
            let terms: Vec<_> =
                xs.iter().enumerate().map(|(i, x)| (0.3 - 0.1 * i as f64, x)).collect();
            // Terms are at most 1 each; every addition and product rounds once, in any order.
            let bound = 2.0 * (count + 1) as f64 * rounding(dtype);
            let what = format!("{count} terms of {size} entries {dtype:?}");
            let found = kernels::combine(Some(&base), &terms).unwrap();
            assert_close(&found, &plain_sum(Some(&base), &terms, size), bound, &what);
            let found = kernels::combine(None, &terms).unwrap();
            assert_close(&found, &plain_sum(None, &terms, size), bound, &what);
        }
    }
}

#[test]
fn combine_keeps_shape_and_dtype() {
    for dtype in [DType::F32, DType::F64] {
        let x = noise(24, 3, dtype).reshape((2, 3, 4)).unwrap();
        let found = kernels::combine(Some(&x), &[(1.0, &x)]).unwrap();
        assert_eq!((found.dims(), found.dtype()), (&[2, 3, 4][..], dtype));
    }
}

#[test]
fn combine_without_terms_copies_the_base() {
    let base = state(&[1.0, 2.0]);
    assert_eq!(values(&kernels::combine(Some(&base), &[]).unwrap()), [1.0, 2.0]);
}

#[test]
fn combine_of_nothing_is_an_error() {
    let error = kernels::combine(None, &[]).unwrap_err().to_string();
    assert!(error.starts_with("combine needs a tensor"), "{error}");
}

#[test]
fn combine_reads_transposed_narrowed_and_broadcast_tensors_in_their_own_order() {
    let x = noise(60, 5, DType::F64).reshape((5, 12)).unwrap();
    let transposed = x.t().unwrap().narrow(0, 2, 4).unwrap();
    let narrowed = x.narrow(0, 1, 4).unwrap().narrow(1, 3, 5).unwrap();
    let broadcast = noise(5, 6, DType::F64).broadcast_as((4, 5)).unwrap();
    for tensor in [&transposed, &narrowed, &broadcast] {
        assert!(!tensor.is_contiguous(), "{tensor:?} tests nothing");
    }
    let terms = [(0.5, &transposed), (-2.0, &narrowed), (1.5, &broadcast)];
    let candle = (((&transposed * 0.5).unwrap() - (&narrowed * 2.0).unwrap()).unwrap()
        + (&broadcast * 1.5).unwrap())
    .unwrap();
    assert_close(&kernels::combine(None, &terms).unwrap(), &values(&candle), 1e-15, "sum");
    let with_base = kernels::combine(Some(&transposed), &terms).unwrap();
    assert_close(&with_base, &values(&(candle + &transposed).unwrap()), 1e-15, "sum with base");
}

#[test]
fn combine_reads_a_slice_at_its_offset() {
    let x = noise(100, 7, DType::F32);
    let slice = x.narrow(0, 40, 20).unwrap();
    assert!(slice.is_contiguous(), "a contiguous slice is the case meant here");
    let found = kernels::combine(None, &[(1.0, &slice)]).unwrap();
    assert_eq!(values(&found), values(&x)[40..60]);
}

#[test]
fn half_precision_is_refused() {
    let half = Tensor::zeros(3, DType::F16, &Device::Cpu).unwrap();
    let refused = |result: Result<_, Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::UnsupportedDType { dtype: DType::F16 }), "{error:?}");
    };
    let scale = Scale::Uniform { rtol: 1.0, atol: 1.0 };
    refused(kernels::combine(Some(&half), &[]).map(drop));
    refused(kernels::combine_rows(&half, &[1.0], &[&half]).map(drop));
    refused(kernels::combine_with_rows(None, &[], Some((&[1.0; 3], &half))).map(drop));
    refused(kernels::scaled_norms(&half, &half, &scale, &[&half], &[vec![1.0]]).map(drop));
    refused(kernels::dot(&half, &half).map(drop));
    refused(kernels::first_non_finite(&half).map(drop));
}

#[test]
fn first_entry_that_is_not_finite_is_found() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for at in [0, 5, 2048, 4999] {
            let mut entries = vec![0.5; 5000];
            (entries[at], entries[4999]) = (bad, bad);
            for dtype in [DType::F32, DType::F64] {
                let x = state(&entries).to_dtype(dtype).unwrap();
                assert_eq!(kernels::first_non_finite(&x).unwrap(), Some(at), "{bad} at {at}");
            }
        }
    }
}

#[test]
fn finite_tensor_has_no_such_entry() {
    let x = state(&[f64::MAX, f64::MIN_POSITIVE, -0.0]);
    assert_eq!(kernels::first_non_finite(&x).unwrap(), None);
}

#[test]
fn index_of_an_entry_is_row_major_whatever_the_layout() {
    let x = Tensor::new(&[[1.0, 2.0], [f64::NAN, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap();
    assert_eq!(kernels::first_non_finite(&x).unwrap(), Some(2));
    assert_eq!(kernels::first_non_finite(&x.t().unwrap()).unwrap(), Some(1));
}

proptest! {
    #[test]
    fn combine_is_the_sum_over_any_shape(
        shape in prop::collection::vec(1..8usize, 0..4),
        weights in prop::collection::vec(-2.0..2.0, 0..17),
        seed in any::<u64>(),
    ) {
        let size = shape.iter().product();
        let tensor = |i: u64| {
            let entries = noise(size, seed.wrapping_add(i), DType::F64);
            entries.reshape(shape.as_slice()).unwrap()
        };
        let base = tensor(0);
        let xs: Vec<Tensor> = (0..weights.len()).map(|i| tensor(1 + i as u64)).collect();
        let terms: Vec<_> = weights.iter().copied().zip(&xs).collect();
        let found = kernels::combine(Some(&base), &terms).unwrap();
        prop_assert_eq!(found.dims(), shape.as_slice());
        let bound = 4.0 * (terms.len() + 1) as f64 * f64::EPSILON * (terms.len() + 1) as f64;
        assert_close(&found, &plain_sum(Some(&base), &terms, size), bound, "random shape");
    }
}
