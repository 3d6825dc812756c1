//! The time handed to a field.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor, Var, bail};

/// The time at which a field is evaluated: a number for ordinary use, a tensor for fields whose
/// gradient with respect to time is wanted.
///
/// Times are `f64` whatever the state's dtype; only [`Time::tensor`] rounds to it.
///
/// # Example
/// ```
/// use aca_core::Time;
/// use candle_core::{Device, Tensor};
///
/// # fn main() -> candle_core::Result<()> {
/// let y = Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu)?;
/// let t = Time::new(0.25);
/// assert_eq!(t.value(), 0.25);
/// assert_eq!(t.tensor(&y)?.to_scalar::<f32>()?, 0.25);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Time {
    value: f64,
    /// Whether the field asked for the number.
    read: AtomicBool,
    /// Whether a graph over the tensor of this time leaves out that the field asked for the number.
    hidden: AtomicBool,
    clocks: Option<Clocks>,
    tracked: bool,
    leaf: OnceLock<Tensor>,
}

/// The times of a batch whose samples step on their own.
#[derive(Clone, Debug)]
struct Clocks {
    ts: Arc<[f64]>,
    samples: Arc<[usize]>,
    /// Whether the field asked for one number where the samples' times differ.
    misread: Arc<AtomicBool>,
}

impl Time {
    /// Returns the time `value`, which candle does not differentiate.
    pub fn new(value: f64) -> Self {
        Self {
            value,
            read: false.into(),
            hidden: false.into(),
            clocks: None,
            tracked: false,
            leaf: OnceLock::new(),
        }
    }

    /// Returns the times `ts` of the rows of a batch, which hold the given samples.
    ///
    /// # Errors
    /// [`Error::NoTimes`](crate::Error::NoTimes) for an empty batch.
    pub fn of_samples(ts: Arc<[f64]>, samples: Arc<[usize]>) -> crate::Result<Self> {
        let &value = ts.first().ok_or(crate::Error::NoTimes)?;
        let clocks = Some(Clocks { ts, samples, misread: Arc::default() });
        Ok(Self { clocks, ..Self::new(value) })
    }

    /// Returns the time `value` whose tensor is a variable of candle's graph.
    ///
    /// The default [`VectorField::linearize`](crate::VectorField::linearize) evaluates the field
    /// at such a time, so that the cotangent of `t` is there exactly when the field used it.
    pub fn tracked(value: f64) -> Self {
        Self { tracked: true, ..Self::new(value) }
    }

    /// Returns the time `value` whose tensor in candle's graph is the scalar `tensor`.
    pub fn traced(value: f64, tensor: Tensor) -> Self {
        Self { tracked: true, leaf: OnceLock::from(tensor), ..Self::new(value) }
    }

    /// Returns the same time, or times, with a new tensor that is a variable of candle's graph.
    pub fn track(&self) -> Self {
        let clocks = self.clocks.clone();
        Self { clocks, ..Self::tracked(self.value) }
    }

    /// Returns the time as a number. Candle does not see how a field uses it. That matters for gradients with respect
    /// to times, and for strategies that differentiate the step sizes; both refuse such a field.
    ///
    /// Samples that step on their own are at different times, so there is no such number: the solve then ends with
    /// [`Error::TimesDiffer`](crate::Error::TimesDiffer).
    pub fn value(&self) -> f64 {
        self.read.store(true, Ordering::Relaxed);
        if let Some(clocks) = &self.clocks
            && clocks.ts.iter().any(|&t| t != self.value)
        {
            clocks.misread.store(true, Ordering::Relaxed);
        }
        self.value
    }

    /// Returns the times as numbers: one, or one for each row of a batch whose samples step on their own. As with
    /// [`Time::value`], candle does not see how the field uses them, so a pullback must return their cotangent.
    pub fn values(&self) -> &[f64] {
        self.read.store(true, Ordering::Relaxed);
        self.clocks.as_ref().map_or(std::slice::from_ref(&self.value), |clocks| &clocks.ts)
    }

