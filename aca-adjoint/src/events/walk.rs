//! The way back over the pieces of a solve with events, newest first.

use std::sync::Arc;

use aca_core::kernels::RowTerm;
use aca_core::{Cotangents, Pullback, Result, Time, kernels};
use aca_dense::{Action, Crossing, Piece, Placement, crossings_of, jumping, moments};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use super::tape::{Arriving, EventTape};
use super::weight::Weight;
use crate::params::Accumulator;
use crate::{Backward, GradientError, GradientReport, Gradients, Outputs, TimeGradients};

/// One way back.
pub(crate) struct Walk<'a> {
    pub(super) tape: &'a EventTape,
    pub(super) arriving: Arriving,
    theta: Accumulator<'a>,
    /// Cotangents of the states where the piece walked last starts, a row for each sample.
    pub(super) a: Tensor,
    /// Cotangents of the times there.
    pub(super) t: Vec<f64>,
    nfe: usize,
    report: Option<GradientReport>,
    pub(super) weight: Weight,
    /// Number of the pieces before the one that is walked next.
    left: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tape: &'a EventTape, arriving: Arriving) -> Result<Self> {
        Ok(Self {
            tape,
            theta: Accumulator::new(&tape.params),
            a: arriving.y1.clone(),
            t: vec![0.0; tape.shapes.samples],
            weight: Weight::new(tape, &arriving)?,
            arriving,
            nfe: 0,
            report: None,
            left: tape.pieces.list.len(),
        })
    }

    /// Goes back through a piece.
    pub(crate) fn back(&mut self, piece: &Piece<Arc<dyn Backward>>) -> Result<()> {
        self.left -= 1;
        self.jump(piece)?;
        let lambdas = self.cross(piece)?;
        let (outputs, cotangents) = self.enter(piece, &lambdas)?;
        self.t.fill(0.0);
        if kernels::dot(&cotangents, &cotangents)? == 0.0 {
            self.a = self.a.zeros_like()?;
            return Ok(());
        }
        let want_times = self.starts_move();
        let found = piece.kept.pullback(&outputs, &cotangents, want_times)?;
        self.take(found, want_times)
    }

    /// Whether the times where the next piece to walk starts follow anything.
    fn starts_move(&self) -> bool {
        let before = self.left.checked_sub(1).map(|piece| &self.tape.pieces.list[piece]);
        let moves = |crossing: &Crossing| crossing.acts && crossing.slope.is_some();
        before.is_some_and(|piece| piece.crossings.iter().any(moves))
    }

    fn take(&mut self, found: Gradients, want_times: bool) -> Result<()> {
        self.a = if self.tape.shapes.whole { found.y0.unsqueeze(0)? } else { found.y0 };
        let times: Vec<TimeGradients> = found.times.into_iter().chain(found.sample_times).collect();
        if want_times {
            self.t.iter_mut().zip(&times).for_each(|(t, moved)| *t = moved.t0);
        }
        let mut theta = GradStore::default();
        for (var, gradient) in self.tape.own.vars().iter().zip(found.theta) {
            theta.insert(var, gradient);
        }
        self.theta.add_store(&theta)?;
        self.nfe += found.nfe;
        if let Some(own) = found.report {
            self.report = Some(match self.report.take() {
                Some(newer) => own.and(newer),
                None => own,
            });
        }
        Ok(())
    }

    /// Goes back through the jumps at the end of a piece.
    fn jump(&mut self, piece: &Piece<Arc<dyn Backward>>) -> Result<()> {
        let acts = piece.crossings.iter().filter(|crossing| crossing.acts);
        let after = acts.map(|own| RowTerm { row: own.sample, weight: 1.0, source: own.place });
        let after: Vec<RowTerm> = after.collect();
        if !after.is_empty() {
            self.a = kernels::add_rows(&self.a, &after, &self.arriving.after)?;
        }
        for (event, own) in self.tape.events.list.iter().enumerate() {
            let Action::Jump(jump) = &own.action else { continue };
            let (samples, ts) = jumping(&piece.jumps, event);
            if samples.is_empty() {
                continue;
            }
            let whole = self.tape.shapes.whole;
            let (time, own_rows) = (moments(whole, &ts, &samples)?, |x: &Tensor| match whole {
                true => x.reshape(&self.tape.shapes.state[..]).map_err(Into::into),
                false => kernels::pick_rows(x, &samples),
            });
            let (before, a) = (own_rows(&piece.y1)?, own_rows(&self.a)?);
            let (_, pullback) = aca_core::linearize_by_autograd(|t, y| jump(t, y), &time, &before)?;
            let moved = self.pull(event, &time, &pullback, &a, own.function.has_roots())?;
            for (row, &sample) in samples.iter().enumerate() {
                self.t[sample] += time_part(&moved, row)?;
            }
            let rows = if whole { moved.y.unsqueeze(0)? } else { moved.y };
            self.replace(&samples, &rows)?;
        }
        Ok(())
    }

    /// Applies a pullback, and takes in what it finds for variables.
    pub(super) fn pull(
        &mut self,
        event: usize,
        time: &Time,
        pullback: &Pullback<'_>,
        cotangent: &Tensor,
        moves: bool,
    ) -> Result<Cotangents> {
        let found = pullback.apply(cotangent)?;
        if moves && time.hides_from(found.t.as_ref()) {
            return Err(GradientError::EventTimeRead { event }.into());
        }
        self.theta.add(&found.theta, pullback.graph().as_ref())?;
        Ok(found)
    }

    /// Lays out all cotangents that enter a piece, with where they do.
    fn enter(
        &self,
        piece: &Piece<Arc<dyn Backward>>,
        lambdas: &Tensor,
    ) -> Result<(Outputs, Tensor)> {
        let (mut counts, mut placements, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for sample in 0..self.tape.shapes.samples {
            let mut own: Vec<(Placement, (&Tensor, usize))> = Vec::new();
            if !self.tape.pieces.failed[sample] {
                let outputs = piece.outputs[sample].iter();
                own.extend(outputs.map(|&(row, placement)| (placement, (&self.arriving.ys, row))));
                let range = crossings_of(&piece.crossings, sample);
                let crossings = &piece.crossings[range.clone()];
                let crossed = crossings.iter().map(|crossing| crossing.placement).zip(range);
                own.extend(crossed.map(|(placement, row)| (placement, (lambdas, row))));
                if !crossings.iter().any(|crossing| crossing.acts) {
                    own.push((piece.ends[sample], (&self.a, sample)));
                }
                own.sort_by(|a, b| {
                    (a.0.step, a.0.s)
                        .partial_cmp(&(b.0.step, b.0.s))
                        .unwrap_or(std::cmp::Ordering::Equal)
                });
            }
            counts.push(own.len());
            for (placement, row) in own {
                placements.push(placement);
                rows.push(row);
            }
        }
        let cotangents = match rows.is_empty() {
            true => self.a.narrow(0, 0, 0)?,
            false => kernels::gather_rows(&rows)?,
        };
        Ok((Outputs::new(&counts, placements), cotangents))
    }

    /// Replaces the cotangents of some samples by rows.
    fn replace(&mut self, samples: &[usize], rows: &Tensor) -> Result<()> {
        let mut sources: Vec<(&Tensor, usize)> =
            (0..self.tape.shapes.samples).map(|i| (&self.a, i)).collect();
        for (row, &sample) in samples.iter().enumerate() {
            sources[sample] = (rows, row);
        }
        self.a = kernels::gather_rows(&sources)?;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Gradients> {
        let y0 = if self.tape.shapes.whole { self.a.squeeze(0)? } else { self.a };
        let report = self.report.map(|report| {
            let loss_weight = self.weight.of_loss(&report.totals.sizes);
            let unreached = self.theta.unreached();
            GradientReport { loss_weight, unreached, ..report }.judge(self.tape.untrusted)
        });
        let report = report.transpose()?;
        let found = Gradients::new(y0, self.theta.finish()?, self.nfe);
        Ok(Gradients { report, ..found })
    }
}

/// The cotangent of a row's time.
fn time_part(cotangents: &Cotangents, row: usize) -> Result<f64> {
    let Some(t) = &cotangents.t else { return Ok(0.0) };
    let all = t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(all.get(row).copied().unwrap_or_default())
}
