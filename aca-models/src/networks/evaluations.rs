//! What the ODE blocks of a network cost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aca_core::Stats;

/// Counters of ODE blocks since they were last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluations {
    /// Solves, one per block and a forward pass.
    pub solves: usize,
    /// Evaluations of fields by forward solves.
    pub nfe_forward: usize,
    /// Evaluations of fields by backward passes.
    pub nfe_backward: usize,
    /// Accepted steps.
    pub accepted: usize,
    /// Rejected steps.
    pub rejected: usize,
    /// Size of the smallest accepted step, in magnitude; 0 without steps.
    pub h_smallest: f64,
    /// Size of the largest accepted step, in magnitude; 0 without steps.
    pub h_largest: f64,
    /// Sum of the sizes of all accepted steps, in magnitude.
    pub length: f64,
}

impl Evaluations {
    /// The mean size of accepted steps, in magnitude; 0 without steps.
    pub fn h_mean(&self) -> f64 {
        if self.accepted == 0 { 0.0 } else { self.length / self.accepted as f64 }
    }

    /// The counters of both.
    pub fn with(self, other: Self) -> Self {
        let smallest = match (self.accepted, other.accepted) {
            (0, _) => other.h_smallest,
            (_, 0) => self.h_smallest,
            _ => self.h_smallest.min(other.h_smallest),
        };
        Self {
            solves: self.solves + other.solves,
            nfe_forward: self.nfe_forward + other.nfe_forward,
            nfe_backward: self.nfe_backward + other.nfe_backward,
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            h_smallest: smallest,
            h_largest: self.h_largest.max(other.h_largest),
            length: self.length + other.length,
        }
    }
}

/// Counts what one block does.
#[derive(Default)]
pub(super) struct Meter {
    solving: AtomicBool,
    backward: AtomicUsize,
    sums: Mutex<Evaluations>,
}

impl Meter {
    /// Notes a forward solve under way, whose evaluations its statistics will tell.
    pub(super) fn solving(&self, solving: bool) {
        self.solving.store(solving, Ordering::Relaxed);
    }

    /// Counts an evaluation of the field.
    pub(super) fn evaluated(&self) {
        if !self.solving.load(Ordering::Relaxed) {
            self.backward.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds a finished forward solve over `span`.
    pub(super) fn solved(&self, stats: Stats, span: (f64, f64)) {
        let Stats { nfe, accepted, rejected, h_smallest, h_largest, .. } = stats;
        let (solves, length) = (1, (span.1 - span.0).abs());
        let (nfe_forward, nfe_backward) = (nfe, 0);
        let mut sums = self.sums();
        *sums = sums.with(Evaluations {
            solves,
            nfe_forward,
            nfe_backward,
            accepted,
            rejected,
            h_smallest,
            h_largest,
            length,
        });
    }

    pub(super) fn read(&self) -> Evaluations {
        Evaluations { nfe_backward: self.backward.load(Ordering::Relaxed), ..*self.sums() }
    }

    pub(super) fn reset(&self) {
        self.backward.store(0, Ordering::Relaxed);
        *self.sums() = Evaluations::default();
    }

    fn sums(&self) -> MutexGuard<'_, Evaluations> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
