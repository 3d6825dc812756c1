//! `aca bench --overhead`: what the solver adds to the field's own time.

use std::hint::black_box;

use aca_core::{Native, NativeTime, Solver, Time, Tolerance, VectorField};
use aca_models::systems::LinearDecay;
use aca_tableau::DOPRI5;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::timing::median;
use crate::args::BenchArgs;
use crate::report::{self, Result, Side};

/// Sizes of the state.
const SIZES: [usize; 8] = [18, 100, 1_000, 4_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Numbers that all the steps of one timed solve go through, at most.
const WORK: usize = 20_000_000;

/// Passes over a state in one step of DOPRI5: six stage sums of 1 to 5 terms, each with its base and
/// its result, and the error ratio of six slopes and two states.
const PASSES: usize = 20 + 2 * 6 + 8;

/// Figures of one step of DOPRI5 on a state of `f64`.
#[derive(Serialize)]
struct Overhead {
    /// Whether the field offers slices, as closed forms do.
    slices: bool,
    /// Numbers in the state.
    size: usize,
    steps: usize,
    /// Time of one step.
    us_step: f64,
    /// Time of the field's evaluations in it.
    us_field: f64,
    /// The difference.
    us_overhead: f64,
    /// Bytes that the solver reads and writes in a step, over the difference.
    gb_per_second: f64,
}

/// Times adaptive steps, then as many evaluations of the field alone, for states of each size.
pub fn run(args: &BenchArgs) -> Result<()> {
    let cases = [false, true].into_iter().flat_map(|slices| SIZES.map(|size| (slices, size)));
    // Larger states are tensors in any case.
    let cases = cases.filter(|(slices, size)| !slices || *size <= Native::LARGEST);
    let figures = cases.map(|(slices, size)| measure(slices, size, args.reps as usize));
    let figures = figures.collect::<Result<Vec<_>>>()?;
    if args.json {
        return report::json(&figures);
    }
    let head = ["field on", "numbers", "steps", "us a step", "us field", "us solver", "GB/s"];
    let rows = figures.iter().map(|row| {
        let us = |us: f64| format!("{us:.2}");
        let kind = if row.slices { "slices" } else { "tensors" };
        let counts = [kind.to_owned(), row.size.to_string(), row.steps.to_string()];
        let times = [row.us_step, row.us_field, row.us_overhead, row.gb_per_second].map(us);
        counts.into_iter().chain(times).collect()
    });
    let rows: Vec<Vec<String>> =
        std::iter::once(head.map(String::from).into()).chain(rows).collect();
    report::aligned(&rows, |_| Side::Right).iter().try_for_each(|line| report::line(line))
}

fn measure(slices: bool, size: usize, reps: usize) -> Result<Overhead> {
    let decay = LinearDecay::field(0.5)?;
    let on_tensors = |t: &Time, y: &Tensor| decay.eval(t, y);
    let field: &dyn VectorField = if slices { &decay } else { &on_tensors };
    let y0 = Tensor::ones((size, 1), DType::F64, &Device::Cpu)?;
    let steps = (WORK / size).clamp(4, 20_000);
    // Any error passes, and every step is as long as allowed: all of the control runs, none rejects.
    let h = 1e-6;
    let tolerance = Tolerance { rtol: 1e9, atol: 1e9 };
    let solver = Solver {
        first_step: Some(h),
        h_max: h,
        max_steps: 2 * steps,
        ..Solver::adaptive(DOPRI5, tolerance)
    };
    let span = (0.0, h * steps as f64);
    let (ms, end) = median(reps, || Ok(solver.solve(field, &y0, span, &mut ())?))?;
    let steps = end.stats.accepted;
    let (ms_field, ()) = median(reps, || evaluate(field, &y0, end.stats.nfe))?;
    let (us_step, us_field) = (1e3 * ms / steps as f64, 1e3 * ms_field / steps as f64);
    let us_overhead = us_step - us_field;
    let gb_per_second = (8 * size * PASSES) as f64 / us_overhead * 1e-3;
    Ok(Overhead { slices, size, steps, us_step, us_field, us_overhead, gb_per_second })
}

/// Evaluates the field as a solve does.
fn evaluate(field: &dyn VectorField, y0: &Tensor, times: usize) -> Result<()> {
    if let Some(Native::F64(mut field)) = field.native(y0) {
        let y = y0.flatten_all()?.to_vec1::<f64>()?;
        let mut dy = y.clone();
        for _ in 0..times {
            field.eval(NativeTime::new(0.0), black_box(&y), black_box(&mut dy));
        }
        return Ok(());
    }
    for _ in 0..times {
        black_box(field.eval(&Time::new(0.0), black_box(y0))?);
    }
    Ok(())
}
