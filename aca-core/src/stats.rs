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
    /// Accepted steps of error control that reached nine tenths of the method's stability interval: their size was
    /// ruled by stability, not by accuracy. Many of them mean that the problem is stiff for the method.
    pub stability_limited: usize,
}

impl Stats {
    /// Counts an accepted step of size `h`.
    pub fn accept(&mut self, h: f64) {
        let h = h.abs();
        self.h_smallest = if self.accepted == 0 { h } else { self.h_smallest.min(h) };
        self.h_largest = self.h_largest.max(h);
        self.accepted += 1;
    }
}
