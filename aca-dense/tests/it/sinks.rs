use aca_core::{Result, Solver, Step, StepSink, Stepper, TimeSpan};
use aca_dense::{SaveAt, Saver, Solution, interpolate};
use aca_tableau::{ALL, RK4};
use candle_core::DType;

use crate::common::{CAROUSEL, Recorder, distance, dopri5, solvers, values};

#[test]
fn other_sinks_get_every_step_beside_the_outputs() {
    let (f, y0, mut steps) = (CAROUSEL.f, CAROUSEL.start((0.0, 2.0)), Recorder::default());
    let solver = dopri5(1e-6);
    let solution = Solution::record(&solver, &f, &y0, (0.0, 2.0), &SaveAt::Steps, &mut steps);
    let solution = solution.unwrap();
    let ends: Vec<f64> = steps.ends.iter().map(|&(_, t1)| t1).collect();
    assert_eq!(solution.ts[1..], ends);
    assert_eq!(steps.ends.len(), solution.stats.accepted);
}

#[test]
fn saver_works_as_a_sink_of_its_own() {
    let span = TimeSpan::new(0.0, 2.0).unwrap();
    let y0 = CAROUSEL.start((0.0, 2.0));
    let save_at = SaveAt::Times(vec![0.5, 1.0]);
    let mut saver = Saver::new(&save_at, span, &y0).unwrap();
    dopri5(1e-6).solve(&CAROUSEL.f, &y0, (0.0, 2.0), &mut saver).unwrap();
    let saved = saver.finish().unwrap();
    assert_eq!(saved.ts, [0.5, 1.0]);
    let solution = CAROUSEL.solve(&dopri5(1e-6), (0.0, 2.0), &save_at);
    assert_eq!(values(&saved.ys), values(&solution.ys));
}

#[test]
fn interpolant_at_a_steps_ends_is_the_step() {
    /// Interpolates every step at its ends.
    struct Ends(f64);
    impl StepSink for Ends {
        fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
            step.complete()?;
            let ends = [values(step.y0), values(step.y1)].concat();
            let rows = interpolate(step.method(), step.y0, step.h(), &step.stages()?, &[0.0, 1.0])?;
            self.0 = self.0.max(distance(&rows, &ends));
            Ok(())
        }
    }
    for solver in solvers() {
        let mut ends = Ends(0.0);
        solver.solve(&CAROUSEL.f, &CAROUSEL.start((0.0, 1.5)), (0.0, 1.5), &mut ends).unwrap();
        assert!(ends.0 <= 1e-15, "{}: off by {}, more than rounding", solver.method.name(), ends.0);
    }
}

#[test]
fn interpolant_without_fractions_has_no_rows() {
    let y0 = CAROUSEL.start((0.0, 1.0));
    let method = Stepper::new(&Solver::fixed(RK4, 0.1), DType::F64).unwrap();
    let rows = interpolate(&method, &y0, 0.1, &vec![y0.clone(); 5], &[]).unwrap();
    assert_eq!(rows.dims(), [0, 2]);
}

#[test]
fn interpolant_is_linear_in_the_stages() {
    for tableau in ALL {
        let method = Stepper::new(&Solver::fixed(tableau.clone(), 0.5), DType::F64).unwrap();
        let (y0, k) = (CAROUSEL.start((0.0, 1.0)), CAROUSEL.start((2.0, 1.0)));
        let stages = method.interpolant().stages();
        let rows = interpolate(&method, &y0, 0.5, &vec![k.clone(); stages], &[0.25, 0.8]).unwrap();
        // Equal slopes make a straight line: the weights sum to s.
        let line = |s: f64| values(&(&y0 + (&k * (0.5 * s)).unwrap()).unwrap());
        let gap = distance(&rows, &[line(0.25), line(0.8)].concat());
        assert!(gap < 1e-13, "{}: off the line by {gap}", tableau.name());
    }
}

#[test]
fn solution_does_not_change_with_a_variable_that_it_started_from() {
    let y0 = candle_core::Var::new(&[2.0f64], &candle_core::Device::Cpu).unwrap();
    let decay = |_t: &aca_core::Time, y: &candle_core::Tensor| y.neg();
    let solver = aca_core::Solver::fixed(RK4, 0.25);
    let sol =
        aca_dense::solve(&solver, &decay, &y0, (0.0, 1.0), &aca_dense::SaveAt::Dense).unwrap();
    let read = || sol.dense().unwrap().at(0.1).unwrap().to_vec1::<f64>().unwrap();
    let before = read();
    y0.set(&candle_core::Tensor::new(&[5.0f64], &candle_core::Device::Cpu).unwrap()).unwrap();
    assert_eq!(read(), before);
}
