//! Closed forms that depend on time, beside the same law as candle's operations.

use aca_adjoint::{Gradient, Ode};
use aca_core::{
    Batching, Error, Pullback, Solver, Time, Tolerance, VectorField, linearize_by_autograd,
};
use aca_dense::{Ragged, SaveAt};
use aca_models::systems::{ClosedForm, Real, System};
use aca_tableau::DOPRI5;
use candle_core::{D, DType, Device, Result, Tensor, Var};

/// Duffing's oscillator, `x' = v`, `v' = -x^3 - c v + a cos(1.3 t)`.
#[derive(Clone)]
struct Duffing;

const PACE: f64 = 1.3;

impl System for Duffing {
    const DIM: usize = 2;
    const PARAMS: usize = 2;

    fn slope<T: Real>(&self, t: f64, theta: &[T], y: &[T], dy: &mut [T]) {
        dy[0] = y[1];
        let push = T::from_f64((PACE * t).cos());
        dy[1] = theta[1] * push - y[0] * y[0] * y[0] - theta[0] * y[1];
    }

    fn pullback<T: Real>(
        &self,
        t: f64,
        theta: &[T],
        y: &[T],
        lambda: &[T],
        y_bar: &mut [T],
        theta_bar: &mut [T],
    ) -> T {
        let w = lambda[1];
        y_bar[0] = -T::from_f64(3.0) * y[0] * y[0] * w;
        y_bar[1] = lambda[0] - theta[0] * w;
        theta_bar[0] -= y[1] * w;
        theta_bar[1] += T::from_f64((PACE * t).cos()) * w;
        -theta[1] * w * T::from_f64(PACE * (PACE * t).sin())
    }

    fn trace(&self, t: &Time, theta: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, v) = (y.narrow(D::Minus1, 0, 1)?, y.narrow(D::Minus1, 1, 1)?);
        let (c, a) = (theta.narrow(D::Minus1, 0, 1)?, theta.narrow(D::Minus1, 1, 1)?);
        let push = (t.tensor(y)? * PACE)?.cos()?.broadcast_mul(&a)?;
        let pull = ((x.sqr()? * &x)? + v.broadcast_mul(&c)?)?;
        Tensor::cat(&[&v, &pull.neg()?.broadcast_add(&push)?], D::Minus1)
    }
}

/// What of the closed form a field offers.
#[derive(Clone, Copy, Debug)]
enum Offers {
    Slices,
    Tensors,
    Trace,
}

struct Field(ClosedForm<Duffing>, Offers);

impl VectorField for Field {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        match self.1 {
            Offers::Trace => self.0.trace(t, &y.detach()),
            _ => self.0.eval(t, y),
        }
    }

    fn trace(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        self.0.trace(t, y)
    }

    fn linearize(&self, t: &Time, y: &Tensor) -> Result<(Tensor, Pullback<'_>)> {
        match self.1 {
            Offers::Trace => linearize_by_autograd(|t, y| self.0.trace(t, y), t, y),
            _ => self.0.linearize(t, y),
        }
    }

    fn native(&self, y: &Tensor) -> Option<aca_core::Native<'_>> {
        matches!(self.1, Offers::Slices).then(|| self.0.native(y)).flatten()
    }

    fn supports_row_subset(&self) -> bool {
        true
    }
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let off = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    off.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Outputs, and gradients of the state, the parameters and all times.
fn solved(offers: Offers, batching: Batching, dims: &[usize], each: bool) -> [Tensor; 4] {
    let count: usize = dims.iter().product();
    let y0 = Tensor::from_iter((0..count).map(|i| (1.7 * i as f64).sin()), &Device::Cpu);
    let y0 = Var::from_tensor(&y0.unwrap().reshape(dims).unwrap()).unwrap();
    let theta =
        if each { (0..count).map(|i| 0.1 + 0.05 * i as f64).collect() } else { vec![0.2, 0.7] };
    let shape = if each { vec![count / 2, 2] } else { vec![2] };
    let theta = Tensor::from_vec(theta, shape, &Device::Cpu).unwrap();
    let theta = Var::from_tensor(&theta).unwrap();
    let field = Field(ClosedForm::new(Duffing, theta.clone()), offers);
    let solver = Solver::adaptive(DOPRI5, Tolerance { rtol: 1e-6, atol: 1e-7 });
    let solver = Solver { batching, ..solver };
    let ode = Ode::new(solver, field, vec![theta.clone()]).unwrap().gradient(Gradient::Aca);
    let (ys, ts) = match batching {
        Batching::Shared => {
            let ts = Var::new(&[0.2f64, 0.9, 1.6, 2.1], &Device::Cpu).unwrap();
            (ode.solve_times(&y0, &ts).unwrap().ys, ts)
        }
        Batching::PerSample => {
            // Every sample has times of its own.
            let ts = (0..4 * dims[0]).map(|i| 0.1 * (i / 4) as f64 + 0.5 * (i % 4) as f64);
            let ts = Var::from_tensor(&Tensor::from_iter(ts, &Device::Cpu).unwrap()).unwrap();
            let times = Ragged::new(ts.as_tensor().clone(), vec![4; dims[0]]).unwrap();
            (ode.solve_times(&y0, &times).unwrap().ys.clone(), ts)
        }
    };
    let grads = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let of = |var: &Var| grads.get(var).unwrap().clone();
    [ys.detach(), of(&y0), of(&theta), of(&ts)]
}

