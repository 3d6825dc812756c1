//! Stacks for deep graphs, which candle walks and drops by recursion, once per node.

use std::cell::Cell;

use candle_core::Device;

use crate::{Error, Result};

/// Stack for one node of a graph: candle's walk has frames of some hundred bytes in release builds and of
/// about a kilobyte in others.
const BYTES_PER_NODE: usize = 2048;

/// Largest stack to ask for; only what is touched becomes memory.
const LARGEST_STACK: usize = 8 << 30;

/// Nodes that an ordinary thread may meet in a row; about 8000 overflowed the two megabytes of a spawned one
/// in a release build.
const CALLERS_NODES: usize = 4096;

/// The part of a large stack for the graph of a solve: those of its derivatives are some times as deep.
const SHARE: usize = 4;

thread_local! {
    static LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread with a stack of 8 GiB and returns its result. Only the part of the stack that is used takes
/// memory.
///
/// Candle walks and drops a graph by recursion, once per node, and some thousand nodes in a row overflow the stack of
/// an ordinary thread, which ends the process. Build, differentiate and drop deep graphs in here: those of thousands of
/// solves in a chain, of [`Solver::trace`](crate::Solver::trace), of second derivatives through a long solve. On other
/// threads solves refuse such graphs. Drop the rest of a graph here too: `with_large_stack(move || drop(loss))`.
///
/// If candle itself opened the GPU, each thread has its own stream: synchronise the device before and at the end of
/// `work`. This is not needed for a GPU opened by [`kernels::cuda::device`](crate::kernels::cuda::device).
///
/// # Errors
/// [`Error::LargeStack`] when the system refuses such a stack. `work` may return a `Result` itself.
///
/// # Example
/// ```
/// use aca_core::with_large_stack;
/// use candle_core::{Device, Tensor, Var};
///
/// # fn main() -> aca_core::Result<()> {
/// let slope = with_large_stack(|| -> aca_core::Result<f64> {
///     let x = Var::new(1f64, &Device::Cpu)?;
///     let end = (0..50_000).try_fold(x.as_tensor().clone(), |y, _| y.affine(1.0, 1.0))?;
///     let slope = end.backward()?.get(&x).map(Tensor::to_scalar::<f64>).transpose()?;
///     Ok(slope.unwrap_or_default())
/// })??;
/// assert_eq!(slope, 1.0);
/// # Ok(())
/// # }
/// ```
pub fn with_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    if LARGE.get() {
        return Ok(work());
    }
    on_stack(LARGEST_STACK, || {
        LARGE.set(true);
        work()
    })
}

/// Runs `work` on a stack that holds a walk over `nodes` nodes of tensors on `device`, or on the largest there
/// is.
///
/// A GPU opened by candle gives every thread a stream of its own, so each thread finishes before the other
/// goes on.
///
/// # Errors
/// Those of `work`; [`Error::LargeStack`].
pub fn walk<T: Send>(
    device: &Device,
    nodes: usize,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    if LARGE.get() {
        return work();
    }
    device.synchronize()?;
    let stack = nodes.saturating_mul(BYTES_PER_NODE).saturating_add(4 << 20);
    on_stack(stack.min(LARGEST_STACK), || {
        let done = work()?;
        device.synchronize()?;
        Ok(done)
    })?
}

/// Runs `work` on a thread with a stack of so many bytes.
fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes).spawn_scoped(scope, work);
        let thread = thread.map_err(|cause| Error::LargeStack { bytes, cause })?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Refuses a graph too deep to be walked even on a stack of its own, by a naive gradient that drops it step by
/// step.
///
/// # Errors
/// [`Error::NaiveTooDeep`].
pub fn check_walk(steps: usize, nodes_per_step: usize) -> Result<()> {
    let limit = LARGEST_STACK / (BYTES_PER_NODE * nodes_per_step);
    if steps <= limit { Ok(()) } else { Err(Error::NaiveTooDeep { limit }) }
}

/// Refuses a graph that candle may not survive walking or dropping on this thread's stack: one of `before`
/// nodes, and so many for each step.
///
/// # Errors
/// [`Error::GraphTooDeep`].
pub fn check_graph(steps: usize, nodes_per_step: usize, before: usize) -> Result<()> {
    let (room, remedy) = match LARGE.get() {
        true => (LARGEST_STACK / BYTES_PER_NODE / SHARE, "take fewer steps"),
        false => (CALLERS_NODES, "build, differentiate and drop it inside with_large_stack"),
    };
    let limit = room.saturating_sub(before) / nodes_per_step.max(1);
    if steps <= limit { Ok(()) } else { Err(Error::GraphTooDeep { limit, remedy }) }
}
