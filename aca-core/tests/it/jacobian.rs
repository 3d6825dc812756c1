//! What fields tell of their Jacobians: other linear algebra, the same solution.

use std::sync::Arc;

use aca_core::{
    Batching, Jacobian, Preconditioner, Result, Solver, Sparsity, StagePoint, Time, VectorField,
    WithJacobian,
};
use aca_tableau::{KVAERNO5, TR_BDF2};
use candle_core::{D, Device, Tensor};

use crate::common::{adaptive, distance, values};

/// Heat with a nonlinear source in a rod of `n` cells, cold at both ends, `u_t = u_xx + u^2 (1 - u)`: along the last
/// dimension.
fn heat(n: usize) -> impl Fn(&Time, &Tensor) -> candle_core::Result<Tensor> + Send + Sync + Clone {
    move |_t: &Time, u: &Tensor| {
        let padded = u.pad_with_zeros(D::Minus1, 1, 1)?;
        let last = u.rank() - 1;
        let around = (padded.narrow(last, 0, n)? + padded.narrow(last, 2, n)?)?;
        let spread = ((around - (u * 2.0)?)? * ((n + 1) * (n + 1)) as f64)?;
        spread + (u.sqr()? * u.affine(-1.0, 1.0)?)? * 20.0
    }
}

fn start(n: usize) -> Tensor {
    let x = (1..=n).map(|i| i as f64 / (n + 1) as f64);
    let u = x.map(|x| (std::f64::consts::PI * x).sin() + 0.3 * (9.0 * x).sin());
    Tensor::from_iter(u, &Device::Cpu).unwrap()
}

/// Solves `(1 + 2 c) x_i - c (x_(i-1) + x_(i+1)) = b_i`, the diffusion alone.
#[derive(Debug)]
struct Diffusion(usize);

impl Preconditioner for Diffusion {
    fn apply(&self, at: &StagePoint<'_>, b: &Tensor, _transposed: bool) -> Result<Tensor> {
        let c = at.reach[0] * ((self.0 + 1) * (self.0 + 1)) as f64;
        let (mut b, mut upper) = (b.to_vec1::<f64>()?, vec![0.0; self.0]);
        for i in 0..self.0 {
            let (before, last) = if i == 0 { (0.0, 0.0) } else { (upper[i - 1], b[i - 1]) };
            let pivot = 1.0 + 2.0 * c + c * before;
            upper[i] = -c / pivot;
            b[i] = (b[i] + c * last) / pivot;
        }
        for i in (0..self.0 - 1).rev() {
            b[i] -= upper[i] * b[i + 1];
        }
        Ok(Tensor::from_vec(b, self.0, &Device::Cpu)?)
    }
}

fn kinds(n: usize) -> Vec<(&'static str, Jacobian)> {
    let rows = (0..n).map(|i| i.saturating_sub(1)..(i + 2).min(n));
    vec![
        ("dense", Jacobian::Dense),
        ("banded", Jacobian::Banded { lower: 1, upper: 1 }),
        ("sparse", Jacobian::Sparse(Arc::new(Sparsity::new(rows).unwrap()))),
        ("free", Jacobian::MatrixFree(None)),
        ("prepared", Jacobian::MatrixFree(Some(Arc::new(Diffusion(n))))),
    ]
}

#[test]
fn every_kind_of_linear_algebra_finds_the_solution() {
    let (n, tolerance) = (40, 1e-7);
    let solver = adaptive(&KVAERNO5, tolerance);
    let exact = adaptive(&KVAERNO5, 1e-11).solve(&heat(n), &start(n), (0.0, 0.3), &mut ());
    let exact = values(&exact.unwrap().y1);
    let mut found = Vec::new();
    for (name, jacobian) in kinds(n) {
        let field = WithJacobian::new(heat(n), jacobian);
        let end = solver.solve(&field, &start(n), (0.0, 0.3), &mut ()).unwrap();
        let off = distance(&end.y1, &exact);
        assert!(off < 20.0 * tolerance, "{name}: {off:e}");
        found.push((name, end));
    }
    let [dense, banded, sparse, free, prepared] = &found[..] else { unreachable!() };
    assert_eq!(dense.1.stats.accepted, banded.1.stats.accepted);
    assert!(distance(&banded.1.y1, &values(&dense.1.y1)) < 1e-12);
    assert_eq!(values(&banded.1.y1), values(&sparse.1.y1), "one band");
    // What the preconditioner does not solve is the source alone.
    let (free, prepared) = (free.1.stats.nfe, prepared.1.stats.nfe);
    assert!(2 * prepared < free, "{prepared} evaluations with a preconditioner, {free} without");
}

