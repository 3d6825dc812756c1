//! The size of the first step.

use aca_core::{Batching, Solver, Time};
use candle_core::{DType, Device, Result, Tensor};

use crate::common::{distance, dopri5};

/// `y' = cos(1000 t) + exp(1e5 (y - 1.002))`: from 1 the solution swings by 0.001, far below a cliff. The trial
/// point lies a hundredth of the state ahead, at 1.01, where the field overflows.
fn cliff(t: &Time, y: &Tensor) -> Result<Tensor> {
    let swing = t.tensor(y)?.affine(1e3, 0.0)?.cos()?;
    y.affine(1e5, -1.002e5)?.exp()?.broadcast_add(&swing)
}

const SPAN: (f64, f64) = (0.0, 1e-2);

fn solver() -> Solver {
    dopri5(1e-6)
}

/// Where the solution from 1 ends.
fn expected() -> f64 {
    1.0 + 1e-3 * 10f64.sin()
}

#[test]
fn an_overflow_at_the_trial_point_leaves_the_first_step_to_the_slope_at_the_start() {
    for dtype in [DType::F32, DType::F64] {
        let y0 = Tensor::ones(2, dtype, &Device::Cpu).unwrap();
        assert!(solver().initial_step_size(&cliff, &y0, SPAN).unwrap() > 1e-6, "{dtype:?}");
        let end = solver().solve(&cliff, &y0, SPAN, &mut ()).unwrap();
        let (tries, rejected) = (end.stats.accepted + end.stats.rejected, end.stats.rejected);
        assert!(rejected < 30 && tries < 90, "{dtype:?}: {tries} tries, {rejected} rejected");
        assert!(distance(&end.y1, &[expected(); 2]) < 1e-5, "{}", end.y1);
    }
}

#[test]
fn an_overflow_of_one_sample_does_so_to_its_own_step() {
    // The second sample lies far below the cliff.
    let y0 = Tensor::new(&[[1.0f64], [-1.0]], &Device::Cpu).unwrap();
    let solver = Solver { batching: Batching::PerSample, ..solver() };
    let end = solver.solve(&cliff, &y0, [SPAN; 2], &mut ()).unwrap();
    for (sample, stats) in end.samples.iter().map(|end| end.stats).enumerate() {
        let (tries, rejected) = (stats.accepted + stats.rejected, stats.rejected);
        assert!(rejected < 30 && tries < 90, "{sample}: {tries} tries, {rejected} rejected");
    }
    assert!(distance(&end.y1, &[expected(), expected() - 2.0]) < 1e-5, "{}", end.y1);
}
