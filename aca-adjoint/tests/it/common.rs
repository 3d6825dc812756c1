//! Fields and an oracle: candle's own autograd through the accepted steps.

use aca_adjoint::Gradient;
pub use aca_adjoint::Grid;
use aca_core::{Method, Solver, Tableau, Time, Tolerance, VectorField};
use candle_core::{DType, Device, Result, Tensor, Var};

/// A field that is no candle layer but uses time, state and two variables.
pub struct Mlp {
    pub w1: Var,
    pub w2: Var,
}

impl Mlp {
    pub fn new(dtype: DType) -> Self {
        let fill = |shape: (usize, usize), scale: f64, phase: f64| {
            let values = (0..shape.0 * shape.1).map(|k| scale * (phase + 0.7 * k as f64).sin());
            let values = Tensor::from_iter(values, &Device::Cpu).unwrap();
            Var::from_tensor(&values.reshape(shape).unwrap().to_dtype(dtype).unwrap()).unwrap()
        };
        Self { w1: fill((3, 8), 0.8, 0.1), w2: fill((8, 3), 0.9, 0.5) }
    }

    pub fn vars(&self) -> Vec<Var> {
        vec![self.w1.clone(), self.w2.clone()]
    }
}

impl VectorField for Mlp {
    fn eval(&self, t: &Time, y: &Tensor) -> Result<Tensor> {
        let hidden = y.matmul(&self.w1)?.broadcast_add(&t.tensor(y)?.sin()?)?.tanh()?;
        hidden.matmul(&self.w2)?.broadcast_mul(&t.tensor(y)?.affine(0.3, 1.0)?)
    }
}

pub fn state(dtype: DType) -> Tensor {
    let values = Tensor::new(&[[0.3f64, -0.8, 0.5], [1.1, 0.2, -0.4]], &Device::Cpu).unwrap();
    values.to_dtype(dtype).unwrap()
}

pub fn adaptive(method: impl Into<Method>, tolerance: f64) -> Solver {
    let (method, tolerance) = (method.into(), Tolerance { rtol: tolerance, atol: tolerance });
    match method.is_adaptive() {
        true => Solver::adaptive(method, tolerance),
        false => Solver::fixed_count(method, 9),
    }
}

/// Outputs at `times` of the discrete solution over `grid`, as candle's graph through every stage.
pub fn traced(
    tableau: &Tableau,
    field: &dyn VectorField,
    y0: &Tensor,
    grid: &[f64],
    times: &[f64],
) -> Tensor {
    let interpolant = tableau.interpolant();
    let stages = tableau.stages();
    let sum = |y: &Tensor, h: f64, weights: &[f64], k: &[Tensor]| {
        weights.iter().zip(k).fold(y.clone(), |y, (w, k)| (y + (k * (h * w)).unwrap()).unwrap())
    };
    let mut y = y0.clone();
    let mut rows = Vec::new();
    rows.extend((times.first() == Some(&grid[0])).then(|| y.clone()));
    for ends in grid.windows(2) {
        let (t0, t1) = (ends[0], ends[1]);
        let h = t1 - t0;
        let mut k: Vec<Tensor> = Vec::new();
        for i in 0..interpolant.stages() {
            let own = i < stages;
            let row = if own { tableau.a_row(i) } else { interpolant.a_row(i - stages) };
            let c = if own { tableau.c()[i] } else { interpolant.c(i - stages) };
            let t = if c == 1.0 { t1 } else { t0 + c * h };
            let at = sum(&y, h, row, &k);
            k.push(field.trace(&Time::new(t), &at).unwrap());
        }
        let inside = |t: f64| (t - t0) * h > 0.0 && (t1 - t) * h > 0.0;
        for &t in times.iter().filter(|&&t| inside(t)) {
            rows.push(sum(&y, h, &interpolant.weights((t - t0) / h), &k));
        }
        y = sum(&y, h, tableau.b(), &k);
        rows.extend(times.contains(&t1).then(|| y.clone()));
    }
    Tensor::stack(&rows, 0).unwrap()
}

/// A loss that weighs every entry of the outputs differently.
pub fn loss(ys: &Tensor) -> Tensor {
    let weights = (0..ys.elem_count()).map(|k| (0.3 + 1.7 * k as f64).cos());
    let weights = Tensor::from_iter(weights, &Device::Cpu).unwrap().reshape(ys.shape()).unwrap();
    let weights = weights.to_dtype(ys.dtype()).unwrap();
    (ys.sqr().unwrap() * weights).unwrap().sum_all().unwrap()
}

/// Norm of the difference relative to the norm of `b`.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| {
        let x = x.to_dtype(DType::F64).unwrap();
        x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
    };
    norm(&(a - b).unwrap()) / norm(b)
}

/// A method of second order that works with a strategy: MALI undoes steps of the leapfrog.
pub fn method_of(gradient: &Gradient) -> Method {
    match gradient {
        Gradient::Mali => Method::Leapfrog,
        _ => aca_tableau::HEUN_EULER.into(),
    }
}
