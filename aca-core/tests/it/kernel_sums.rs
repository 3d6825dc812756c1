use aca_core::kernels::{self, Scale};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use crate::common::{state, values};
use crate::kernels::{SIZES, assert_close, noise, noises, rounding};

const UNIFORM: Scale = Scale::Uniform { rtol: 0.1, atol: 0.01 };

/// `[rows, size]` by candle, row by row.
fn candle_rows(base: &Tensor, weights: &[f64], xs: &[&Tensor]) -> Vec<f64> {
    let row = |weights: &[f64]| {
        let mut row = base.to_dtype(DType::F64).unwrap();
        for (w, x) in weights.iter().zip(xs) {
            row = (row + (x.to_dtype(DType::F64).unwrap() * *w).unwrap()).unwrap();
        }
        values(&row)
    };
    weights.chunks(xs.len()).flat_map(row).collect()
}

/// Root mean square of `sum(e_i k_i) / (atol + rtol max(|y0|, |y1|))`, by a plain loop in f64.
fn plain_norm(
    y0: &Tensor,
    y1: &Tensor,
    tolerances: impl Fn(usize) -> (f64, f64),
    k: &[&Tensor],
    e: &[f64],
) -> f64 {
    let (y0, y1) = (values(y0), values(y1));
    let k: Vec<Vec<f64>> = k.iter().map(|k| values(k)).collect();
    let square = |i: usize| {
        let (rtol, atol) = tolerances(i);
        let error: f64 = e.iter().zip(&k).map(|(e, k)| e * k[i]).sum();
        (error / (atol + rtol * y0[i].abs().max(y1[i].abs()))).powi(2)
    };
    ((0..y0.len()).map(square).sum::<f64>() / y0.len() as f64).sqrt()
}

fn assert_relative(found: f64, expected: f64, bound: f64, what: &str) {
    let off = (found - expected).abs() / expected.abs();
    assert!(off <= bound, "{what}: {found}, expected {expected} within a part in {bound}");
}

#[test]
fn rows_are_sums_of_their_own_weights() {
    for dtype in [DType::F32, DType::F64] {
        for (size, rows) in SIZES.into_iter().zip([5, 1000, 3, 2, 200, 2]) {
            let (base, xs) = (noise(size, 1, dtype), noises(7, size, dtype));
            let xs: Vec<&Tensor> = xs.iter().collect();
            let weights = values(&noise(7 * rows, 99, DType::F64));
            let found = kernels::combine_rows(&base, &weights, &xs).unwrap();
            assert_eq!((found.dims(), found.dtype()), (&[rows, size][..], dtype));
            let what = format!("{rows} rows of {size} entries {dtype:?}");
            assert_close(&found, &candle_rows(&base, &weights, &xs), 16.0 * rounding(dtype), &what);
        }
    }
}

#[test]
fn rows_of_a_state_without_dimensions_are_numbers() {
    let (base, x) = (state(&[2.0]).squeeze(0).unwrap(), state(&[3.0]).squeeze(0).unwrap());
    let found = kernels::combine_rows(&base, &[0.0, 0.5, 1.0], &[&x]).unwrap();
    assert_eq!((found.dims(), values(&found)), (&[3][..], vec![2.0, 3.5, 5.0]));
}

#[test]
fn rows_of_a_transposed_state_keep_its_order() {
    let base = noise(6, 2, DType::F64).reshape((2, 3)).unwrap().t().unwrap();
    let x = noise(6, 3, DType::F64).reshape((2, 3)).unwrap().t().unwrap();
    let found = kernels::combine_rows(&base, &[1.0, -1.0], &[&x]).unwrap();
    let expected = [values(&(&base + &x).unwrap()), values(&(&base - &x).unwrap())].concat();
    assert_eq!((found.dims(), values(&found)), (&[2, 3, 2][..], expected));
}

#[test]
fn weighted_rows_join_the_sum() {
    for dtype in [DType::F32, DType::F64] {
        for (size, count) in SIZES.into_iter().zip([5, 1000, 3, 2, 4, 2]) {
            let (base, x) = (noise(size, 1, dtype), noise(size, 2, dtype));
            let rows = noise(size * count, 5, dtype).reshape((count, size)).unwrap();
            let weights = values(&noise(count, 6, DType::F64));
            let found =
                kernels::combine_with_rows(Some(&base), &[(0.5, &x)], Some((&weights, &rows)));
            let column = state(&weights).reshape((count, 1)).unwrap();
            let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
            let candle = wide(&rows).broadcast_mul(&column).unwrap().sum(0).unwrap();
            let candle = ((candle + wide(&base)).unwrap() + (wide(&x) * 0.5).unwrap()).unwrap();
            let bound = 2.0 * (count + 2) as f64 * rounding(dtype);
            let what = format!("{count} rows of {size} entries {dtype:?}");
            assert_close(&found.unwrap(), &values(&candle), bound, &what);
        }
    }
}

#[test]
fn sum_of_rows_alone_has_the_states_shape() {
    let sum = |weights: &[f64], rows: &Tensor| {
        kernels::combine_with_rows(None, &[], Some((weights, rows))).unwrap()
    };
    let rows = noise(24, 5, DType::F64).reshape((4, 2, 3)).unwrap();
    assert_eq!(sum(&[1.0; 4], &rows).dims(), [2, 3]);
    let numbers = sum(&[1.0, 0.5, 0.25], &state(&[1.0, 2.0, 4.0]));
    assert_eq!((numbers.dims(), values(&numbers)), (&[][..], vec![3.0]));
}

