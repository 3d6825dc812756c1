//! The recursion over the slopes of a step, forward and back.

use super::Stepper;
use crate::scheme::{Half, MixedStages, StageCotangents};
use crate::{Error, Method, Result};

impl Stepper {
    /// The half of a state that slope `i` of a splitting belongs to.
    #[inline]
    fn half(&self, i: usize) -> Option<Half> {
        match (&self.method, i < self.stages(), i % 2) {
            (Method::Symplectic(_), true, 0) => Some(Half::Second),
            (Method::Symplectic(_), true, _) => Some(Half::First),
            _ => None,
        }
    }

    /// Appends slopes to a step until it has `count`, or all of the method's own where a scheme gives no fewer.
    #[inline]
    pub(crate) fn fill(&self, stages: &mut impl MixedStages, count: usize) -> Result<()> {
        let own = self.stages();
        match &self.method {
            Method::RungeKutta(_) if self.diagonal.is_empty() => {
                for i in stages.known()..count {
                    stages.evaluate(self.c[i], &self.rows[i], None)?;
                }
            }
            Method::RungeKutta(_) => {
                for i in stages.known()..count.min(own) {
                    match self.diagonal[i] {
                        0.0 => stages.evaluate(self.c[i], &self.rows[i], None)?,
                        gamma => {
                            let guess = &self.guesses[i];
                            stages.solve(self.c[i], gamma, &self.rows[i][..i], guess)?;
                        }
                    }
                }
            }
            Method::Leapfrog if count == own => {
                for i in stages.known()..own - 1 {
                    stages.evaluate(self.c[i], &self.rows[i], None)?;
                }
                // v1 = 2 u - v0.
                if stages.known() < own {
                    stages.mix(&self.rows[own - 1])?;
                }
            }
            Method::Custom(scheme) if stages.known() < own => {
                scheme.fill(stages)?;
                if stages.known() != own {
                    let (got, method) = (stages.known(), self.method.name().to_owned());
                    return Err(Error::SchemeStages { method, got, expected: own });
                }
            }
            _ => {}
        }
        for i in stages.known()..count {
            stages.evaluate(self.c[i], &self.rows[i], self.half(i))?;
        }
        Ok(())
    }

    /// Appends the first slope: the method's own, or the field's at the start where no slope is known before a step.
    pub(crate) fn start(&self, stages: &mut impl MixedStages) -> Result<()> {
        match self.knows_first() {
            true => self.fill(stages, 1),
            false => stages.evaluate(0.0, &[], None),
        }
    }

    /// Pulls cotangents of the first `count` slopes of a step back.
    #[inline]
    pub fn pull(&self, cotangents: &mut impl StageCotangents, count: usize) -> Result<()> {
        let own = if let Method::Custom(_) = self.method { self.stages() } else { 0 };
        for i in (own..count).rev() {
            match self.diagonal.get(i) {
                Some(&gamma) if gamma != 0.0 => cotangents.solve(i, gamma, &self.columns[i])?,
                _ => cotangents.pull(i, &self.columns[i])?,
            }
        }
        match &self.method {
            Method::Custom(scheme) => scheme.pull(cotangents),
            _ => Ok(()),
        }
    }
}
