use std::fmt::Debug;
use std::sync::Mutex;

use aca_core::{Error, Method, Result, Solver, Step, StepSink, Time, Tolerance, VectorField};
use aca_tableau::{ALL, DOPRI5, Tableau};
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

/// DOPRI5 with `tolerance` as both tolerances.
pub fn dopri5(tolerance: f64) -> Solver {
    adaptive(&DOPRI5, tolerance)
}

pub fn adaptive(method: impl Into<Method>, tolerance: f64) -> Solver {
    Solver::adaptive(method, Tolerance { rtol: tolerance, atol: tolerance })
}

/// Every built-in tableau that can adapt its step.
pub fn adaptive_tableaus() -> impl Iterator<Item = &'static Tableau> {
    ALL.into_iter().filter(|tableau| tableau.is_adaptive())
}

/// Those that evaluate the field at the end of a step, so that its error estimate sees that.
pub fn far_sighted_tableaus() -> impl Iterator<Item = &'static Tableau> {
    adaptive_tableaus().filter(|tableau| tableau.c().contains(&1.0))
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

/// `y' = y cos t`, which depends on time.
pub const SWING: Problem = Problem {
    name: "y' = y cos t",
    f: |t, y| y.affine(t.value().cos(), 0.0),
    y: |t| vec![t.sin().exp()],
};

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
    /// Largest error at the end of a solve over `span`.
    pub fn error_at_end(&self, solver: &Solver, span: (f64, f64)) -> f64 {
        let end = solver.solve(&self.f, &state(&(self.y)(span.0)), span, &mut ()).unwrap();
        distance(&end.y1, &(self.y)(span.1))
    }
}

/// One accepted step, remembered.
pub struct Record {
    pub index: usize,
    pub t0: f64,
    pub t1: f64,
    pub y0: Vec<f64>,
    pub y1: Vec<f64>,
}

/// Remembers every step.
#[derive(Default)]
pub struct Recorder {
    pub steps: Vec<Record>,
}

impl Recorder {
    /// The start of the first step and the end of each.
    pub fn grid(&self) -> Vec<f64> {
        let start = self.steps.first().map(|step| step.t0);
        start.into_iter().chain(self.steps.iter().map(|step| step.t1)).collect()
    }
}

impl StepSink for Recorder {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        let (y0, y1) = (values(step.y0), values(step.y1));
        self.steps.push(Record { index: step.index, t0: step.t0, t1: step.t1, y0, y1 });
        Ok(())
    }
}

/// A field that remembers the times of its evaluations.
pub struct Watched<F> {
    field: F,
    times: Mutex<Vec<f64>>,
}

impl<F: VectorField> Watched<F> {
    pub fn new(field: F) -> Self {
        Self { field, times: Mutex::new(Vec::new()) }
    }

    pub fn times(&self) -> Vec<f64> {
        self.times.lock().unwrap().clone()
    }
}

impl<F: VectorField> VectorField for Watched<F> {
    fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        self.times.lock().unwrap().push(t.value());
        self.field.eval(t, y)
    }
}
