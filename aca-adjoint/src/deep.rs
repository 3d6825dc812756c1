//! Backward passes through deep graphs.

use aca_core::{Error, Result};
use candle_core::Device;

/// Stack for one node of a graph: candle's walk recurses once a node, with frames of some hundred
/// bytes in release builds and about a kilobyte in others.
const BYTES_PER_NODE: usize = 2048;

/// Largest stack to ask for; only what is touched becomes memory.
const LARGEST_STACK: usize = 8 << 30;

/// Nodes that a walk on the caller's stack may meet; about 8000 overflowed two megabytes in a release
/// build.
const CALLERS_NODES: usize = 4096;

/// Refuses a graph too deep to be walked even on a stack of its own.
///
/// # Errors
/// [`Error::NaiveTooDeep`].
pub(crate) fn check(steps: usize, nodes_per_step: usize) -> Result<()> {
    let limit = LARGEST_STACK / (BYTES_PER_NODE * nodes_per_step);
    if steps <= limit { Ok(()) } else { Err(Error::NaiveTooDeep { limit }) }
}

/// Refuses a graph that candle may not survive walking on the caller's stack, of which a spawned
/// thread has two megabytes.
///
/// # Errors
/// [`Error::NaiveTooDeep`].
pub(crate) fn check_callers_stack(steps: usize, nodes_per_step: usize) -> Result<()> {
    let limit = CALLERS_NODES / nodes_per_step;
    if steps <= limit { Ok(()) } else { Err(Error::NaiveTooDeep { limit }) }
}

/// Runs `work` on a thread whose stack holds a walk over `nodes` nodes of tensors on `device`.
///
/// A GPU opened by candle gives every thread a stream of its own, so each thread finishes before the other
/// goes on.
pub(crate) fn run<T: Send>(
    device: &Device,
    nodes: usize,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    device.synchronize()?;
    let work = || {
        let done = work()?;
        device.synchronize()?;
        Ok(done)
    };
    let stack = (nodes.saturating_mul(BYTES_PER_NODE) + (4 << 20)).min(LARGEST_STACK);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::from(candle_core::Error::wrap(error)))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
