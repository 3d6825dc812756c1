//! What a solve cost.

/// Counters of one solve.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Evaluations of the field.
    pub nfe: usize,
    /// Accepted steps.
    pub accepted: usize,
    /// Rejected steps.
    pub rejected: usize,
    /// Size of the smallest accepted step, in magnitude; 0 without steps.
    pub h_smallest: f64,
    /// Size of the largest accepted step, in magnitude; 0 without steps.
    pub h_largest: f64,
    /// Accepted adaptive steps that reached nine tenths of the method's stability interval: stability and not accuracy
    /// limited their size. If there are many, the problem is stiff for the method.
    pub stability_limited: usize,
    /// Accepted steps by an implicit method.
    pub implicit: usize,
}

impl Stats {
    /// The steps and evaluations of several solves together.
    pub fn total<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.copied().reduce(Self::and).unwrap_or_default()
    }

    /// Whether stability and not accuracy limited most accepted steps: the problem is stiff for the method.
    pub fn is_stiff(&self) -> bool {
        2 * self.stability_limited > self.accepted
    }

    fn and(self, other: Self) -> Self {
        let h_smallest = match (self.accepted, other.accepted) {
            (0, _) => other.h_smallest,
            (_, 0) => self.h_smallest,
            _ => self.h_smallest.min(other.h_smallest),
        };
        Self {
            nfe: self.nfe + other.nfe,
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            h_smallest,
            h_largest: self.h_largest.max(other.h_largest),
            stability_limited: self.stability_limited + other.stability_limited,
            implicit: self.implicit + other.implicit,
        }
    }

    /// Counts an accepted step of size `h`.
    pub fn accept(&mut self, h: f64) {
        let h = h.abs();
        self.h_smallest = if self.accepted == 0 { h } else { self.h_smallest.min(h) };
        self.h_largest = self.h_largest.max(h);
        self.accepted += 1;
    }
}
