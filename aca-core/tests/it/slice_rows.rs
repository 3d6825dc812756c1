//! Rows on slices, each that steps on its own, take the steps of the same rows on tensors, to the same bits.

use aca_core::{Batching, OnFailure, Result, Solver, Stats, Status, Step, StepSink, Tolerance};
use aca_tableau::{ALL, DOPRI5, RK4};
use candle_core::{Device, IndexOp, Tensor};

use crate::common::values;
use crate::slices::{Bits, Forced, solvers};

/// Every number that a sink can see of the steps of samples.
#[derive(Default)]
struct RowBits(Bits);

impl StepSink for RowBits {
    fn accept(&mut self, steps: &mut Step<'_>) -> Result<()> {
        if steps.accepted.iter().any(|step| step.index % 2 == 1) {
            steps.complete()?;
        }
        let k = steps.stages()?;
        for step in steps.accepted {
            self.0.0.extend([step.sample, step.index].map(|i| i as u64));
            self.0.0.extend([step.t0, step.t1].map(f64::to_bits));
            for x in [steps.y0, steps.y1].into_iter().chain(&k) {
                self.0.add(&x.i(step.row)?);
            }
        }
        let rows: Vec<usize> = steps.accepted.iter().map(|step| step.row).collect();
        let weights: Vec<f64> = (0..rows.len() * k.len()).map(|i| 0.1 * i as f64 - 0.3).collect();
        self.0.add(&steps.combine(&rows, &weights)?.flatten_all()?);
        Ok(())
    }
}

const SHAPE: [usize; 2] = [5, 3];

/// Spans of different lengths, one against time and one without any length.
const SPANS: [(f64, f64); 5] = [(0.0, 2.0), (2.0, 0.0), (0.3, 0.3), (1.0, 1.4), (1.3, 2.9)];

fn y0() -> Tensor {
    let entries = (0..15).map(|i| 2.0 * (0.3 + 1.7 * i as f64).sin());
    Tensor::from_iter(entries, &Device::Cpu).unwrap().reshape(&SHAPE).unwrap()
}

fn run(solver: &Solver, y0: &Tensor, slices: bool) -> (Vec<u64>, Vec<Stats>, Vec<String>, usize) {
    let (field, mut bits) = (Forced { jump: 1.3, slices }, RowBits::default());
    let solver = Solver { batching: Batching::PerSample, ..solver.clone() };
    let end = solver.solve(&field, y0, SPANS, &mut bits).unwrap();
    let mut bits = bits.0;
    bits.add(&end.y1.flatten_all().unwrap());
    let status = |status: &Status| match status {
        Status::Finished => String::new(),
        Status::Failed(error) => error.to_string(),
    };
    let stats = end.samples.iter().map(|end| end.stats).collect();
    (bits.0, stats, end.samples.iter().map(|end| status(&end.status)).collect(), end.stats.nfe)
}

#[test]
fn rows_on_slices_have_the_bits_and_counts_of_rows_on_tensors() {
    for tableau in ALL {
        for (i, solver) in solvers(tableau, &SHAPE).iter().enumerate() {
            let (found, expected) = (run(solver, &y0(), true), run(solver, &y0(), false));
            let name = format!("{} number {i}", tableau.name());
            assert!(found.0 == expected.0, "{name}: other bits");
            assert_eq!((found.1, found.2, found.3), (expected.1, expected.2, expected.3), "{name}");
        }
    }
}

#[test]
fn rows_that_fail_are_told_in_the_same_words_and_harm_no_other() {
    let mut entries = values(&y0().flatten_all().unwrap());
    (entries[4], entries[13]) = (1e110, f64::NAN);
    let y0 = Tensor::from_vec(entries, &SHAPE, &Device::Cpu).unwrap();
    let tolerance = Tolerance { rtol: 1e-6, atol: 1e-6 };
    let adaptive = Solver { h_min: 1e-3, ..Solver::adaptive(DOPRI5, tolerance) };
    let started = Solver { first_step: Some(0.5), ..adaptive.clone() };
    let brief = Solver { max_steps: 5, ..Solver::adaptive(DOPRI5, tolerance) };
    for solver in [Solver::fixed(RK4, 0.5), adaptive, started, brief] {
        let solver = Solver { on_failure: OnFailure::Keep, ..solver };
        let (found, expected) = (run(&solver, &y0, true), run(&solver, &y0, false));
        assert!(!found.2[1].is_empty() && !found.2[4].is_empty(), "{:?}", found.2);
        assert!(found.2[2].is_empty(), "{:?}", found.2);
        assert_eq!((found.1, found.2, found.3), (expected.1, expected.2, expected.3));
        assert!(found.0 == expected.0, "other bits");
    }
}
