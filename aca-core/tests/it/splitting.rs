//! Symplectic methods keep the energy.

use aca_core::{
    Native, NativeField, NativeTime, Result, Solver, Splitting, Step, StepSink, Time, VectorField,
};
use candle_core::{Device, Tensor, Var};

use crate::common::values;

/// Kepler's problem in a plane: positions, then momenta.
struct Kepler;

impl NativeField<f64> for Kepler {
    fn eval(&mut self, _t: NativeTime<'_>, y: &[f64], dy: &mut [f64]) {
        let cube = (y[0] * y[0] + y[1] * y[1]).powf(1.5);
        dy.copy_from_slice(&[y[2], y[3], -y[0] / cube, -y[1] / cube]);
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

impl VectorField for Kepler {
    fn eval(&self, _t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
        let mut dy = [0.0; 4];
        NativeField::eval(&mut Self, NativeTime::new(0.0), &values(y), &mut dy);
        Tensor::new(&dy, &Device::Cpu)
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn native(&self, _y: &Tensor) -> Option<Native<'_>> {
        Some(Native::F64(Box::new(Self)))
    }
}

fn energy(y: &[f64]) -> f64 {
    0.5 * (y[2] * y[2] + y[3] * y[3]) - 1.0 / (y[0] * y[0] + y[1] * y[1]).sqrt()
}

/// Largest distance of the energy from that of the start, among every 997th step, over each tenth of the solve.
struct Drift {
    start: f64,
    steps: usize,
    tenths: [f64; 10],
}

impl StepSink for Drift {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        if step.index.is_multiple_of(997) {
            let tenth = &mut self.tenths[10 * step.index / self.steps];
            *tenth = tenth.max((energy(&values(step.y1)) - self.start).abs());
        }
        Ok(())
    }
}

#[test]
fn the_energy_of_an_orbit_stays_bounded_over_a_hundred_thousand_periods() {
    let (e, periods, each) = (0.3f64, 100_000, 40);
    let y0 = [1.0 - e, 0.0, 0.0, ((1.0 + e) / (1.0 - e)).sqrt()];
    let steps = periods * each;
    let span = (0.0, periods as f64 * std::f64::consts::TAU);
    let solver = Solver { max_steps: steps, ..Solver::fixed_count(Splitting::VERLET, steps) };
    let mut drift = Drift { start: energy(&y0), steps, tenths: [0.0; 10] };
    let y0 = Tensor::new(&y0, &Device::Cpu).unwrap();
    solver.solve(&Kepler, &y0, span, &mut drift).unwrap();
    let [first, last] = [drift.tenths[0], drift.tenths[9]];
    assert!(first < 0.02 && last < 1.01 * first, "{:?}", drift.tenths);
}

#[test]
fn slices_and_tensors_have_the_same_bits() {
    struct Tensors;
    impl VectorField for Tensors {
        fn eval(&self, t: &Time, y: &Tensor) -> candle_core::Result<Tensor> {
            VectorField::eval(&Kepler, t, y)
        }

        fn is_separable(&self) -> bool {
            true
        }
    }
    let y0 = Tensor::new(&[0.7f64, 0.0, 0.1, 1.3], &Device::Cpu).unwrap();
    for splitting in [Splitting::VERLET, Splitting::YOSHIDA4] {
        let solver = Solver::fixed_count(splitting, 25);
        let end = |field: &dyn VectorField| solver.solve(field, &y0, (0.0, 3.0), &mut ()).unwrap();
        let (slices, tensors) = (end(&Kepler), end(&Tensors));
        assert_eq!(values(&slices.y1), values(&tensors.y1));
        assert_eq!(slices.stats, tensors.stats);
    }
}
