use std::fmt::Debug;

use aca_core::{Error, Method, Result, Solver, Step, StepSink, Time, Tolerance};
use aca_dense::{SaveAt, Solution, solve};
use aca_tableau::{ALL, DOPRI5};
use candle_core::{DType, Device, Tensor, WithDType};

/// A state of one dimension.
pub fn state<T: WithDType>(y: &[T]) -> Tensor {
    Tensor::new(y, &Device::Cpu).unwrap()
}

/// The entries of a tensor of any shape and float type, in row-major order.
pub fn values(y: &Tensor) -> Vec<f64> {
    y.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The largest difference between the entries of `y` and `expected`.
pub fn distance(y: &Tensor, expected: &[f64]) -> f64 {
    let y = values(y);
    assert_eq!(y.len(), expected.len(), "entries of {y:?}");
    y.iter().zip(expected).map(|(y, e)| (y - e).abs()).fold(0.0, f64::max)
}

pub fn decay(_t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
    y.neg()
}

pub fn adaptive(method: impl Into<Method>, tolerance: f64) -> Solver {
    Solver::adaptive(method, Tolerance { rtol: tolerance, atol: tolerance })
}

/// DOPRI5 with `tolerance` as both tolerances.
pub fn dopri5(tolerance: f64) -> Solver {
    adaptive(&DOPRI5, tolerance)
}

/// Fixed steps of every tableau, adaptive ones where there are any.
pub fn solvers() -> Vec<Solver> {
    let fixed = ALL.into_iter().map(|tableau| Solver::fixed(tableau.clone(), 0.3));
    let adaptive = ALL.into_iter().filter(|t| t.is_adaptive()).map(|t| adaptive(t, 1e-4));
    fixed.chain(adaptive).collect()
}

/// Asserts that `result` is the error that `is_expected` knows, with this text.
pub fn assert_refused<T: Debug>(result: Result<T>, is_expected: fn(&Error) -> bool, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), text);
    assert!(is_expected(&error), "the text belongs to another variant: {error:?}");
}

/// An ODE `y' = f(t, y)` whose solution is known.
#[derive(Clone, Copy)]
pub struct Problem {
    pub name: &'static str,
    pub f: fn(&Time, &Tensor) -> candle_core::Result<Tensor>,
    pub y: fn(f64) -> Vec<f64>,
}

/// `x' = -(1 + t) y, y' = (1 + t) x`: a circle whose speed depends on time.
pub const CAROUSEL: Problem = Problem {
    name: "carousel",
    f: |t, y| Tensor::stack(&[y.get(1)?.neg()?, y.get(0)?], 0)?.affine(1.0 + t.value(), 0.0),
    y: |t| {
        let angle = t + 0.5 * t * t;
        vec![angle.cos(), angle.sin()]
    },
};

/// `x' = -(x^2 + y^2) y, y' = (x^2 + y^2) x`: a circle whose speed depends on its radius.
pub const CIRCLE: Problem = Problem {
    name: "nonlinear circle",
    f: |_t, y| {
        let speed = y.sqr()?.sum_all()?;
        Tensor::stack(&[y.get(1)?.neg()?, y.get(0)?], 0)?.broadcast_mul(&speed)
    },
    y: |t| {
        let radius: f64 = 1.1;
        let angle = radius * radius * t;
        vec![radius * angle.cos(), radius * angle.sin()]
    },
};

impl Problem {
    pub fn start(&self, span: (f64, f64)) -> Tensor {
        state(&(self.y)(span.0))
    }

    pub fn solve(&self, solver: &Solver, span: (f64, f64), save_at: &SaveAt) -> Solution {
        solve(solver, &self.f, &self.start(span), span, save_at).unwrap()
    }

    /// The solution at each of `ts`, one after the other.
    pub fn exact(&self, ts: &[f64]) -> Vec<f64> {
        ts.iter().flat_map(|&t| (self.y)(t)).collect()
    }
}

/// Remembers the ends and the end states of every step.
#[derive(Default)]
pub struct Recorder {
    pub ends: Vec<(f64, f64)>,
    pub states: Vec<Vec<f64>>,
}

impl StepSink for Recorder {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.ends.push((step.t0, step.t1));
        self.states.push(values(step.y1));
        Ok(())
    }
}
