use aca_core::Solver;
use aca_core::kernels::{self, Scale};
use aca_tableau::DOPRI5;
use candle_core::{DType, Tensor};

use crate::common::{decay, values};
use crate::kernels::{SIZES, noise, noises};

/// What `work` returns on one thread and on four.
fn on_one_and_on_four<T: Send>(work: impl Fn() -> T + Sync) -> [T; 2] {
    [1, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&work)
    })
}

/// The same for tensors, as bits.
fn bits_on_one_and_on_four(work: impl Fn() -> Vec<f64> + Sync) -> [Vec<u64>; 2] {
    on_one_and_on_four(|| work().into_iter().map(f64::to_bits).collect())
}

#[test]
fn sums_have_the_same_bits_on_any_number_of_threads() {
    for (dtype, size) in [DType::F32, DType::F64].into_iter().flat_map(|d| SIZES.map(|s| (d, s))) {
        let (base, xs) = (noise(size, 1, dtype), noises(5, size, dtype));
        let terms: Vec<_> = xs.iter().map(|x| (0.37, x)).collect();
        let [one, four] =
            bits_on_one_and_on_four(|| values(&kernels::combine(Some(&base), &terms).unwrap()));
        assert!(one == four, "combine over {size} entries {dtype:?}");
    }
}

#[test]
fn rows_have_the_same_bits_on_any_number_of_threads() {
    // Many short rows run row by row on the threads, few long ones block by block.
    for (size, count) in [(7, 40_000), (200_000, 2)] {
        let (base, xs) = (noise(size, 1, DType::F64), noises(3, size, DType::F64));
        let xs: Vec<&Tensor> = xs.iter().collect();
        let weights = values(&noise(3 * count, 9, DType::F64));
        let [one, four] = bits_on_one_and_on_four(|| {
            values(&kernels::combine_rows(&base, &weights, &xs).unwrap())
        });
        assert!(one == four, "{count} rows of {size} entries");
        let rows = noise(size * count, 3, DType::F64).reshape((count, size)).unwrap();
        let weights = values(&noise(count, 4, DType::F64));
        let [one, four] = bits_on_one_and_on_four(|| {
            values(&kernels::combine_with_rows(None, &[], Some((&weights, &rows))).unwrap())
        });
        assert!(one == four, "sum of {count} rows of {size} entries");
    }
}

#[test]
fn norms_and_inner_products_have_the_same_bits_on_any_number_of_threads() {
    for (dtype, size) in [DType::F32, DType::F64].into_iter().flat_map(|d| SIZES.map(|s| (d, s))) {
        let (y0, y1, k) = (noise(size, 1, dtype), noise(size, 2, dtype), noise(size, 3, dtype));
        let scale = Scale::Uniform { rtol: 0.1, atol: 0.01 };
        let [one, four] = bits_on_one_and_on_four(|| {
            let norm = kernels::scaled_norms(&y0, &y1, &scale, &[&k], &[vec![0.7]]).unwrap();
            vec![norm[0], kernels::dot(&y0, &y1).unwrap()]
        });
        assert_eq!(one, four, "{size} entries {dtype:?}");
    }
}

#[test]
fn solve_has_the_same_bits_on_any_number_of_threads() {
    let y0 = noise(150_000, 1, DType::F32);
    let tolerance = aca_core::Tolerance { rtol: 1e-3, atol: 1e-3 };
    let [one, four] = on_one_and_on_four(|| {
        let end = Solver::adaptive(DOPRI5, tolerance).solve(&decay, &y0, (0.0, 1.0), &mut ());
        let end = end.unwrap();
        (values(&end.y1), end.stats)
    });
    assert!(one == four, "{:?} and {:?}", one.1, four.1);
}
