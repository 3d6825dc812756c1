//! What lies inside the steps of implicit methods.

use aca_core::{Solver, Split, Time, Tolerance, VectorField};
use aca_dense::{SaveAt, solve};
use aca_tableau::{ADDITIVE, IMPLICIT, Tableau};
use candle_core::{Device, Tensor};

use crate::common::{adaptive, state, values};

/// `y' = -rate (y^3 - g^3) + g'` with `g = sin t + 2`: whatever the rate, the solution from 2 is `g`.
fn follow(rate: f64) -> impl Fn(&Time, &Tensor) -> candle_core::Result<Tensor> {
    move |t: &Time, y: &Tensor| {
        let t = t.tensor(y)?;
        let g = (t.sin()? + 2.0)?;
        let off = (y.sqr()? * y)?.broadcast_sub(&(g.sqr()? * &g)?)?;
        (off * -rate)?.broadcast_add(&t.cos()?)
    }
}

/// The largest error of 400 outputs, and the evaluations of the field.
fn error(tableau: &Tableau, (rate, tolerance): (f64, f64), dense: bool) -> (f64, usize) {
    let ts: Vec<f64> = (0..=400).map(|i| f64::from(i) * 0.02).collect();
    let (solver, y0) = (adaptive(tableau, tolerance), state(&[2.0f64]));
    let save_at = if dense { SaveAt::Dense } else { SaveAt::Times(ts.clone()) };
    let sol = aca_dense::solve(&solver, &follow(rate), &y0, (0.0, 8.0), &save_at).unwrap();
    let ys = match dense {
        true => {
            let dense = sol.dense().unwrap();
            ts.iter().map(|t| values(&dense.at(*t).unwrap())[0]).collect()
        }
        false => values(&sol.ys),
    };
    let off = ys.iter().zip(&ts).map(|(y, t)| (y - 2.0 - t.sin()).abs()).fold(0.0, f64::max);
    (off, sol.stats.nfe)
}

#[test]
fn outputs_inside_steps_follow_the_tolerance_however_stiff_the_problem_is() {
    for tableau in IMPLICIT.iter().filter(|tableau| tableau.is_adaptive()) {
        for rate in [1e3, 1e6, 1e9] {
            for tolerance in [1e-4, 1e-8] {
                for dense in [false, true] {
                    let (off, nfe) = error(tableau, (rate, tolerance), dense);
                    let name = tableau.name();
                    assert!(off < 10.0 * tolerance, "{name} {rate:e} {tolerance:e}: {off:e}");
                    assert!(nfe < 12_000 && (nfe < 1200 || tolerance < 1e-4), "{name}: {nfe}");
                }
            }
        }
    }
}

/// `y' = -sin t + rate (cos t - y)`, whose solution from 1 is cos t.
fn pulled(rate: f64) -> Split<impl VectorField, impl VectorField> {
    let push = |t: &Time, y: &Tensor| y.affine(0.0, -t.value().sin());
    let pull = move |t: &Time, y: &Tensor| y.affine(-rate, rate * t.value().cos());
    Split { nonstiff: push, stiff: pull }
}

#[test]
fn outputs_inside_steps_of_additive_methods_are_right_at_any_stiffness() {
    for pair in ADDITIVE {
        for rate in [1.0, 1e3, 1e6, 1e9] {
            for tolerance in [1e-4, 1e-6] {
                let solver = Solver::adaptive(pair, Tolerance { rtol: tolerance, atol: tolerance });
                let solver = Solver { max_steps: 100_000, ..solver };
                let ts: Vec<f64> = (0..=400).map(|i| 0.01 * f64::from(i)).collect();
                let y0 = Tensor::new(&[1f64], &Device::Cpu).unwrap();
                let save_at = SaveAt::Times(ts.clone());
                let sol = solve(&solver, &pulled(rate), &y0, (0.0, 4.0), &save_at).unwrap();
                let ys = sol.ys.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let off = ts.iter().zip(&ys).map(|(t, y)| (t.cos() - y).abs());
                let off = off.fold(0.0, f64::max);
                let name = pair.name();
                assert!(off < 60.0 * tolerance, "{name} at {rate:e}, {tolerance:e}: {off:e}");
            }
        }
    }
}