#[test]
fn a_closed_form_that_depends_on_time_is_its_trace() {
    for batching in [Batching::Shared, Batching::PerSample] {
        for dims in [&[3, 2][..], &[3, 4, 2]] {
            for each in [false, true] {
                let trace = solved(Offers::Trace, batching, dims, each);
                for offers in [Offers::Slices, Offers::Tensors] {
                    let found = solved(offers, batching, dims, each);
                    for (what, (a, b)) in found.iter().zip(&trace).enumerate() {
                        let off = distance(a, b);
                        assert!(
                            off < 1e-11,
                            "{offers:?} {batching:?} {dims:?} {each} {what}: {off:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn its_derivatives_are_those_of_autograd_at_times_of_the_rows_own() {
    let y = Tensor::new(&[[0.3f64, -0.8], [1.1, 0.4]], &Device::Cpu).unwrap();
    let field = ClosedForm::from_slice(Duffing, &[0.2, 0.7]).unwrap();
    assert!(field.check(&y).unwrap().worst() < 1e-14);
    let t = Time::of_samples([0.3, 1.9].into(), [0, 1].into()).unwrap();
    let lambda = y.cos().unwrap();
    let closed = field.linearize(&t, &y).unwrap().1.apply(&lambda).unwrap();
    let traced = linearize_by_autograd(|t, y| field.trace(t, y), &t, &y).unwrap();
    let traced = traced.1.apply(&lambda).unwrap();
    assert!(distance(&closed.t.unwrap(), &traced.t.unwrap()) < 1e-14);
}

#[test]
fn a_forced_solution_in_f32_is_that_in_f64() {
    let solve = |dtype: DType| {
        let theta = Tensor::new(&[0.2f64, 0.7], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let field = ClosedForm::new(Duffing, Var::from_tensor(&theta).unwrap());
        let y0 = Tensor::new(&[0.3f64, -0.8], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let solver = Solver::fixed_count(DOPRI5, 40);
        let end = aca_dense::solve(&solver, &field, &y0, (0.0, 4.0), &SaveAt::End).unwrap().ys;
        end.to_dtype(DType::F64).unwrap()
    };
    assert!(distance(&solve(DType::F32), &solve(DType::F64)) < 1e-5);
}

#[test]
fn a_law_that_says_that_it_is_autonomous_and_is_not_gets_no_time() {
    struct Wrong;
    impl System for Wrong {
        const DIM: usize = 1;
        const PARAMS: usize = 1;
        const AUTONOMOUS: bool = true;
        fn slope<T: Real>(&self, t: f64, _: &[T], _: &[T], dy: &mut [T]) {
            dy[0] = T::from_f64(t);
        }
        fn pullback<T: Real>(
            &self,
            _: f64,
            _: &[T],
            _: &[T],
            _: &[T],
            y_bar: &mut [T],
            _: &mut [T],
        ) -> T {
            y_bar[0] = T::zero();
            T::one()
        }
        fn trace(&self, t: &Time, _: &Tensor, y: &Tensor) -> Result<Tensor> {
            y.zeros_like()?.broadcast_add(&t.tensor(y)?)
        }
    }
    let field = ClosedForm::from_slice(Wrong, &[1.0]).unwrap();
    let y0 = Tensor::new(&[0.0f64], &Device::Cpu).unwrap();
    let error = Solver::fixed_count(DOPRI5, 3).solve(&field, &y0, (0.0, 1.0), &mut ());
    assert!(matches!(error.unwrap_err(), Error::NonFinite { .. }));
    assert!(field.check(&y0).unwrap().worst().is_nan());
}
