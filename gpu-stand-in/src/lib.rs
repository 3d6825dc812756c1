//! Stands in for NVIDIA's driver, cuBLAS, cuDNN and cuRAND where there is no GPU: a program started with this
//! library in `LD_PRELOAD` finds one, whose kernels run on the CPU, instruction by instruction of their PTX.
//!
//! A launch fails with a message where threads read what nothing wrote, touch memory outside an allocation
//! or at an address that is not aligned, race for memory that they share, or wait for threads that never
//! come. Everything runs at once when it is asked for, so it says nothing of streams, nor of speed.
//!
//! `STAND_IN_BACKWARDS=1` runs blocks and threads from the last to the first; `STAND_IN_CALLS=1` prints at
//! the end how often each function of the driver was called, and each kernel launched.

mod access;
mod arithmetic;
mod block;
mod convolutions;
mod driver;
mod libraries;
mod memory;
mod numbers;
mod ptx;
mod reader;
mod shared;

#[cfg(test)]
mod tests;
