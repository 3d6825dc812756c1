use aca_core::kernels::{self, Scale};
use candle_core::{DType, Device, Tensor};

use super::{DTYPES, Twin, UNIFORM, gpu, on_cpu, on_gpu, rounding, twins, weights};
use crate::common::{state, values};
use crate::kernels::{SIZES, noise};

#[test]
fn norms_on_a_gpu_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        let sums = rounding(if dtype == DType::F64 { dtype } else { DType::F32 });
        for size in SIZES {
            let [y0, y1] = [1, 2].map(|seed| Twin::noise(&[1, size], seed, dtype, &gpu));
            let positive = |seed| {
                Twin::noise(&[1, size], seed, dtype, &gpu).map(|x| x.abs()?.affine(0.5, 0.5))
            };
            let (rtol, atol) = (positive(4), positive(5));
            // Tolerances as the GPU rounded them.
            let rounded = |x: &Twin| x.gpu.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64);
            let here = Scale::Each { rtol: rounded(&rtol).unwrap(), atol: rounded(&atol).unwrap() };
            let there = Scale::Each { rtol: rtol.gpu, atol: atol.gpu };
            for count in [1, 6, 17] {
                let k = twins(count, &[1, size], dtype, &gpu);
                let lists = [weights(count), [vec![0.0; count - 1], vec![2.0]].concat()];
                for (here, there) in [(&UNIFORM, &UNIFORM), (&here, &there)] {
                    let norms = |k: &[&Tensor], lists: &[Vec<f64>]| {
                        kernels::scaled_norms(&y0.cpu, &y1.cpu, here, k, lists).unwrap()
                    };
                    let expected = norms(&on_cpu(&k), &lists);
                    let magnitudes: Vec<Tensor> = k.iter().map(|k| k.cpu.abs().unwrap()).collect();
                    let absolute = lists.each_ref().map(|e| e.iter().map(|e| e.abs()).collect());
                    // What the terms would add up to without cancelling.
                    let whole = norms(&magnitudes.iter().collect::<Vec<_>>(), &absolute);
                    let found = kernels::scaled_norms(&y0.gpu, &y1.gpu, there, &on_gpu(&k), &lists);
                    for (i, found) in found.unwrap().into_iter().enumerate() {
                        // Beyond sixteen slopes their sum is rounded to the type.
                        let eps = if count > 16 { rounding(dtype) } else { sums };
                        let (off, bound) = ((found - expected[i]).abs(), 64.0 * eps * whole[i]);
                        let what = format!("{count} of {size} {dtype:?}");
                        assert!(
                            off <= bound,
                            "{what}: {found}, not {} within {bound}",
                            expected[i]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn norms_and_inner_products_on_a_gpu_read_states_that_start_between_packs() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        let parts: Vec<Twin> =
            twins(3, &[35], dtype, &gpu).iter().map(|x| x.map(|x| x.narrow(0, 3, 32))).collect();
        let results = [on_cpu(&parts), on_gpu(&parts)].map(|x| {
            let norms = kernels::scaled_norms(x[0], x[1], &UNIFORM, &x[2..], &[vec![2.0]]);
            [norms.unwrap()[0], kernels::dot(x[0], x[1]).unwrap()]
        });
        let eps = rounding(if dtype == DType::F64 { dtype } else { DType::F32 });
        for (expected, found) in results[0].into_iter().zip(results[1]) {
            // Ratios are at most 8, products at most 1.
            let (off, bound) = ((found - expected).abs(), 256.0 * eps);
            assert!(off <= bound, "{dtype:?}: {found}, not {expected} within {bound}");
        }
    }
}

#[test]
fn norm_on_a_gpu_is_nan_when_the_new_state_is_not_finite() {
    let Some(gpu) = gpu() else { return };
    for bad in [f64::NAN, f64::INFINITY] {
        for size in [1, 7, 2049, 200_000] {
            let mut entries = values(&noise(size, 1, DType::F64));
            entries[size - 1] = bad;
            let (y0, y1) = (noise(size, 2, DType::F64).to_device(&gpu).unwrap(), state(&entries));
            let y1 = y1.to_device(&gpu).unwrap();
            let found = kernels::scaled_norms(&y0, &y1, &UNIFORM, &[&y0], &[vec![1.0]]).unwrap();
            assert!(found[0].is_nan(), "{bad} in the last of {size} entries gives {}", found[0]);
            assert_eq!(kernels::first_non_finite(&y1).unwrap(), Some(size - 1));
            assert_eq!(kernels::first_non_finite(&y0).unwrap(), None);
        }
    }
}

#[test]
fn inner_products_on_a_gpu_add_up_in_double_precision() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for shape in [[1, 1], [3, 7], [2, 2048], [1, 200_000]] {
            let [a, b] = [1, 2].map(|seed| Twin::noise(&shape, seed, dtype, &gpu));
            let expected = kernels::dots(shape[0], &a.cpu, &b.cpu).unwrap();
            let found = kernels::dots(shape[0], &a.gpu, &b.gpu).unwrap();
            let bound = shape[1] as f64 * f64::EPSILON * 16.0;
            for (found, expected) in found.iter().zip(&expected) {
                let off = (found - expected).abs();
                assert!(off <= bound, "{shape:?} {dtype:?}: off by {off}, bound {bound}");
            }
        }
    }
}
