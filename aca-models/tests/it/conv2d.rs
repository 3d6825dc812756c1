//! Convolutions and their gradients against sums by their definition.

use aca_models::layers::Conv2d;
use candle_core::{DType, Tensor, Var};
use candle_nn::Module;
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::activations::{distance, filled};

mod edges;

/// Sizes of a layer and its input.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    inner: usize,
    outer: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
}

impl Case {
    /// A square image under kernels of 3x3 that keep its size.
    fn same(batch: usize, channels: usize, size: usize) -> Self {
        let (inner, outer, size) = (channels, channels, [size; 2]);
        Self { batch, inner, outer, size, kernel: [3, 3], stride: 1, padding: [1, 1] }
    }

    fn x(self) -> [usize; 4] {
        [self.batch, self.inner, self.size[0], self.size[1]]
    }

    fn weight(self) -> [usize; 4] {
        [self.outer, self.inner, self.kernel[0], self.kernel[1]]
    }

    fn result(self) -> [usize; 4] {
        let along = |axis: usize| {
            (self.size[axis] + 2 * self.padding[axis] - self.kernel[axis]) / self.stride + 1
        };
        [self.batch, self.outer, along(0), along(1)]
    }

    fn layer(self, weight: &Tensor, bias: Option<&Tensor>) -> Conv2d {
        let (stride, padding) = (self.stride, self.padding);
        Conv2d { weight: weight.clone(), bias: bias.cloned(), stride, padding }
    }

