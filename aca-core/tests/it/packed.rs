//! States of several tensors.

use aca_core::{Batching, Packing, Solver, Time, Tolerance};
use aca_tableau::DOPRI5;
use candle_core::{Device, Tensor};

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn parts_come_back_with_their_shapes() {
    let parts =
        [tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2]), tensor(&[5.0], &[]), tensor(&[6.0, 7.0], &[2])];
    let (packing, y) = Packing::pack(&parts).unwrap();
    assert_eq!(y.to_vec1::<f64>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let back = packing.unpack(&y).unwrap();
    let shapes: Vec<_> = back.iter().map(|part| part.dims().to_vec()).collect();
    assert_eq!(shapes, [vec![2, 2], vec![], vec![2]]);
    let outputs = packing.unpack(&Tensor::stack(&[&y, &y, &y], 0).unwrap()).unwrap();
    assert_eq!(outputs[0].dims(), [3, 2, 2]);
}

#[test]
fn parts_solve_as_they_would_alone() {
    let (packing, y0) =
        Packing::pack(&[tensor(&[1.0, 2.0], &[2]), tensor(&[3.0], &[1, 1])]).unwrap();
    let field =
        packing.field(|_t: &Time, y: &[Tensor]| Ok(vec![y[0].neg()?, y[1].affine(-2.0, 0.0)?]));
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-10, atol: 1e-10 });
    let end = solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
    let y1 = end.y1.to_vec1::<f64>().unwrap();
    let (one, two) = ((-1.0f64).exp(), (-2.0f64).exp());
    for (ours, exact) in y1.iter().zip([one, 2.0 * one, 3.0 * two]) {
        assert!((ours - exact).abs() < 1e-9, "{ours}, closed form {exact}");
    }
}

#[test]
fn a_part_with_a_loose_tolerance_costs_no_steps() {
    // The second part is fast; only a tight tolerance of its own makes the solve follow it closely.
    let (packing, y0) = Packing::pack(&[tensor(&[1.0], &[1]), tensor(&[1.0], &[1])]).unwrap();
    let field = packing.field(|t: &Time, y: &[Tensor]| {
        Ok(vec![y[0].neg()?, y[1].affine(0.0, (40.0 * t.value()).cos())?])
    });
    let steps = |second: f64| {
        let tolerance = |x: f64| Tolerance { rtol: x, atol: x };
        let tolerances = packing.tolerances(&[tolerance(1e-6), tolerance(second)], &y0).unwrap();
        let solver = Solver::adaptive(DOPRI5, tolerances);
        solver.solve(&field, &y0, (0.0, 3.0), &mut ()).unwrap().stats.accepted
    };
    let (loose, tight) = (steps(1e3), steps(1e-8));
    assert!(3 * loose < tight, "{loose} steps against {tight}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (packing, y0) = Packing::pack(&[tensor(&[1.0, 2.0], &[2]), tensor(&[3.0], &[1])]).unwrap();
    let first = |error: candle_core::Error| error.to_string().lines().next().unwrap().to_owned();
    let error = packing.unpack(&tensor(&[1.0, 2.0], &[2])).unwrap_err();
    assert_eq!(first(error), "a packed state has 3 numbers, but the last dimension is 2");
    let error = packing.tolerances(&[Tolerance { rtol: 1.0, atol: 1.0 }], &y0).unwrap_err();
    assert_eq!(first(error), "1 tolerances came for a state of 2 parts");
    let field = packing.field(|_t: &Time, y: &[Tensor]| Ok(vec![y[0].clone()]));
    let solver = Solver::fixed(DOPRI5, 0.1);
    let error = solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap_err().to_string();
    let text = "the field returned parts of shapes [[2]] for a state of [[2], [1]]";
    assert_eq!(error.lines().next(), Some(text));
}

#[test]
fn the_numbers_of_a_packed_state_are_no_samples() {
    let (packing, y0) = Packing::pack(&[tensor(&[1.0], &[1]), tensor(&[0.0], &[1])]).unwrap();
    let field = packing
        .field(|_t: &Time, y: &[Tensor]| Ok(vec![y[1].affine(3.0, 0.0)?, y[0].affine(-3.0, 0.0)?]));
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-9, atol: 1e-9 });
    let solver = Solver { batching: Batching::PerSample, ..solver };
    let refusal = solver.solve(&field, &y0, [(0.0, 1.0); 2], &mut ()).unwrap_err();
    assert!(refusal.to_string().contains("a packed state is one system"), "{refusal}");
}
