use aca_core::kernels::{self, RowTerm};
use candle_core::{DType, Tensor};

use super::{DTYPES, Twin, UNIFORM, assert_sum, gpu, on_cpu, on_gpu, twins, weighted, weights};
use crate::common::values;

#[test]
fn rows_on_a_gpu_are_sums_of_their_own_weights() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        let cases = [([1, 1, 1], 5), ([2, 3, 3], 1000), ([1, 64, 64], 3), ([3, 11, 61], 20)];
        for (shape, rows) in cases {
            for count in [7, 16, 18] {
                let base = Twin::noise(&shape, 1, dtype, &gpu);
                let (xs, w) = (twins(count, &shape, dtype, &gpu), weights(rows * count));
                let expected = kernels::combine_rows(&base.cpu, &w, &on_cpu(&xs)).unwrap();
                let found = kernels::combine_rows(&base.gpu, &w, &on_gpu(&xs)).unwrap();
                assert_sum(&found, &expected, count, &format!("{rows} rows of {shape:?}"));
            }
            let (rows_of, w) = (Twin::noise(&[rows, 4, 3], 7, dtype, &gpu), weights(rows));
            let expected = kernels::combine_with_rows(None, &[], Some((&w, &rows_of.cpu))).unwrap();
            let found = kernels::combine_with_rows(None, &[], Some((&w, &rows_of.gpu))).unwrap();
            assert_sum(&found, &expected, rows, "weighted rows");
        }
    }
}

#[test]
fn rows_with_factors_of_their_own_agree_on_a_gpu() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for shape in [[5, 1], [3, 7], [4, 64], [2, 3000]] {
            for count in [3, 17] {
                let base = Twin::noise(&shape, 1, dtype, &gpu);
                let (xs, w, h) =
                    (twins(count, &shape, dtype, &gpu), weights(count), weights(shape[0]));
                let expected =
                    kernels::combine_each(Some(&base.cpu), &h, &weighted(&w, &on_cpu(&xs)))
                        .unwrap();
                let found = kernels::combine_each(Some(&base.gpu), &h, &weighted(&w, &on_gpu(&xs)))
                    .unwrap();
                assert_sum(&found, &expected, count, &format!("each of {shape:?}"));
                let (rows, w) = ([1, 0, 1, 1], weights(4 * count));
                let expected = kernels::combine_picked(&base.cpu, &rows, &w, &on_cpu(&xs)).unwrap();
                let found = kernels::combine_picked(&base.gpu, &rows, &w, &on_gpu(&xs)).unwrap();
                assert_sum(&found, &expected, count, &format!("picked of {shape:?}"));
            }
        }
    }
}

#[test]
fn row_of_a_batch_on_a_gpu_has_the_bits_of_the_state_alone() {
    let Some(gpu) = gpu() else { return };
    for length in [6, 64, 5001] {
        let shape = [3, length];
        let (base, xs) =
            (Twin::noise(&shape, 1, DType::F32, &gpu), twins(5, &shape, DType::F32, &gpu));
        let (w, h) = (weights(5), [0.1, 0.01, 0.3]);
        let all = kernels::combine_each(Some(&base.gpu), &h, &weighted(&w, &on_gpu(&xs))).unwrap();
        let norms = |y: &Tensor, xs: &[&Tensor]| {
            kernels::scaled_norms_each(y, y, &UNIFORM, xs, std::slice::from_ref(&w)).unwrap()
        };
        let together = norms(&base.gpu, &on_gpu(&xs));
        for row in 0..3 {
            let one = |x: &Tensor| x.narrow(0, row, 1).unwrap();
            let own: Vec<Tensor> = xs.iter().map(|x| one(&x.gpu)).collect();
            let own: Vec<&Tensor> = own.iter().collect();
            let scaled: Vec<f64> = w.iter().map(|w| h[row] * w).collect();
            let alone = kernels::combine(Some(&one(&base.gpu)), &weighted(&scaled, &own)).unwrap();
            assert_eq!(values(&one(&all)), values(&alone), "row {row} of length {length}");
            let norm = norms(&one(&base.gpu), &own)[0][0];
            assert_eq!(together[row][0], norm, "norm of row {row} of length {length}");
        }
    }
}

#[test]
fn rows_on_a_gpu_move_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::F64] {
        let [a, b] = [1, 2].map(|seed| Twin::noise(&[4, 3], seed, dtype, &gpu));
        let gathered = |a: &Tensor, b: &Tensor| {
            kernels::gather_rows(&[(a, 1), (a, 2), (b, 3), (b, 0), (a, 0)]).unwrap()
        };
        assert_eq!(values(&gathered(&a.gpu, &b.gpu)), values(&gathered(&a.cpu, &b.cpu)));
        let chosen = |a: &Tensor, b: &Tensor| {
            kernels::choose_rows(&[true, false, false, true], a, b).unwrap()
        };
        assert_eq!(values(&chosen(&a.gpu, &b.gpu)), values(&chosen(&a.cpu, &b.cpu)));
        let terms = [(0, 0.5, 3), (2, -1.5, 1), (0, 2.0, 1)];
        let terms = terms.map(|(row, weight, source)| RowTerm { row, weight, source });
        let expected = kernels::add_rows(&a.cpu, &terms, &b.cpu).unwrap();
        assert_sum(&kernels::add_rows(&a.gpu, &terms, &b.gpu).unwrap(), &expected, 3, "added rows");
    }
}
