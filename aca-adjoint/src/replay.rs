//! The heart: an accepted step is replayed from its checkpoint, and cotangents go back through it.
//!
//! From the last slope to the first, `lambda_i = h (b_i a + sum_m b_i(s_m) g_m + sum_(j>i) a_ji mu_j)` is pulled back
//! through `f` to `mu_i`, and `a + sum_m g_m + sum_i mu_i` leaves the step, for the cotangent `a` of its end and `g_m` of
//! outputs at the fractions `s_m`. No gradient flows through `h`.

use aca_core::kernels::{self, Terms};
use aca_core::{Evaluator, Native, Result, Stepper, Steps, TensorStages};
use candle_core::Tensor;
use smallvec::SmallVec;

use crate::checkpoints::Start;
use crate::outputs::RowOutput;
use crate::params::Accumulator;
use crate::report::RowFinding;

mod slices;
mod tensors;

/// One accepted step of every row, or of the whole state.
#[derive(Clone, Copy)]
pub(crate) struct ReplayStep<'a> {
    pub(crate) method: &'a Stepper,
    pub(crate) field: &'a Evaluator<'a>,
    pub(crate) steps: &'a Steps,
    pub(crate) y0: &'a Tensor,
    /// The slope there, where it cannot be found again.
    pub(crate) k1: Option<&'a Tensor>,
}

impl<'a> ReplayStep<'a> {
    pub(crate) fn new(
        (method, field): (&'a Stepper, &'a Evaluator<'a>),
        (steps, start): (&'a Steps, &'a Start),
    ) -> Self {
        Self { method, field, steps, y0: &start.y, k1: start.k1.as_ref() }
    }

    /// The slopes of the step on tensors, as far as they are known.
    pub(crate) fn stages(&self) -> TensorStages<'a> {
        let known = self.k1.into_iter().cloned().collect();
        TensorStages::new(self.method, self.field, (self.steps, self.y0), known)
    }
}

/// The cotangents that enter a step.
#[derive(Clone, Copy)]
pub(crate) struct Arriving<'a> {
    /// Of its ends, like the state.
    pub(crate) a: &'a Tensor,
    /// The outputs strictly inside.
    pub(crate) inside: &'a [RowOutput],
    /// The outputs at the ends of the steps before, where the solution has the first slope of this step.
    pub(crate) before: &'a [RowOutput],
    /// Cotangents of all outputs of the solve, `[outputs, ..state]`.
    pub(crate) g: &'a Tensor,
}

/// What is known of a step before it is replayed.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The states that the solve found at its ends.
    pub(crate) y1: Option<&'a Tensor>,
    /// The slope at the end of the span, if this step ends there.
    pub(crate) slope: Option<&'a Tensor>,
    /// Which part of a large state is compared: counted up from step to step.
    pub(crate) window: usize,
    /// Whether it is asked how the loss moves with times.
    pub(crate) want_times: bool,
}

/// What a replayed step gives.
pub(crate) struct Replayed {
    /// Cotangents of its starts.
    pub(crate) start: Tensor,
    pub(crate) found: Found,
    pub(crate) times: Option<Times>,
}

/// One finding a row.
pub(crate) type Found = SmallVec<[RowFinding; 1]>;

/// How a step's contribution to the loss moves with times.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) rows: Vec<RowTimes>,
    /// With the time of each output inside.
    pub(crate) inside: Vec<f64>,
    /// With the time of each output at the ends of the steps before.
    pub(crate) before: Vec<f64>,
}

/// How a row's contribution moves with the times of its step.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowTimes {
    /// With the step's size, its start held fixed.
    pub(crate) h: f64,
    /// With its start, its size held fixed.
    pub(crate) t0: f64,
}

/// Replays steps, each before the one that was replayed last.
pub(crate) trait Replay {
    /// Replays a step and maps cotangents to those of its start; the parameters' are added to `theta`, now or at the
    /// end.
    ///
    /// # Cost
    /// One linearization and at most one pullback per stage; stages without weight are skipped. An evaluation more where
    /// the error estimate reads a slope that nothing else does and that the step after it does not tell.
    fn replay(
        &mut self,
        step: &ReplayStep<'_>,
        arriving: &Arriving<'_>,
        known: &Known<'_>,
        theta: &mut Accumulator<'_>,
    ) -> Result<Replayed>;

    /// Keeps these rows of what the last step left for the next, in their order.
    fn keep(&mut self, rows: &[usize]) -> Result<()>;

