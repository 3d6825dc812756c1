//! The times of stages, on their step's side of a jump.

use super::Stepper;
use crate::{Result, Steps, Time};

impl Stepper {
    /// The time `t0 + c h` in a step from `t0` to `t1`: exact at both ends, and beside a discontinuity by the last
    /// number on the step's side, so that the field sees one branch; a step without length has its own.
    #[inline]
    pub fn time(&self, (t0, t1): (f64, f64), c: f64) -> f64 {
        if c == 0.0 {
            self.beside(t0, t1)
        } else if c == 1.0 {
            self.beside(t1, t0)
        } else {
            t0 + c * (t1 - t0)
        }
    }

    /// The times `t0 + c h` in the steps of all rows.
    pub fn times(&self, steps: &Steps, c: f64) -> Result<Time> {
        match steps.samples() {
            None => Ok(Time::new(self.time(steps.ends(0), c))),
            Some(samples) => {
                let times = (0..steps.rows()).map(|row| self.row_time(steps.ends(row), c));
                Time::of_samples(times.collect(), samples.clone())
            }
        }
    }

    /// The time of a row that may rest: then it is where it rests.
    #[inline]
    pub(crate) fn row_time(&self, (t0, t1): (f64, f64), c: f64) -> f64 {
        if t0 == t1 { t0 } else { self.time((t0, t1), c) }
    }

    /// Whether the field may jump anywhere.
    #[inline]
    pub fn has_jumps(&self) -> bool {
        !self.jump_ts.is_empty()
    }

    /// Whether the field may jump at `t`, so that a slope from one side is no use on the other.
    #[inline]
    pub fn is_jump(&self, t: f64) -> bool {
        self.jump_ts.contains(&t)
    }

    /// The last number before `t` on the side of `towards` if the field may jump at `t`, else `t`.
    #[inline]
    pub(crate) fn beside(&self, t: f64, towards: f64) -> f64 {
        if !self.is_jump(t) {
            return t;
        }
        let (up, near) = (towards > t, t as f32);
        // What fields of single precision make of the jump's own time must lie on the other side.
        let single = f64::from(if up { near.next_up() } else { near.next_down() });
        let inside = if up { single < towards } else { single > towards };
        match self.is_single && inside {
            true => single,
            false if up => t.next_up(),
            false => t.next_down(),
        }
    }
}
