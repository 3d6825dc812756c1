//! Cotangents at the events of a piece.
//!
//! With cotangents `G` of the state and `T` of the time at an event, `lambda = G - g_y (G . y' + T) / (g_y . y' + g_t)`
//! enters as that of an output at a fixed fraction of its step, and the parameters of `g` get `-g_theta` times the same
//! quotient. Behind a jump, `G` and `T` are what its pullback makes of the cotangents of the next piece's start.

use std::sync::Arc;

use aca_core::kernels::RowTerm;
use aca_core::{Result, kernels};
use aca_dense::{Crossing, EventFunction, Motion, Piece};
use candle_core::{DType, Tensor};

use super::walk::Walk;
use crate::{Backward, GradientError};

impl Walk<'_> {
    /// The cotangents that the events of a piece enter with, `[crossings, ..state]`.
    pub(super) fn cross(&mut self, piece: &Piece<Arc<dyn Backward>>) -> Result<Tensor> {
        if piece.crossings.is_empty() {
            return Ok(self.a.narrow(0, 0, 0)?);
        }
        let arrived = self.arrive(piece)?;
        let width = arrived.elem_count() / piece.crossings.len();
        let mut all = numbers(&arrived)?;
        for (crossing, g) in piece.crossings.iter().zip(all.chunks_exact_mut(width.max(1))) {
            if self.tape.pieces.failed[crossing.sample] {
                g.fill(0.0);
            } else if let Some(slope) = &crossing.slope {
                let moved = if crossing.acts { self.t[crossing.sample] } else { 0.0 };
                let t = self.arriving.times[crossing.place] + moved;
                self.cross_surface(crossing, slope, (g, t))?;
            }
        }
        Ok(Tensor::from_vec(all, arrived.shape(), arrived.device())?.to_dtype(arrived.dtype())?)
    }

    /// The cotangents of the states at the events of a piece.
    fn arrive(&self, piece: &Piece<Arc<dyn Backward>>) -> Result<Tensor> {
        let before = piece.crossings.iter().map(|own| (&self.arriving.before, own.place));
        let (mut behind, mut moving, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for (row, own) in piece.crossings.iter().enumerate() {
            let term = |source| RowTerm { row, weight: 1.0, source };
            match own.acts {
                true => behind.push(term(own.sample)),
                false => after.push(term(own.place)),
            }
            moving.extend(piece.moving[own.sample].filter(|_| own.acts).map(term));
        }
        let g = kernels::gather_rows(&before.collect::<Vec<_>>())?;
        let g = kernels::add_rows(&g, &behind, &self.a)?;
        let g = kernels::add_rows(&g, &after, &self.arriving.after)?;
        kernels::add_rows(&g, &moving, &self.arriving.ys)
    }

    /// Turns the cotangents of state and time at a crossing into the one that it enters with.
    fn cross_surface(
        &mut self,
        crossing: &Crossing,
        slope: &Tensor,
        (g, t): (&mut [f64], f64),
    ) -> Result<()> {
        let (event, y, slopes) = (crossing.event, &crossing.y, numbers(slope)?);
        let along = t + g.iter().zip(&slopes).map(|(g, slope)| g * slope).sum::<f64>();
        if along == 0.0 {
            return Ok(());
        }
        let own = self.arriving.times[crossing.place];
        let function = &self.tape.events.list[event].function;
        if let &EventFunction::Component { index, .. } = function {
            let size = slopes.iter().map(|x| x * x).sum::<f64>().sqrt();
            check_rate(crossing, slopes[index], size)?;
            self.weight.add_time(crossing.sample, (own / slopes[index]).abs());
            g[index] -= along / slopes[index];
            return Ok(());
        }
        let whole = self.tape.shapes.whole;
        let time = crossing.time(whole)?;
        let (value, pullback) = function.linearize(event, &time, y, (!whole).then_some(1))?;
        let one = pullback.apply(&value.ones_like()?)?;
        let Motion { rate, size, .. } = Motion::new(&one, slope)?;
        if time.hides_from(one.t.as_ref()) {
            return Err(GradientError::EventTimeRead { event }.into());
        }
        check_rate(crossing, rate, size)?;
        let g_y = one.y.contiguous()?;
        let norm = kernels::dot(&g_y, &g_y)?.sqrt();
        self.weight.add_time(crossing.sample, (own / rate).abs() * norm);
        let weight = value.ones_like()?.affine(-along / rate, 0.0)?;
        let moved = numbers(&self.pull(event, &time, &pullback, &weight, true)?.y)?;
        g.iter_mut().zip(&moved).for_each(|(g, moved)| *g += moved);
        Ok(())
    }
}

/// Refuses a rate that is none beside its terms, or beside how far the function goes in the step.
fn check_rate(crossing: &Crossing, rate: f64, size: f64) -> Result<()> {
    let (event, t, size) = (crossing.event, crossing.t, size.max(crossing.pace));
    match rate.abs() > grazing(crossing.y.dtype()) * size {
        true => Ok(()),
        false => Err(GradientError::GrazingEvent { event, t, rate, size }.into()),
    }
}

/// Part of `|g_y| |y'| + |g_t|`, or of the mean rate within the step, below which a rate counts as none. A surface that is
/// only just reached is met at a rate of the square root of what it is passed by: where that is some rounding, nothing is left
/// of the time.
fn grazing(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 10.0 * f64::from(f32::EPSILON).sqrt(),
        _ => 10.0 * f64::EPSILON.sqrt(),
    }
}

/// The numbers of a tensor, in double precision.
fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}
