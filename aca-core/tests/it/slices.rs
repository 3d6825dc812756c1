//! A field on slices takes the steps of the same field on tensors, to the same bits.

use aca_core::{
    Error, Native, NativeField, NativeTime, Result, Solver, Step, StepSink, Stepping, Time,
    Tolerance, Tolerances, VectorField,
};
use aca_tableau::{ALL, DOP853, DOPRI5, RK4, Tableau};
use candle_core::{DType, Device, Tensor, Var};

use crate::common::values;

/// `y' = cos(t) - y^3 / (1 + y^2)`, of the other sign after `jump`, on tensors and on slices.
pub struct Forced {
    pub jump: f64,
    pub slices: bool,
}

impl Forced {
    fn slope(&self, t: f64, y: f64) -> f64 {
        let sign = if t > self.jump { -1.0 } else { 1.0 };
        sign * (t.cos() - y * y * y / (1.0 + y * y))
    }
}

impl VectorField for Forced {
    fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        let double = y.to_dtype(DType::F64)?;
        let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f64>();
        let ts = numbers(&t.tensor(&double)?.broadcast_as(y.shape())?)?;
        let slopes = ts.into_iter().zip(numbers(&double)?).map(|(t, y)| self.slope(t, y));
        Tensor::from_iter(slopes, &Device::Cpu)?.reshape(y.shape())?.to_dtype(y.dtype())
    }

    fn supports_row_subset(&self) -> bool {
        true
    }

    fn native(&self, y: &Tensor) -> Option<Native<'_>> {
        let is_double = self.slices && y.dtype() == DType::F64;
        is_double.then(|| Native::F64(Box::new(Numbers(self))))
    }
}

struct Numbers<'a>(&'a Forced);

impl NativeField<f64> for Numbers<'_> {
    fn eval(&mut self, t: NativeTime<'_>, y: &[f64], dy: &mut [f64]) {
        let length = y.len() / t.samples().map_or(1, <[usize]>::len);
        for (i, (dy, y)) in dy.iter_mut().zip(y).enumerate() {
            *dy = self.0.slope(t.of_row(i / length), *y);
        }
    }

    fn pull(
        &mut self,
        _: NativeTime<'_>,
        _: &[f64],
        _: &[f64],
        _: &mut [f64],
        _: &mut [f64],
        _: &mut [f64],
    ) {
    }

    fn variables(&self) -> Vec<Var> {
        Vec::new()
    }
}

/// Every number that a sink can see of a step.
#[derive(Default)]
pub struct Bits(pub Vec<u64>);

impl Bits {
    pub fn add(&mut self, x: &Tensor) {
        self.0.extend(values(x).into_iter().map(f64::to_bits));
    }
}

impl StepSink for Bits {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.0.extend([step.t0, step.t1].map(f64::to_bits));
        self.add(step.y0);
        self.add(step.y1);
        if step.index % 2 == 1 {
            step.complete()?;
        }
        let k = step.stages()?;
        k.iter().for_each(|k| self.add(k));
        let weights: Vec<f64> = (0..2 * k.len()).map(|i| 0.1 * i as f64 - 0.3).collect();
        self.add(&step.combine(&[0; 2], &weights)?.flatten_all()?);
        Ok(())
    }
}

fn y0() -> Tensor {
    Tensor::new(&[0.5, -0.25, 2.0], &Device::Cpu).unwrap()
}

fn run(solver: &Solver, slices: bool, span: (f64, f64)) -> (Vec<u64>, aca_core::Stats) {
    let (field, mut bits) = (Forced { jump: 1.3, slices }, Bits::default());
    let end = solver.solve(&field, &y0(), span, &mut bits).unwrap();
    bits.add(&end.y1);
    (bits.0, end.stats)
}

/// Fixed and adaptive steps; tolerances of each entry fit `shape`.
pub fn solvers(tableau: &Tableau, shape: &[usize]) -> Vec<Solver> {
    let fixed = Solver::fixed(tableau.clone(), 0.17);
    let jumping = Solver { jump_ts: vec![1.3], ..fixed.clone() };
    let mut solvers = vec![fixed, jumping];
    if tableau.is_adaptive() {
        let adaptive = Solver::adaptive(tableau.clone(), Tolerance { rtol: 1e-5, atol: 1e-8 });
        let count: usize = shape.iter().product();
        let each = |x: f64| {
            let x = (0..count).map(|i| x * [10.0, 1.0, 0.1][i % 3]);
            Tensor::from_iter(x, &Device::Cpu).unwrap().reshape(shape).unwrap()
        };
        let (rtol, atol) = (each(1e-5), each(1e-7));
        let stepping = Stepping::Adaptive(Tolerances::Each { rtol, atol });
        let started = Solver { first_step: Some(1.0), ..adaptive.clone() };
        let jumping = Solver { jump_ts: vec![1.3], step_ts: vec![0.4], ..adaptive.clone() };
        solvers.extend([Solver { stepping, ..adaptive.clone() }, adaptive, started, jumping]);
    }
    solvers
}

