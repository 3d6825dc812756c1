//! Looking for numbers that are not finite without waiting for a GPU.

use candle_core::Tensor;

use crate::kernels::cuda::Watch;
use crate::{Error, Result};

/// Looks at slopes and states of a solve: at once on the CPU; a GPU is told to look and asked at the end.
pub(crate) struct FiniteCheck {
    watch: Option<Watch>,
    /// What the GPU was told to look at.
    looks: Vec<Look>,
}

/// A slope at the start of a step, or the state at its end.
struct Look {
    what: &'static str,
    t: f64,
    h: f64,
}

impl FiniteCheck {
    /// Prepares for states like `y`. Samples that step on their own are looked at at once, since each has its own end.
    pub(crate) fn new(y: &Tensor, whole: bool) -> Result<Self> {
        Ok(Self { watch: if whole { Watch::over(y)? } else { None }, looks: Vec::new() })
    }

    /// Whether looks are answered at the end only.
    #[inline]
    pub(crate) fn is_deferred(&self) -> bool {
        self.watch.is_some()
    }

    /// Has the GPU look at `x`, of a step of size `h` from `t`.
    pub(crate) fn look(
        &mut self,
        what: &'static str,
        (t, h): (f64, f64),
        x: &Tensor,
    ) -> Result<()> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        self.looks.push(Look { what, t, h });
        watch.look(x)
    }

    /// Tells of the first look that found something.
    pub(crate) fn finish(&self) -> Result<()> {
        let Some(watch) = self.watch.as_ref().filter(|_| !self.looks.is_empty()) else {
            return Ok(());
        };
        let Some((look, index)) = watch.read()? else { return Ok(()) };
        match self.looks.get(look) {
            Some(&Look { what, t, h }) => Err(Error::NonFinite { what, t, h, index }),
            None => Ok(()),
        }
    }
}
