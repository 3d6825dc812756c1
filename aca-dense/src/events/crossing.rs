//! An event that happened.

use std::ops::Range;

use aca_core::{Cotangents, Result, Time, kernels};
use candle_core::{DType, Tensor};

use crate::Placement;

/// An event that happened, outside candle's graph.
#[derive(Clone, Debug)]
pub struct Crossing {
    /// The sample; 0 for a state that steps as a whole.
    pub sample: usize,
    /// Which of the events.
    pub event: usize,
    /// Its place among all that happened in the solve.
    pub place: usize,
    /// When.
    pub t: f64,
    /// Where among the accepted steps of its piece.
    pub placement: Placement,
    /// The state just before, `[..state]`, or `[1, ..state]` of a sample that steps on its own.
    pub y: Tensor,
    /// The interpolant's slope there, where the time moves with the state: not at given times and ends of steps.
    pub slope: Option<Tensor>,
    /// How far its function goes within the step, by the step's size.
    pub pace: f64,
    /// Whether it ends the piece of the solve that it lies in.
    pub acts: bool,
}

impl Crossing {
    /// The time as a function sees it.
    ///
    /// # Errors
    /// Never for a crossing that was found.
    pub fn time(&self, whole: bool) -> Result<Time> {
        moments(whole, &[self.t], &[self.sample])
    }
}

/// Where the events of one sample lie among those of a piece, which are one sample's after the other's.
pub fn crossings_of(crossings: &[Crossing], sample: usize) -> Range<usize> {
    let before = |sample: usize| crossings.partition_point(|crossing| crossing.sample < sample);
    before(sample)..before(sample + 1)
}

/// The times of states: of one whole state, or one for each row.
///
/// # Errors
/// [`Error::NoTimes`](aca_core::Error::NoTimes) for no rows.
pub fn moments(whole: bool, ts: &[f64], samples: &[usize]) -> Result<Time> {
    match whole {
        true => Ok(Time::new(ts.first().copied().unwrap_or_default())),
        false => Time::of_samples(ts.into(), samples.into()),
    }
}

/// How fast a function moves along the solution: `g_y . y' + g_t`.
#[derive(Clone, Copy, Debug)]
pub struct Motion {
    /// The rate.
    pub rate: f64,
    /// `|g_y| |y'| + |g_t|`: along the surface the rate is small beside it.
    pub size: f64,
    /// What rounding may make of a rate that is zero.
    pub noise: f64,
}

impl Motion {
    /// What rounding may make of a function that is zero at the state `y`, given the cotangents of its inputs.
    ///
    /// # Errors
    /// Only if candle cannot read the numbers.
    pub fn rounding(cotangents: &Cotangents, y: &Tensor, t: f64) -> Result<f64> {
        let g_y = cotangents.y.to_dtype(y.dtype())?.contiguous()?;
        let terms = kernels::dot(&g_y.abs()?, &y.abs()?.contiguous()?)?;
        Ok(4.0 * (epsilon(y.dtype()) * terms + f64::EPSILON * (time_rate(cotangents)? * t).abs()))
    }

    /// Joins the cotangents of one function's inputs to the solution's slope there.
    ///
    /// # Errors
    /// Only if candle cannot read the numbers.
    pub fn new(cotangents: &Cotangents, slope: &Tensor) -> Result<Self> {
        let g_t = time_rate(cotangents)?;
        let g_y = cotangents.y.to_dtype(slope.dtype())?.contiguous()?;
        let size = |x: &Tensor| Ok::<_, aca_core::Error>(kernels::dot(x, x)?.sqrt());
        let terms = kernels::dot(&g_y.abs()?, &slope.abs()?)? + g_t.abs();
        Ok(Self {
            rate: kernels::dot(&g_y, slope)? + g_t,
            size: size(&g_y)? * size(slope)? + g_t.abs(),
            noise: 4.0 * epsilon(slope.dtype()) * terms,
        })
    }
}

/// The part of the cotangents that belongs to time.
fn time_rate(cotangents: &Cotangents) -> Result<f64> {
    Ok(match &cotangents.t {
        Some(g_t) => g_t.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?,
        None => 0.0,
    })
}

/// The unit of rounding.
fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F32 { f32::EPSILON.into() } else { f64::EPSILON }
}