    /// Hands over the cotangents of the parameters.
    fn finish(&mut self, theta: &mut Accumulator<'_>) -> Result<()>;
}

/// The replay of steps of states of `size` numbers: on slices for `native` fields, else on tensors.
pub(crate) fn replay<'a>(
    native: Option<Native<'a>>,
    size: usize,
    methods: &[Stepper],
) -> Box<dyn Replay + 'a> {
    let stages = methods.iter().map(Stepper::most_stages).max().unwrap_or(0);
    match native {
        Some(Native::F32(field)) => Box::new(slices::OnSlices::new(field, size, stages)),
        Some(Native::F64(field)) => Box::new(slices::OnSlices::new(field, size, stages)),
        None => Box::new(tensors::OnTensors::default()),
    }
}

/// The replay of steps on tensors alone, whose bits are those on slices.
pub(crate) fn replay_on_tensors() -> impl Replay {
    tensors::OnTensors::default()
}

/// The steps of rows with outputs inside; the others rest in the slopes that only the interpolant needs, where
/// their fields may not be finite. `None` where all rows go on.
fn looked_into(steps: &Steps, inside: &[RowOutput]) -> Option<Steps> {
    if steps.is_whole() || inside.is_empty() {
        return None;
    }
    Some(steps.resting_unless(|row| inside.iter().any(|output| output.row == row)))
}

/// `b_i(s_m)`, the weights of `count` slopes in one output after the other.
fn output_weights(method: &Stepper, inside: &[RowOutput], count: usize) -> Vec<f64> {
    let mut weights = vec![0.0; inside.len() * count];
    for (weights, output) in weights.chunks_exact_mut(count).zip(inside) {
        method.interpolant().weights_into(output.s, weights);
    }
    weights
}

/// Whether every row's step ends where another step starts, at `t`, with the field the same on both sides; rows
/// that rest do not matter.
fn meets(method: &Stepper, steps: &Steps, t: &[f64]) -> bool {
    let meets = |row: usize| {
        let (t0, t1) = steps.ends(row);
        t0 == t1 || (t.get(row) == Some(&t1) && !method.is_jump(t1))
    };
    (0..steps.rows()).all(meets)
}

/// Returns `base + sum(w_i x_i)`, with the rows' `sizes` in the weights of the terms where there are any, and the
/// cotangents `g` of outputs, each with a weight that may depend on the size of its row's step.
pub(crate) fn add_outputs(
    (steps, base): (&Steps, Option<&Tensor>),
    (sizes, terms): (&[f64], &[(f64, &Tensor)]),
    (inside, g): (&[RowOutput], &Tensor),
    weight: impl Fn(usize, f64) -> f64,
) -> Result<Tensor> {
    let h = steps.h();
    let weights: SmallVec<[f64; 8]> =
        inside.iter().enumerate().map(|(m, output)| weight(m, h[output.row])).collect();
    if steps.is_whole() {
        // The outputs of a step follow one another.
        let first = inside.first().filter(|_| weights.iter().any(|w| *w != 0.0));
        let block = first.map(|first| g.narrow(0, first.index, inside.len())).transpose()?;
        let terms: Terms<'_> = terms.iter().map(|&(w, x)| (sizes[0] * w, x)).collect();
        return kernels::combine_with_rows(base, &terms, block.as_ref().map(|g| (&weights[..], g)));
    }
    let sum = match (base, terms) {
        (Some(base), []) => base.clone(),
        (None, []) => {
            let shape = [&[h.len()], &g.dims()[1..]].concat();
            Tensor::zeros(shape, g.dtype(), g.device())?
        }
        _ => kernels::combine_steps(base, sizes, terms)?,
    };
    let rows = inside.iter().zip(&weights).filter(|(_, w)| **w != 0.0);
    let rows: Vec<_> = rows.map(|(output, w)| output.term(*w)).collect();
    kernels::add_rows(&sum, &rows, g)
}

/// Returns the cotangents `a` with `terms` and the whole cotangents of outputs added.
pub(crate) fn add_whole(
    (steps, a): (&Steps, &Tensor),
    terms: &[(f64, &Tensor)],
    outputs: (&[RowOutput], &Tensor),
) -> Result<Tensor> {
    match terms.is_empty() && outputs.0.is_empty() {
        true => Ok(a.clone()),
        false => add_outputs((steps, Some(a)), (&[1.0], terms), outputs, |_, _| 1.0),
    }
}
