//! Element types.

use candle_core::WithDType;

/// The number types of states: `f32` and `f64`.
pub trait Real: WithDType {
    /// Square root.
    fn sqrt(self) -> Self;
}

impl Real for f32 {
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
}

impl Real for f64 {
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
}