    /// For fields that reshape a state like `y` to `count` states per row: calls `work` with the time of each row
    /// repeated `count` times. That time is in candle's graph if this one is, and reading it counts as reading this
    /// one.
    ///
    /// # Errors
    /// Whatever `work` returns.
    pub fn repeated<R>(
        &self,
        count: usize,
        y: &Tensor,
        work: impl FnOnce(&Self) -> Result<R>,
    ) -> Result<R> {
        let Some(own) = self.clocks.as_ref().filter(|_| count > 1) else { return work(self) };
        let each = |i: usize| own.samples[i / count] * count + i % count;
        let clocks = Clocks {
            ts: own.ts.iter().flat_map(|&t| std::iter::repeat_n(t, count)).collect(),
            samples: (0..own.samples.len() * count).map(each).collect(),
            misread: own.misread.clone(),
        };
        let mut all = Self { clocks: Some(clocks), ..Self::new(self.value) };
        if self.tracked {
            let leaf = self.tensor(y)?.reshape((own.ts.len(), 1))?.repeat((1, count))?;
            (all.tracked, all.leaf) = (true, OnceLock::from(leaf.flatten_all()?));
        }
        let done = work(&all);
        self.read.fetch_or(all.was_read(), Ordering::Relaxed);
        done
    }

    /// Returns which samples of the batch the state's rows hold, where samples step on their
    /// own; fields that [take rows](crate::VectorField::supports_row_subset) may see some of them only.
    pub fn samples(&self) -> Option<&Arc<[usize]>> {
        self.clocks.as_ref().map(|clocks| &clocks.samples)
    }

    /// Refuses a state of one dimension if samples step on their own. For fields whose states are the last dimension:
    /// the numbers of the state would be taken for samples.
    ///
    /// # Errors
    /// For a `y` of one dimension.
    pub fn expect_batch(&self, y: &Tensor) -> Result<()> {
        if y.rank() < 2 && self.clocks.is_some() {
            bail!(
                "samples that step on their own lie along the first of at least two dimensions, but y has shape {:?}; reshape it to [1, {}]",
                y.dims(),
                y.elem_count()
            );
        }
        Ok(())
    }

    /// Whether the field asked for [`Time::value`].
    pub fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }

    /// Notes that the field asked for the number where its derivative was found by a graph over the tensor.
    pub(crate) fn hide(&self) {
        self.hidden.store(true, Ordering::Relaxed);
    }

    /// Whether a cotangent of the time, `t_bar`, that the field's pullback gave leaves something out: the field asked
    /// for the number, and its derivative was found by candle or has no part for the time.
    pub fn hides_from(&self, t_bar: Option<&Tensor>) -> bool {
        self.hidden.load(Ordering::Relaxed) || (self.was_read() && t_bar.is_none())
    }

    /// Whether the field asked for one number where the samples' times differ.
    pub(crate) fn was_misread(&self) -> bool {
        self.clocks.as_ref().is_some_and(|clocks| clocks.misread.load(Ordering::Relaxed))
    }

    /// Returns the time as a tensor of `like`'s dtype and device, which broadcasts against the
    /// state: a scalar, or `[batch, 1, ..]` where samples step on their own.
    ///
    /// # Errors
    /// Only if the tensor cannot be allocated.
    pub fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        let leaf = match self.leaf.get() {
            Some(leaf) => leaf,
            None => {
                let t = match &self.clocks {
                    None => Tensor::new(self.value, like.device())?,
                    Some(clocks) => Tensor::new(&*clocks.ts, like.device())?,
                };
                let t = if self.tracked { Var::from_tensor(&t)?.into_inner() } else { t };
                self.leaf.get_or_init(|| t)
            }
        };
        let t = leaf.to_dtype(like.dtype())?;
        let Some(clocks) = &self.clocks else { return Ok(t) };
        let mut shape = vec![1; like.rank().max(1)];
        shape[0] = clocks.ts.len();
        t.reshape(shape)
    }

    /// Returns what lies behind the tensor that the field asked for, if it did: a scalar, or `[batch]` where
    /// samples step on their own.
    pub fn leaf(&self) -> Option<&Tensor> {
        self.leaf.get()
    }
}
