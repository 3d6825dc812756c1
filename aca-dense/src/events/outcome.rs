//! A solved ODE with events.

use aca_core::{Error, Result, SampleEnd, Solver, Spans, Stats, VectorField};
use candle_core::Tensor;

use super::assemble::Assembled;
use super::rounds::Rounds;
use super::sample::Sample;
use super::{EventFinder, Events, Pieces};
use crate::{DenseError, DenseOutput, Layout, SaveAt, Solution};

/// A solved ODE with what happened on the way.
///
/// # Shapes
/// `ys` and `y1` as [`Solution`] tells. Events are listed one sample's after the other's, in the order of time:
/// `event_times` `[events]` in `f64`, `states_before` and `states_after` `[events, ..state]`.
#[derive(Clone, Debug)]
pub struct EventSolution {
    /// Times of the outputs, one for each index of the first dimension of `ys`.
    pub ts: Vec<f64>,
    /// Outputs; at the time of an event the state before it. NaN at times that the solve did not come to.
    pub ys: Tensor,
    /// State at the end, after the last event.
    pub y1: Tensor,
    /// When events happened.
    pub event_times: Tensor,
    /// The states at the events.
    pub states_before: Tensor,
    /// The states that they left behind: the same unless they are jumps.
    pub states_after: Tensor,
    /// Which event each was, by its place in the list.
    pub which: Vec<usize>,
    /// How many events each sample had; a state that steps as a whole is one sample.
    pub counts: Vec<usize>,
    /// What the solve cost.
    pub stats: Stats,
    /// How each sample ended, and what it cost.
    pub samples: Vec<SampleEnd>,
    layout: Layout,
    dense: Vec<Vec<DenseOutput>>,
}

impl EventSolution {
    /// Solves piece by piece, each by `solve` from states over spans with a sink that finds events.
    ///
    /// # Errors
    /// As [`solve_events`].
    pub fn piecewise<T>(
        (solver, events): (&Solver, &Events),
        y0: &Tensor,
        (spans, save_at): (&Spans, &SaveAt),
        solve: impl FnMut(&Tensor, &Spans, &SaveAt, &mut EventFinder<'_>) -> Result<(Solution, T)>,
    ) -> Result<(Self, Pieces<T>)> {
        let mut rounds = Rounds::new(events, solver, y0, (spans, save_at))?;
        rounds.run(solve)?;
        let ragged = save_at.is_ragged() || matches!(spans, Spans::PerSample(_));
        let Assembled { ts, ys, layout, happened } = rounds.assemble(ragged)?;
        let dense = rounds.samples.iter_mut().map(|sample| std::mem::take(&mut sample.dense));
        let dense = dense.collect();
        let solution = Self {
            ts,
            ys,
            y1: rounds.y,
            event_times: happened.times,
            states_before: happened.before,
            states_after: happened.after,
            which: happened.which,
            counts: happened.counts,
            stats: rounds.stats,
            samples: rounds.samples.iter().map(Sample::end).collect(),
            layout,
            dense,
        };
        Ok((solution, rounds.pieces))
    }

    /// Number of all events.
    pub fn len(&self) -> usize {
        self.which.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.which.is_empty()
    }

    /// How the outputs lie in `ys`.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Outputs of one sample, `[its times, ..state]`.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn sample(&self, sample: usize) -> Result<Tensor> {
        self.layout.sample(&self.ys, sample)
    }

