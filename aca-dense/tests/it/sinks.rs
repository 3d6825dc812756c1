use aca_core::{Batching, Error, Result, Solver, Step, StepSink, Stepper, Time};
use aca_dense::{SaveAt, Saver, Solution, interpolate};
use aca_tableau::{ALL, RK4};
use candle_core::{DType, Device, Tensor};

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
    let (span, solver) = ((0.0, 2.0), dopri5(1e-6));
    let y0 = CAROUSEL.start(span);
    let save_at = SaveAt::Times(vec![0.5, 1.0]);
    let mut saver = Saver::new(&solver, &save_at, &span.into(), &y0).unwrap();
    let end = solver.solve(&CAROUSEL.f, &y0, span, &mut saver).unwrap();
    let saved = saver.finish(end).unwrap();
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

/// Stops every row at a time.
struct StopAt(f64);

impl StepSink for StopAt {
    fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
        for own in step.accepted.iter().filter(|own| own.t0 < self.0 && self.0 <= own.t1) {
            step.stop(own.row, (self.0 - own.t0) / own.h())?;
        }
        Ok(())
    }
}

#[test]
fn a_solution_ends_where_a_sink_stopped_its_solve() {
    let decay = |_t: &Time, y: &Tensor| y.neg();
    let save_at =
        SaveAt::All(vec![SaveAt::Times(vec![0.5, 0.78, 4.0]), SaveAt::Steps, SaveAt::Dense]);
    let solver = dopri5(1e-6);
    let at = 0.777;
    let y0 = Tensor::new(&[1.0f64], &Device::Cpu).unwrap();
    let sol = Solution::record(&solver, &decay, &y0, (0.0, 5.0), &save_at, StopAt(at)).unwrap();
    assert!((values(&sol.y1)[0] - (-at).exp()).abs() < 1e-5);
    let beyond = sol.ts.iter().zip(values(&sol.ys)).filter(|(t, _)| **t > at);
    let beyond: Vec<_> = beyond.map(|(t, y)| (*t, y.is_nan())).collect();
    assert_eq!(beyond, [(0.78, true), (4.0, true)], "requested, but not come to");
    for (&t, y) in sol.ts.iter().zip(values(&sol.ys)).filter(|(t, _)| **t <= at) {
        assert!((y - (-t).exp()).abs() < 1e-5, "{y} at {t}");
    }
    let dense = sol.dense().unwrap();
    assert_eq!(dense.span().t1, at);
    assert!((values(&dense.at(at).unwrap())[0] - values(&sol.y1)[0]).abs() < 1e-14);
    assert!(matches!(dense.at(0.78).unwrap_err(), Error::TimeOutsideSpan { .. }));

    let solver = Solver { batching: Batching::PerSample, ..solver };
    let y0 = Tensor::new(&[[1.0f64], [2.0]], &Device::Cpu).unwrap();
    let spans = [(0.0, 5.0), (0.0, 0.5)];
    let save_at = SaveAt::All(vec![SaveAt::Times(vec![0.4]), SaveAt::End, SaveAt::Dense]);
    let sol = Solution::record(&solver, &decay, &y0, spans, &save_at, StopAt(at)).unwrap();
    let ys = [0, 1].map(|sample| values(&sol.sample(sample).unwrap()));
    assert!(ys[0][1].is_nan() && (ys[1][1] - 2.0 * (-0.5f64).exp()).abs() < 1e-5, "{ys:?}");
    assert_eq!(sol.sample_dense(0).unwrap().span().t1, at);
    assert_eq!(sol.sample_dense(1).unwrap().span().t1, 0.5);
}

#[test]
fn places_that_no_accepted_step_has_are_refused() {
    struct Nowhere(usize, f64);
    impl StepSink for Nowhere {
        fn accept(&mut self, step: &mut Step<'_>) -> Result<()> {
            step.stop(self.0, self.1)
        }
    }
    let y0 = CAROUSEL.start((0.0, 2.0));
    for (row, s) in [(1, 0.5), (0, 1.5), (0, -0.1), (0, f64::NAN)] {
        let error = dopri5(1e-6).solve(&CAROUSEL.f, &y0, (0.0, 2.0), &mut Nowhere(row, s));
        assert!(matches!(error.unwrap_err(), Error::NoSuchPlace { .. }));
    }
}
