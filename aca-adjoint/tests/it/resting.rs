//! Samples that are done rest where their fields are finite, and add nothing to any gradient.

use aca_adjoint::{Gradient, Ode};
use aca_core::{Batching, Error, OnFailure, Solver, Time, Tolerance, VectorField};
use aca_dense::SaveAt;
use aca_tableau::{DOPRI5, MIDPOINT};
use candle_core::{Device, Result, Tensor, Var};

/// A slope of the time, the state and one parameter.
type Slope = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;

/// A field that may be evaluated on some rows alone.
struct Field {
    k: Var,
    f: Slope,
    supports_row_subset: bool,
}

impl VectorField for Field {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        (self.f)(&t.tensor(y)?, y, &self.k)
    }

    fn supports_row_subset(&self) -> bool {
        self.supports_row_subset
    }
}

/// `y' = -k y / t`, whose solution from 1 at 1 is `t^-k`.
fn singular_at_zero(t: &Tensor, y: &Tensor, k: &Tensor) -> Result<Tensor> {
    y.broadcast_mul(k)?.broadcast_div(t)?.neg()
}

/// `y' = k / sqrt(1 - t) + y / 10`, infinite at 1.
fn singular_at_one(t: &Tensor, y: &Tensor, k: &Tensor) -> Result<Tensor> {
    let rest = t.affine(-1.0, 1.0)?.sqrt()?.recip()?;
    (y * 0.1)?.broadcast_add(&rest.broadcast_mul(k)?)
}

/// Gradients of the sum of all ends with respect to `k` and the initial states, of one number each.
fn gradients(
    (f, k): (Slope, f64),
    (solver, gradient, supports_row_subset): (&Solver, Gradient, bool),
    spans: &[(f64, f64)],
    save: Vec<SaveAt>,
) -> Vec<f64> {
    let k = Var::new(&[k], &Device::Cpu).unwrap();
    let field = Field { k: k.clone(), f, supports_row_subset };
    let solver = Solver { batching: Batching::PerSample, ..solver.clone() };
    let ode = Ode::new(solver, field, vec![k.clone()]).unwrap().gradient(gradient);
    let y0 = Var::from_tensor(&Tensor::ones((spans.len(), 1), k.dtype(), &Device::Cpu).unwrap());
    let y0 = y0.unwrap();
    let sol = ode.solve(&y0, spans, &SaveAt::PerSample(save)).unwrap();
    let grads = sol.y1.sum_all().unwrap().backward().unwrap();
    let numbers = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    [numbers(grads.get(&k).unwrap()), numbers(grads.get(&y0).unwrap())].concat()
}

fn assert_close(found: &[f64], expected: &[f64], bound: f64, name: &str) {
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // A maximum would pass over NaN.
    assert!(off.clone().all(|off| off <= bound), "{name}: {found:?}, expected {expected:?}");
}

fn adaptive() -> Solver {
    Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-8, atol: 1e-8 })
}

#[test]
fn a_field_that_is_singular_outside_all_spans_spoils_no_gradient() {
    let exact = |t1: f64| [-t1.ln() * t1.powi(-2), t1.powi(-2)];
    for gradient in [Gradient::Aca, Gradient::Naive] {
        for (first, supports_row_subset) in [(2.0, true), (2.0, false), (1.0, true), (1.0, false)] {
            let spans = [(1.0, first), (1.0, 5.0)];
            let how = (&adaptive(), gradient.clone(), supports_row_subset);
            let found =
                gradients((singular_at_zero, 2.0), how, &spans, vec![SaveAt::End, SaveAt::End]);
            let [a, b] = [exact(first), exact(5.0)];
            let name = format!("{gradient:?} to {first}, rows {supports_row_subset}");
            assert_close(&found, &[a[0] + b[0], a[1], b[1]], 1e-6, &name);
        }
    }
}

#[test]
fn an_output_of_one_sample_looks_into_no_other() {
    let solver = Solver::fixed(MIDPOINT, 0.25);
    let spans = [(0.0, 1.0), (0.0, 0.75)];
    for gradient in [Gradient::Aca, Gradient::Naive] {
        for supports_row_subset in [true, false] {
            let of = |save| {
                let how = (&solver, gradient.clone(), supports_row_subset);
                gradients((singular_at_one, 1.0), how, &spans, vec![SaveAt::End, save])
            };
            let (ends, times) = (of(SaveAt::End), of(SaveAt::Times(vec![0.6])));
            // The output at 0.6 is asked for, but the loss looks at ends.
            assert_close(
                &times,
                &ends,
                1e-12,
                &format!("{gradient:?}, rows {supports_row_subset}"),
            );
        }
    }
}

#[test]
fn an_output_that_is_not_finite_fails_its_sample() {
    let solver = Solver::fixed(MIDPOINT, 0.25);
    let k = Var::new(&[1.0], &Device::Cpu).unwrap();
    let solve = |on_failure| {
        let field = Field { k: k.clone(), f: singular_at_one, supports_row_subset: true };
        let solver = Solver { batching: Batching::PerSample, on_failure, ..solver.clone() };
        let y0 = Tensor::ones((2, 1), k.dtype(), &Device::Cpu).unwrap();
        let save = SaveAt::Times(vec![0.5, 0.6]);
        let late = SaveAt::All(vec![SaveAt::Times(vec![0.5, 0.9, 1.0]), SaveAt::Steps]);
        let ode = Ode::new(solver, field, vec![k.clone()]).unwrap();
        ode.solve(&y0, [(0.0, 1.0), (0.0, 0.75)], &SaveAt::PerSample(vec![late, save]))
    };
    let error = solve(OnFailure::Error).err().unwrap();
    assert!(error.to_string().contains("the output is not finite"), "{error}");
    let sol = solve(OnFailure::Keep).unwrap();
    let finished: Vec<_> = sol.samples.iter().map(|end| end.status.is_finished()).collect();
    assert_eq!(finished, [false, true]);
    let found = sol.sample(0).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let missing: Vec<_> = found.iter().map(|y| y.is_nan()).collect();
    assert_eq!(missing, [false, false, false, false, true, true], "{found:?}");
    assert!(matches!(sol.samples[0].status.clone(), aca_core::Status::Failed(error)
        if matches!(*error, Error::NonFinite { t: 0.9, .. })));
}