#[test]
fn transposed_rows_are_read_as_rows() {
    let rows = noise(24, 8, DType::F64).reshape((3, 8)).unwrap().t().unwrap();
    let found = kernels::combine_with_rows(None, &[], Some((&[1.0; 8], &rows))).unwrap();
    assert_close(&found, &values(&rows.sum(0).unwrap()), 1e-14, "transposed rows");
}

#[test]
fn norms_are_root_mean_squares_of_scaled_errors() {
    for dtype in [DType::F32, DType::F64] {
        for size in SIZES {
            let (y0, y1, k) =
                (noise(size, 1, dtype), noise(size, 2, dtype), noises(6, size, dtype));
            let k: Vec<&Tensor> = k.iter().collect();
            let weights =
                [vec![0.3, -0.2, 0.0, 0.5, 0.1, -0.7], vec![0.0, 0.0, 0.0, 0.0, 0.0, 2.0]];
            let found = kernels::scaled_norms(&y0, &y1, &UNIFORM, &k, &weights).unwrap();
            for (found, e) in found.into_iter().zip(&weights) {
                let expected = plain_norm(&y0, &y1, |_| (0.1, 0.01), &k, e);
                let what = format!("{size} entries {dtype:?}");
                assert_relative(found, expected, 64.0 * rounding(dtype), &what);
            }
        }
    }
}

#[test]
fn norms_weigh_every_entry_by_its_own_tolerance() {
    for size in SIZES {
        let (y0, y1, k) =
            (noise(size, 1, DType::F64), noise(size, 2, DType::F64), noise(size, 3, DType::F64));
        let positive =
            |seed| noise(size, seed, DType::F64).abs().unwrap().affine(1.0, 0.01).unwrap();
        let (rtol, atol) = (positive(4), positive(5));
        let (r, a) = (values(&rtol), values(&atol));
        let expected = plain_norm(&y0, &y1, |i| (r[i], a[i]), &[&k], &[1.0]);
        let found =
            kernels::scaled_norms(&y0, &y1, &Scale::Each { rtol, atol }, &[&k], &[vec![1.0]]);
        assert_relative(found.unwrap()[0], expected, 1e-13, &format!("{size} entries"));
    }
}

#[test]
fn norm_is_nan_when_the_new_state_is_not_finite() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for size in [1, 7, 2049, 200_000] {
            let (y0, k) = (noise(size, 1, DType::F64), noise(size, 2, DType::F64));
            let mut entries = values(&y0);
            entries[size - 1] = bad;
            let y1 = state(&entries);
            let each = Scale::Each { rtol: y0.ones_like().unwrap(), atol: y0.ones_like().unwrap() };
            for scale in [UNIFORM, each] {
                let found = kernels::scaled_norms(&y0, &y1, &scale, &[&k], &[vec![1.0]]).unwrap();
                assert!(
                    found[0].is_nan(),
                    "{bad} in the last of {size} entries gives {}",
                    found[0]
                );
            }
        }
    }
}

#[test]
fn norm_is_nan_when_a_slope_is() {
    let (y, k) = (state(&[1.0, 2.0]), state(&[0.0, f64::NAN]));
    assert!(kernels::scaled_norms(&y, &y, &UNIFORM, &[&k], &[vec![0.5]]).unwrap()[0].is_nan());
}

#[test]
fn norm_of_a_slope_without_weight_does_not_matter() {
    let (y, good, bad) = (state(&[1.0]), state(&[0.11]), state(&[f64::NAN]));
    let found = kernels::scaled_norms(&y, &y, &UNIFORM, &[&good, &bad], &[vec![1.0, 0.0]]).unwrap();
    assert_relative(found[0], 1.0, 1e-15, "0.11 / (0.01 + 0.1)");
}

#[test]
fn inner_products_add_up_in_double_precision() {
    for dtype in [DType::F32, DType::F64] {
        for size in SIZES {
            let (a, b) = (noise(size, 1, dtype), noise(size, 2, dtype));
            let terms = values(&a).into_iter().zip(values(&b)).map(|(a, b)| a * b);
            let (expected, magnitude) = terms.fold((0.0, 0.0), |(s, m), x| (s + x, m + x.abs()));
            let off = (kernels::dot(&a, &b).unwrap() - expected).abs();
            let bound = size as f64 * f64::EPSILON * magnitude;
            assert!(off <= bound, "{size} entries {dtype:?}: off by {off}, bound {bound}");
        }
    }
}

#[test]
fn inner_product_pairs_entries_by_position_not_by_storage() {
    let a = Tensor::new(&[[1.0, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    assert_eq!(kernels::dot(&a, &a.t().unwrap()).unwrap(), 1.0 + 6.0 + 6.0 + 16.0);
}

proptest! {
    #[test]
    fn norm_is_that_of_candles_own_operations(size in 1..5000usize, seed in any::<u64>()) {
        let tensor = |i: u64| noise(size, seed.wrapping_add(i), DType::F64);
        let (y0, y1, k0, k1) = (tensor(0), tensor(1), tensor(2), tensor(3));
        let weights = [vec![1.0, -0.5]];
        let found = kernels::scaled_norms(&y0, &y1, &UNIFORM, &[&k0, &k1], &weights).unwrap()[0];
        let magnitude = y0.abs().unwrap().maximum(&y1.abs().unwrap()).unwrap();
        let scale = magnitude.affine(0.1, 0.01).unwrap();
        let error = ((k0 - (k1 * 0.5).unwrap()).unwrap() / scale).unwrap();
        let mean = error.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap();
        let off = (found - mean.sqrt()).abs();
        prop_assert!(off <= 1e-12 * mean.sqrt(), "{found}, candle has {}", mean.sqrt());
    }
}