    /// Times of one sample's outputs.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn sample_ts(&self, sample: usize) -> Result<&[f64]> {
        self.layout.check_sample(sample)?;
        Ok(match &self.layout {
            Layout::Ragged(counts) => &self.ts[counts[..sample].iter().sum()..][..counts[sample]],
            _ => &self.ts,
        })
    }

    /// The places of one sample's events among all of them.
    ///
    /// # Errors
    /// [`Error::SampleCount`] beyond the batch.
    pub fn of_sample(&self, sample: usize) -> Result<std::ops::Range<usize>> {
        self.layout.check_sample(sample)?;
        let start = self.counts[..sample].iter().sum();
        Ok(start..start + self.counts[sample])
    }

    /// The places of the events number `event` of the list among all that happened.
    pub fn of_event(&self, event: usize) -> Vec<usize> {
        (0..self.which.len()).filter(|place| self.which[*place] == event).collect()
    }

    /// Returns `y(t)` of one sample for each of `ts`, in any order: at the time of an event the state before it. Outside
    /// candle's graph.
    ///
    /// # Shapes
    /// `[times, ..state]`.
    ///
    /// # Errors
    /// [`DenseError::NoDenseOutput`] unless the solve was asked for [`SaveAt::Dense`];
    /// [`Error::TimeOutsideSpan`] for times that the solve did not come to; those of [`DenseOutput::at_times`].
    pub fn at_times(&self, sample: usize, ts: &[f64]) -> Result<Tensor> {
        self.layout.check_sample(sample)?;
        let pieces = &self.dense[sample];
        let Some(last) = pieces.last() else { return Err(DenseError::NoDenseOutput.into()) };
        let at = |&t: &f64| pieces.iter().find(|p| p.span().contains(t)).unwrap_or(last).at(t);
        let rows = ts.iter().map(at).collect::<Result<Vec<_>>>()?;
        match rows.is_empty() {
            true => Err(Error::NoTimes),
            false => Ok(Tensor::stack(&rows, 0)?),
        }
    }
}

/// Solves `dy/dt = f(t, y)` from `y0` over `span` with events on the way, and keeps what `save_at` asks for.
///
/// With [`Batching::PerSample`](aca_core::Batching::PerSample) each sample has events of its own at times of its own, with
/// the bits of a solve alone as far as functions and jumps treat rows alone.
///
/// # Gradient
/// None: the result is detached. `aca-adjoint` solves with gradients.
///
/// # Errors
/// Those of [`solve`](crate::solve); [`DenseError::EventNotFinite`], [`DenseError::EventsAccumulate`],
/// [`DenseError::TooManyEvents`], [`DenseError::EventsTogether`]; those of functions and jumps.
///
/// # Cost
/// Every step is completed for its interpolant and looked into. A jump starts the solve anew, with a search for the
/// size of its first step.
///
/// # Example
/// ```
/// use aca_core::{Solver, Time, Tolerance};
/// use aca_dense::{Event, Events, SaveAt, solve_events};
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> aca_core::Result<()> {
/// let solver = Solver::adaptive(aca_tableau::DOPRI5, Tolerance { rtol: 1e-9, atol: 1e-9 });
/// let fall = |_t: &Time, y: &Tensor| Tensor::stack(&[y.get(1)?, y.get(1)?.affine(0.0, -9.81)?], 0);
/// let y0 = Tensor::new(&[5.0f64, 0.0], &Device::Cpu)?;
/// let ground = Events::new([Event::component(0, 0.0).falling()]);
/// let sol = solve_events((&solver, &ground), &fall, &y0, (0.0, 9.0), &SaveAt::End)?;
/// let t = sol.event_times.to_vec1::<f64>()?;
/// assert!((t[0] - (10.0f64 / 9.81).sqrt()).abs() < 1e-9);
/// # Ok(())
/// # }
/// ```
pub fn solve_events(
    (solver, events): (&Solver, &Events),
    field: &dyn VectorField,
    y0: &Tensor,
    span: impl Into<Spans>,
    save_at: &SaveAt,
) -> Result<EventSolution> {
    let piece = |y: &Tensor, spans: &Spans, ask: &SaveAt, finder: &mut EventFinder<'_>| {
        Ok((Solution::record(solver, field, y, spans.clone(), ask, finder)?, ()))
    };
    Ok(EventSolution::piecewise((solver, events), y0, (&span.into(), save_at), piece)?.0)
}
