//! Gradients through implicit methods, by every kind of linear algebra.

use std::sync::Arc;

use aca_adjoint::Ode;
use aca_core::{Batching, Jacobian, Newton, Solver, Sparsity, Time, Tolerance, WithJacobian};
use aca_dense::SaveAt;
use aca_tableau::KVAERNO5;
use candle_core::{D, Device, Tensor, Var};

use crate::common::{distance, loss};

/// A chain of cells that spread at a rate, decay at others, and move to one side.
fn chain(
    rate: &Var,
    decay: &Var,
) -> impl Fn(&Time, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static {
    let (rate, decay) = (rate.clone(), decay.clone());
    move |_t: &Time, u: &Tensor| {
        let (padded, last) = (u.pad_with_zeros(D::Minus1, 2, 1)?, u.rank() - 1);
        let n = u.dim(last)?;
        let side = |i: usize| padded.narrow(last, i, n);
        let spread = (((side(1)? + side(3)?)? - (u * 2.0)?)? + (side(0)? * 0.3)?)?;
        spread.broadcast_mul(&rate)?.sub(&u.sqr()?.broadcast_mul(&decay)?)
    }
}

fn gradients(jacobian: Jacobian, batching: Batching) -> [Vec<f64>; 3] {
    let n = 24;
    let rate = Var::new(&[800.0f64], &Device::Cpu).unwrap();
    let decay = (0..n).map(|i| 2.0 + (i as f64).sin());
    let decay = Var::from_tensor(&Tensor::from_iter(decay, &Device::Cpu).unwrap()).unwrap();
    let u = (0..2 * n).map(|i| 1.0 + 0.5 * (0.7 * f64::from(i as u32)).sin());
    let u = Tensor::from_iter(u, &Device::Cpu).unwrap().reshape((2, n)).unwrap();
    let u = Var::from_tensor(&u).unwrap();
    let field = WithJacobian::new(chain(&rate, &decay), jacobian);
    let tolerance = Tolerance { rtol: 1e-7, atol: 1e-7 };
    // So that all kinds take the same steps but for rounding.
    let newton = Newton { fraction: 1e-5, max_iterations: 30 };
    let solver = Solver { batching, newton, ..Solver::adaptive(KVAERNO5, tolerance) };
    let ode = Ode::new(solver, field, vec![rate.clone(), decay.clone()]).unwrap();
    let sol = ode.solve(&u, (0.0, 0.3), &SaveAt::Times(vec![0.05, 0.17, 0.3])).unwrap();
    let grads = loss(&sol.ys).backward().unwrap();
    let of = |var: &Var| grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    [of(&rate), of(&decay), of(&u)]
}

#[test]
fn every_kind_of_linear_algebra_finds_the_same_gradient() {
    for batching in [Batching::Shared, Batching::PerSample] {
        let n = 24usize;
        let dense = gradients(Jacobian::Dense, batching);
        let rows = (0..n).map(|i| i.saturating_sub(2)..(i + 2).min(n));
        let sparse = Sparsity::new(rows).unwrap();
        for (name, jacobian, bound) in [
            ("banded", Jacobian::Banded { lower: 2, upper: 1 }, 1e-9),
            ("sparse", Jacobian::Sparse(Arc::new(sparse)), 1e-9),
            // Its stages solve their equations as nearly, along another way.
            ("free", Jacobian::MatrixFree(None), 1e-6),
        ] {
            let found = gradients(jacobian, batching);
            for (found, dense) in found.iter().zip(&dense) {
                let size = dense.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                let found = Tensor::new(&found[..], &Device::Cpu).unwrap();
                let off = distance(&found, &Tensor::new(&dense[..], &Device::Cpu).unwrap());
                assert!(off < bound * size, "{name}, {batching:?}: {off:e} of {size:e}");
            }
        }
    }
}