#[test]
fn large_systems_are_solved_without_being_asked() {
    let n = 700;
    let solver = adaptive(&TR_BDF2, 1e-4);
    let free = solver.solve(&heat(n), &start(n), (0.0, 0.01), &mut ()).unwrap();
    let banded = WithJacobian::new(heat(n), Jacobian::Banded { lower: 1, upper: 1 });
    let banded = solver.solve(&banded, &start(n), (0.0, 0.01), &mut ()).unwrap();
    assert!(distance(&free.y1, &values(&banded.y1)) < 1e-4);
}

#[test]
fn samples_and_rows_have_bands_of_their_own() {
    let n = 30;
    let y0 = Tensor::stack(&[start(n), (start(n) * 0.4).unwrap()], 0).unwrap();
    for (name, jacobian) in kinds(n).into_iter().take(4) {
        let field = WithJacobian::new(heat(n), jacobian);
        let own = Solver { batching: Batching::PerSample, ..adaptive(&KVAERNO5, 1e-6) };
        let together = own.solve(&field, &y0, (0.0, 0.1), &mut ()).unwrap();
        let rows = adaptive(&KVAERNO5, 1e-6).solve(&field, &y0, (0.0, 0.1), &mut ()).unwrap();
        for i in 0..2 {
            let alone = y0.narrow(0, i, 1).unwrap();
            let alone = own.solve(&field, &alone, (0.0, 0.1), &mut ()).unwrap();
            let row = values(&together.y1.get(i).unwrap());
            assert_eq!(row, values(&alone.y1), "{name}, sample {i}: the bits of each alone");
            assert!(distance(&rows.y1.get(i).unwrap(), &row) < 1e-4, "{name}, row {i}");
        }
    }
}

#[test]
fn wrong_pattern_costs_time_but_no_digits() {
    let n = 20;
    let right = adaptive(&KVAERNO5, 1e-7).solve(&heat(n), &start(n), (0.0, 0.05), &mut ()).unwrap();
    // Only the diagonal, of what is a band.
    let field = WithJacobian::new(heat(n), Jacobian::Banded { lower: 0, upper: 0 });
    match adaptive(&KVAERNO5, 1e-7).solve(&field, &start(n), (0.0, 0.05), &mut ()) {
        Ok(end) => assert!(distance(&end.y1, &values(&right.y1)) < 1e-5),
        Err(error) => assert!(error.to_string().contains("Newton"), "{error}"),
    }
}

#[test]
fn patterns_are_narrow_and_need_few_products() {
    // A plane of 12 x 12 cells, each with its four neighbours, counted in a scrambled order.
    let n = 12;
    let place = |x: usize, y: usize| (x * n + y) * 59 % (n * n);
    let mut rows = vec![Vec::new(); n * n];
    for x in 0..n {
        for y in 0..n {
            let around =
                [(x, y), (x + 1, y), (x.wrapping_sub(1), y), (x, y + 1), (x, y.wrapping_sub(1))];
            let inside = around.into_iter().filter(|(x, y)| *x < n && *y < n);
            rows[place(x, y)] = inside.map(|(x, y)| place(x, y)).collect();
        }
    }
    let plane = Sparsity::new(rows).unwrap();
    let (lower, upper) = plane.bandwidths();
    assert!(lower <= n + 1 && upper <= n + 1, "{lower} and {upper}");
    assert!(plane.products() <= 10, "{} products", plane.products());
    assert_eq!(Sparsity::banded(100, 2, 1).products(), 4);
}

#[test]
fn wrapped_field_keeps_what_it_knows() {
    let n = 5;
    let inner = WithJacobian::new(heat(n), Jacobian::Banded { lower: 1, upper: 1 });
    let boxed: Arc<dyn VectorField> = Arc::new(inner);
    assert!(matches!(boxed.jacobian(), Jacobian::Banded { lower: 1, upper: 1 }));
}
