//! What a solve with events keeps for its backward pass.

use std::sync::{Arc, Mutex};

use aca_core::{Fingerprint, Result};
use aca_dense::{EventSolution, Events, Pieces};
use candle_core::{DType, Tensor};

use super::walk::Walk;
use crate::attach::Pull;
use crate::{Backward, GradientError, GradientReport, Gradients, Params, Untrusted};

/// What a solve with events keeps for its backward pass.
pub(crate) struct EventTape {
    /// The parameters of the field.
    pub(crate) own: Params,
    /// Those and the variables that functions and jumps read.
    pub(crate) params: Params,
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) events: Events,
    pub(crate) pieces: Pieces<Arc<dyn Backward>>,
    pub(crate) shapes: Shapes,
    pub(crate) report: Arc<Mutex<Option<GradientReport>>>,
    pub(crate) untrusted: Untrusted,
}

impl Pull for EventTape {
    fn pull(&self, cotangents: &Tensor, _want_times: bool) -> Result<Gradients> {
        self.params.check_unchanged(&self.fingerprints)?;
        let arriving = self.shapes.cotangents(cotangents)?;
        let mut walk = Walk::new(self, arriving)?;
        for piece in self.pieces.list.iter().rev() {
            walk.back(piece)?;
        }
        let found = walk.finish()?;
        if let Ok(mut report) = self.report.lock() {
            report.clone_from(&found.report);
        }
        Ok(found)
    }
}

/// How all tensors of a solution lie in one list of numbers: outputs, ends, states before and after events, times.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    pub(crate) whole: bool,
    dtype: DType,
    /// Of outputs and ends.
    ys: Vec<usize>,
    y1: Vec<usize>,
    /// Of one sample's state.
    pub(crate) state: Vec<usize>,
    pub(crate) samples: usize,
    outputs: usize,
    events: usize,
}

/// Cotangents of a solution's tensors, rows of states each.
pub(crate) struct Arriving {
    pub(crate) ys: Tensor,
    pub(crate) y1: Tensor,
    pub(crate) before: Tensor,
    pub(crate) after: Tensor,
    pub(crate) times: Vec<f64>,
}

impl Shapes {
    pub(crate) fn of(sol: &EventSolution, whole: bool) -> Self {
        Self {
            whole,
            dtype: sol.y1.dtype(),
            ys: sol.ys.dims().to_vec(),
            y1: sol.y1.dims().to_vec(),
            state: sol.y1.dims()[usize::from(!whole)..].to_vec(),
            samples: sol.samples.len(),
            outputs: sol.layout().len(),
            events: sol.len(),
        }
    }

    /// All tensors in one, in double precision, which holds states of single precision without loss.
    pub(crate) fn join(&self, sol: &EventSolution) -> Result<Tensor> {
        let parts = [&sol.ys, &sol.y1, &sol.states_before, &sol.states_after, &sol.event_times];
        let flat = parts.into_iter().filter(|part| part.elem_count() > 0);
        let flat = flat.map(|part| part.flatten_all()?.to_dtype(DType::F64));
        Ok(Tensor::cat(&flat.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }

    /// Numbers of a state.
    fn width(&self) -> usize {
        self.state.iter().product()
    }

    /// The rows of the parts.
    fn rows(&self) -> [usize; 4] {
        [self.outputs, self.samples, self.events, self.events]
    }

    /// The four parts that are states, as rows of them.
    fn parts(&self, joined: &Tensor) -> Result<[Tensor; 4]> {
        let mut start = 0;
        let mut part = |rows: usize| {
            let flat = joined.narrow(0, start, rows * self.width())?;
            start += rows * self.width();
            flat.to_dtype(self.dtype)?.reshape([&[rows], &self.state[..]].concat())
        };
        let [ys, y1, before, after] = self.rows();
        Ok([part(ys)?, part(y1)?, part(before)?, part(after)?])
    }

    fn times(&self, joined: &Tensor) -> Result<Tensor> {
        let start = self.rows().iter().sum::<usize>() * self.width();
        Ok(joined.narrow(0, start, self.events)?)
    }

    /// Puts the parts of `joined` into a solution.
    pub(crate) fn split(&self, joined: &Tensor, sol: &mut EventSolution) -> Result<()> {
        let [ys, y1, before, after] = self.parts(joined)?;
        (sol.ys, sol.y1) = (ys.reshape(&self.ys[..])?, y1.reshape(&self.y1[..])?);
        (sol.states_before, sol.states_after) = (before, after);
        sol.event_times = self.times(joined)?;
        Ok(())
    }

    /// Takes cotangents apart.
    fn cotangents(&self, joined: &Tensor) -> Result<Arriving> {
        let joined = joined.detach().contiguous()?;
        let expected = self.rows().iter().sum::<usize>() * self.width() + self.events;
        if joined.elem_count() != expected {
            let (got, expected) = (joined.dims().to_vec(), vec![expected]);
            return Err(GradientError::CotangentShape { got, expected }.into());
        }
        let [ys, y1, before, after] = self.parts(&joined)?;
        let times = self.times(&joined)?.to_vec1()?;
        Ok(Arriving { ys, y1, before, after, times })
    }
}