    /// Calls `each` with the places of every product: in x, in the weight, in the result.
    fn products(self, mut each: impl FnMut(usize, usize, usize)) {
        let [batch, outer, rows, columns] = self.result();
        let ([height, width], [tall, wide]) = (self.size, self.kernel);
        for (b, o, i) in triples(batch, outer, self.inner) {
            for (y, x, tap) in triples(rows, columns, tall * wide) {
                let row = (y * self.stride + tap / wide).wrapping_sub(self.padding[0]);
                let column = (x * self.stride + tap % wide).wrapping_sub(self.padding[1]);
                if row < height && column < width {
                    let at = ((b * self.inner + i) * height + row) * width + column;
                    let result = ((b * outer + o) * rows + y) * columns + x;
                    each(at, (o * self.inner + i) * tall * wide + tap, result);
                }
            }
        }
    }
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A value beside the sum of the magnitudes of its terms.
type Sums = Vec<(f64, f64)>;

/// The value and the cotangents of x, weight and bias by their definitions.
fn reference(case: Case, [x, weight, bias, z]: [&Tensor; 4]) -> [Sums; 4] {
    let [x, weight, bias, z] = [x, weight, bias, z].map(numbers);
    let plane = case.result()[2] * case.result()[3];
    let start = |i: usize| bias[i / plane % case.outer];
    let mut value: Sums = (0..z.len()).map(|i| (start(i), start(i).abs())).collect();
    let mut x_bar = vec![(0.0, 0.0); x.len()];
    let mut weight_bar = vec![(0.0, 0.0); weight.len()];
    let mut bias_bar = vec![(0.0, 0.0); bias.len()];
    let add = |sum: &mut (f64, f64), term: f64| *sum = (sum.0 + term, sum.1 + term.abs());
    case.products(|i, w, o| {
        add(&mut value[o], x[i] * weight[w]);
        add(&mut x_bar[i], z[o] * weight[w]);
        add(&mut weight_bar[w], z[o] * x[i]);
    });
    for (i, z) in z.iter().enumerate() {
        add(&mut bias_bar[i / plane % case.outer], *z);
    }
    [value, x_bar, weight_bar, bias_bar]
}

/// The value and the cotangents of x, weight and bias by the layer.
fn ours(case: Case, [x, weight, bias, z]: [&Tensor; 4]) -> [Tensor; 4] {
    let [x, weight, bias] = [x, weight, bias].map(|x| Var::from_tensor(x).unwrap());
    let value = case.layer(&weight, Some(&bias)).forward(&x).unwrap();
    let grads = (&value * z).unwrap().sum_all().unwrap().backward().unwrap();
    let [x, weight, bias] = [x, weight, bias].map(|x| grads.get(&x).unwrap().clone());
    [value, x, weight, bias]
}

fn inputs(case: Case, dtype: DType) -> [Tensor; 4] {
    let bias = (filled(&[case.outer], dtype) * 0.3).unwrap();
    // Another frequency than that of x, or sums would add up one square after another.
    let weight = (filled(&case.weight(), dtype) * 1.9).unwrap().sin().unwrap();
    [filled(&case.x(), dtype), weight, bias, filled(&case.result(), dtype).cos().unwrap()]
}

/// The largest error of the value and of each gradient, in parts of the largest sum of terms' magnitudes.
fn errors(case: Case, dtype: DType) -> [f64; 4] {
    let inputs = inputs(case, dtype);
    let inputs = inputs.each_ref();
    let (ours, reference) = (ours(case, inputs), reference(case, inputs));
    std::array::from_fn(|i| {
        let pairs = numbers(&ours[i]).into_iter().zip(&reference[i]);
        let size = reference[i].iter().fold(1e-300f64, |size, sum| size.max(sum.1));
        pairs.fold(0.0f64, |worst, (ours, sum)| worst.max((ours - sum.0).abs() / size))
    })
}

const NAMES: [&str; 4] = ["value", "x", "weight", "bias"];

fn assert_exact(case: Case) {
    for (name, error) in NAMES.into_iter().zip(errors(case, DType::F64)) {
        assert!(error <= 1e-13, "{case:?}: {name} is off by {error:e} of its terms, bound 1e-13");
    }
}

prop_compose! {
    fn any_case()(
        (batch, inner, outer) in (1..4usize, 1..10usize, 1..10usize),
        size in [3..14usize, 3..14usize],
        (kernel, padding) in prop_oneof![
            Just(([3, 3], [1, 1])), Just(([3, 3], [0, 2])), Just(([1, 1], [0, 0])),
            Just(([1, 3], [0, 1])), Just(([3, 1], [1, 0])), Just(([2, 3], [3, 0])), Just(([2, 7], [1, 2])),
        ],
        stride in 1..4usize,
    ) -> Case {
        Case { batch, inner, outer, size, kernel, stride, padding }
    }
}

prop_compose! {
    /// Cases large enough for the algorithm of tiles.
    fn tiled_case()(
        (batch, inner, outer) in (2..4usize, 8..20usize, 8..20usize),
        size in [14..20usize, 14..20usize],
        padding in [0..3usize, 0..3usize],
    ) -> Case {
        Case { batch, inner, outer, size, kernel: [3, 3], stride: 1, padding }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn values_and_gradients_are_those_of_the_definition(case in any_case()) {
        assert_exact(case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn values_and_gradients_by_tiles_are_those_of_the_definition(case in tiled_case()) {
        assert_exact(case);
    }
}

#[test]
fn images_narrower_than_a_tile_are_convolved_by_tiles_too() {
    assert_exact(Case { size: [3, 1], padding: [1, 2], ..Case::same(40, 9, 3) });
}

#[test]
fn images_wider_than_a_block_of_tiles_are_convolved_too() {
    assert_exact(Case { size: [5, 150], ..Case::same(1, 8, 5) });
}

#[test]
fn single_precision_errs_by_a_millionth_of_the_terms() {
    for case in [Case::same(2, 64, 12), Case { stride: 2, ..Case::same(2, 64, 12) }] {
        for (name, error) in NAMES.into_iter().zip(errors(case, DType::F32)) {
            assert!(error <= 1e-6, "{case:?}: {name} is off by {error:e} of its terms, bound 1e-6");
        }
    }
}

#[test]
fn gradients_agree_with_those_of_candle() {
    let case = Case { stride: 2, ..Case::same(2, 5, 9) };
    let inputs = inputs(case, DType::F64);
    let ours = ours(case, inputs.each_ref());
    let [x, weight, bias, z] = inputs;
    let [x, weight, bias] = [x, weight, bias].map(|x| Var::from_tensor(&x).unwrap());
    let value = x.conv2d(&weight, 1, 2, 1, 1).unwrap();
    let value = value.broadcast_add(&bias.reshape((1, 5, 1, 1)).unwrap()).unwrap();
    let grads = (&value * z).unwrap().sum_all().unwrap().backward().unwrap();
    let theirs = [x, weight, bias].map(|x| grads.get(&x).unwrap().clone());
    for (i, theirs) in [value].iter().chain(&theirs).enumerate() {
        let off = distance(&ours[i], theirs);
        assert!(off <= 1e-13, "{}: {off:e} off, bound 1e-13", NAMES[i]);
    }
}

#[test]
fn the_trace_is_the_same_function() {
    for case in [Case::same(3, 8, 13), Case { padding: [0, 1], ..Case::same(2, 3, 5) }] {
        let [x, weight, bias, _] = inputs(case, DType::F64);
        let layer = case.layer(&weight, Some(&bias));
        let off = distance(&layer.forward(&x).unwrap(), &layer.trace(&x).unwrap());
        assert!(off <= 1e-13, "{case:?}: {off:e} off, bound 1e-13");
    }
}

#[test]
fn strided_inputs_give_the_bits_of_contiguous_ones() {
    let case = Case::same(3, 8, 13);
    let weight = filled(&case.weight(), DType::F32);
    let layer = case.layer(&weight.transpose(2, 3).unwrap(), None);
    let same = case.layer(&weight.transpose(2, 3).unwrap().contiguous().unwrap(), None);
    let wide = filled(&[3, 10, 13, 14], DType::F32);
    let narrow = wide.narrow(1, 2, 8).unwrap().narrow(3, 1, 13).unwrap();
    for x in [narrow.transpose(2, 3).unwrap(), narrow] {
        let (strided, contiguous) = (layer.forward(&x), same.forward(&x.contiguous().unwrap()));
        assert_eq!(numbers(&strided.unwrap()), numbers(&contiguous.unwrap()));
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for case in [Case::same(4, 16, 20), Case { stride: 2, ..Case::same(16, 40, 24) }] {
        let results = [1, 2, 3].map(|threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let inputs = inputs(case, DType::F32);
            pool.install(|| ours(case, inputs.each_ref()).map(|x| numbers(&x)))
        });
        for (i, name) in NAMES.iter().enumerate() {
            assert!(results.iter().all(|r| r[i] == results[0][i]), "{case:?}: {name} differs");
        }
    }
}

#[test]
fn kernels_that_change_in_place_are_noticed() {
    let x = filled(&[4, 9, 14, 13], DType::F64);
    let weight = Var::from_tensor(&filled(&[10, 9, 3, 3], DType::F64)).unwrap();
    let tensor = weight.as_tensor().clone();
    let layer = Conv2d { weight: tensor, bias: None, stride: 1, padding: [1, 1] };
    for turn in [1.0, -0.7, -0.7, 1.0] {
        let changed = (filled(&[10, 9, 3, 3], DType::F64) * turn).unwrap();
        weight.set(&changed).unwrap();
        let (ours, theirs) = (layer.forward(&x).unwrap(), x.conv2d(&changed, 1, 1, 1, 1).unwrap());
        let off = distance(&ours, &theirs);
        assert!(off <= 1e-11, "kernels times {turn}: {off:e} off, bound 1e-11");
    }
}

#[test]
fn the_trace_has_gradients_where_strides_leave_unequal_rests() {
    let x = Var::from_tensor(&filled(&[2, 5, 6, 9], DType::F64)).unwrap();
    let weight = Var::from_tensor(&filled(&[4, 5, 3, 1], DType::F64)).unwrap();
    let layer =
        Conv2d { weight: weight.as_tensor().clone(), bias: None, stride: 2, padding: [1, 0] };
    let [ours, theirs] = [layer.forward(&x).unwrap(), layer.trace(&x).unwrap()].map(|value| {
        let grads = value.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        [grads.get(&x).unwrap().clone(), grads.get(&weight).unwrap().clone()]
    });
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let off = distance(ours, theirs);
        assert!(off <= 1e-13, "{off:e} off, bound 1e-13");
    }
}