#[test]
fn steps_on_slices_have_the_bits_and_counts_of_steps_on_tensors() {
    for tableau in ALL {
        for (i, solver) in solvers(tableau, &[3]).iter().enumerate() {
            for span in [(0.0, 2.0), (2.0, 0.0)] {
                let (found, found_stats) = run(solver, true, span);
                let (expected, stats) = run(solver, false, span);
                let name = format!("{} number {i}, {span:?}", tableau.name());
                assert!(found == expected, "{name}: other bits");
                assert_eq!(found_stats, stats, "{name}");
            }
        }
    }
}

#[test]
fn a_grid_is_replayed_on_slices_to_the_same_bits() {
    let grid = [0.0, 0.3, 0.35, 1.0];
    let bits = |slices| {
        let (field, mut bits) = (Forced { jump: 9.0, slices }, Bits::default());
        let solver = Solver::fixed(DOPRI5, 1.0);
        solver.replay(&field, &y0(), &grid, &mut bits).unwrap();
        bits.0
    };
    assert_eq!(bits(true), bits(false));
}

/// What both ways say of a solve that cannot reach its end.
fn refusals(solver: &Solver, y0: f64) -> [String; 2] {
    [true, false].map(|slices| {
        let y0 = Tensor::new(&[0.1, y0], &Device::Cpu).unwrap();
        let field = Forced { jump: 99.0, slices };
        solver.solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap_err().to_string()
    })
}

#[test]
fn what_is_not_finite_is_told_in_the_same_words() {
    let tolerance = Tolerance { rtol: 1e-6, atol: 1e-6 };
    let adaptive = Solver { h_min: 1e-3, ..Solver::adaptive(DOPRI5, tolerance) };
    let started = Solver { first_step: Some(0.5), ..adaptive.clone() };
    let cases = [
        (Solver::fixed(RK4, 0.5), 1e103),
        (Solver::fixed(RK4, 0.5), 1e110),
        (adaptive.clone(), 1e110),
        (started, 1e110),
        (adaptive, f64::NAN),
    ];
    for (solver, y0) in cases {
        let [slices, tensors] = refusals(&solver, y0);
        assert_eq!(slices, tensors);
        assert!(slices.contains("1"), "{slices}");
    }
}

#[test]
fn a_state_of_another_type_goes_by_tensors() {
    let y0 = y0().to_dtype(DType::F32).unwrap();
    let field = Forced { jump: 9.0, slices: true };
    let end = Solver::fixed(RK4, 0.1).solve(&field, &y0, (0.0, 1.0), &mut ()).unwrap();
    assert_eq!(end.y1.dtype(), DType::F32);
}

#[test]
fn an_error_of_the_sink_ends_the_solve() {
    struct Full;
    impl StepSink for Full {
        fn accept(&mut self, _: &mut Step<'_>) -> Result<()> {
            Err(Error::NoTimes)
        }
    }
    let field = Forced { jump: 9.0, slices: true };
    let error = Solver::fixed(RK4, 0.1).solve(&field, &y0(), (0.0, 1.0), &mut Full).unwrap_err();
    assert!(matches!(error, Error::NoTimes), "{error}");
}

#[test]
fn weights_of_stages_that_were_not_evaluated_are_refused() {
    /// Weighs all stages of the interpolant before they are there, then after.
    struct Eager;
    impl StepSink for Eager {
        fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
            let weights = vec![0.1; 3 * DOP853.interpolant().stages()];
            let error = step.combine(&[0; 3], &weights).unwrap_err();
            let text = "weights of 16 stages were given where 12 are needed; complete a step before \
                        its inside is looked at";
            assert_eq!(error.to_string(), text);
            step.complete()?;
            step.combine(&[0; 3], &weights).map(|_| ())
        }
    }
    for slices in [true, false] {
        let field = Forced { jump: 9.0, slices };
        Solver::fixed(DOP853, 0.5).solve(&field, &y0(), (0.0, 1.0), &mut Eager).unwrap();
    }
}
