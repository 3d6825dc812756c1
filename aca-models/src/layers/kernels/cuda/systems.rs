//! Systems of physics in closed form.
#![allow(unsafe_code, reason = "a launch hands addresses to the GPU")]

use aca_core::kernels::cuda::{Argument, Grid, Kernel, Source, empty, tensor};
use candle_core::backend::BackendDevice;
use candle_core::{CudaDevice, DType, Result, Shape, Tensor};

use super::activations::total_columns;
use super::{SYSTEMS, gpu, instance, sources, views};

/// Most blocks that share a sum over states; it says how the sum is rounded, so it knows nothing of the GPU.
const BLOCKS: usize = 256;

/// The systems that `systems.cu` knows.
#[cfg(test)]
pub(super) const NAMES: [&str; 6] =
    ["LinearDecay", "CubicSpiral", "VanDerPol", "LotkaVolterra", "Lorenz", "ThreeBody"];

/// A system of `systems.cu` with contiguous parameters on a GPU.
pub(crate) struct System<'a> {
    /// Its name there.
    pub(crate) name: &'static str,
    /// Numbers of a state, and parameters of one.
    pub(crate) sizes: [usize; 2],
    /// The parameters: of all states, or in rows.
    pub(crate) theta: &'a Tensor,
    /// Whether all states share the parameters.
    pub(crate) shared: bool,
    /// The row of each state as `i64`, where it is not the state's own number.
    pub(crate) rows: Option<&'a Tensor>,
}

impl System<'_> {
    /// Returns the slopes at contiguous states, in one launch.
    pub(crate) fn slopes(&self, y: &Tensor) -> Result<Tensor> {
        let (device, dtype, states) = (gpu(y)?, y.dtype(), y.elem_count() / self.sizes[0]);
        let held = views([self.theta, y, self.rows.unwrap_or(y)])?;
        let [theta, at, rows] = sources(&held)?;
        // SAFETY: the launch writes every element.
        let mut out = unsafe { empty(device, y.elem_count(), dtype)? };
        let arguments = [
            Argument::Write(&mut out, 0),
            Argument::Read(theta),
            Argument::Read(at),
            self.rows(rows),
            Argument::Size(states),
            Argument::Size(usize::from(self.shared)),
        ];
        let name = instance(&format!("slopes_{}", self.name), dtype);
        let kernel = Kernel { program: &SYSTEMS, name: &name, grid: Grid::over(states) };
        // SAFETY: the caller has checked that states, rows and parameters fit.
        unsafe { kernel.launch(device, arguments)? };
        Ok(tensor(out, y.shape()))
    }

    /// Returns the cotangents of contiguous states and of the parameters, in one launch, or in two where
    /// many states share parameters.
    pub(crate) fn pullbacks(&self, y: &Tensor, lambda: &Tensor) -> Result<[Tensor; 2]> {
        let (device, dtype, [dim, params]) = (gpu(y)?, y.dtype(), self.sizes);
        let states = y.elem_count() / dim;
        let held = views([self.theta, y, lambda, self.rows.unwrap_or(y)])?;
        let [theta, at, along, rows] = sources(&held)?;
        let mut grid = Grid::over(states);
        if self.shared {
            grid.blocks[0] = grid.blocks[0].min(BLOCKS);
        }
        let parts = grid.blocks[0];
        let listed = if self.shared { parts * params } else { 1 };
        // SAFETY: the launches write every element of what is read.
        let [mut y_bar, mut list] =
            unsafe { [empty(device, y.elem_count(), dtype)?, empty(device, listed, DType::F64)?] };
        let mut theta_bar = self.room(device, states, dtype)?;
        let arguments = [
            Argument::Write(&mut y_bar, 0),
            Argument::Write(&mut theta_bar, 0),
            Argument::Write(&mut list, 0),
            Argument::Read(theta),
            Argument::Read(at),
            Argument::Read(along),
            self.rows(rows),
            Argument::Size(states),
            Argument::Size(usize::from(self.shared)),
        ];
        let name = instance(&format!("pullbacks_{}", self.name), dtype);
        // SAFETY: the caller has checked that states, rows and parameters fit.
        unsafe { Kernel { program: &SYSTEMS, name: &name, grid }.launch(device, arguments)? };
        if self.shared && parts > 1 {
            total_columns(&mut theta_bar, &list, [parts, params])?;
        }
        Ok([tensor(y_bar, y.shape()), tensor(theta_bar, self.theta.shape())])
    }

    /// Memory for the parameters' cotangents: zeros where some have no state.
    fn room(
        &self,
        device: &CudaDevice,
        states: usize,
        dtype: DType,
    ) -> Result<candle_core::CudaStorage> {
        let size = self.theta.elem_count();
        if self.shared || size == states * self.sizes[1] {
            // SAFETY: every state writes its own, or the blocks write the sums of all.
            return Ok(unsafe { empty(device, size, dtype)? });
        }
        device.zeros_impl(&Shape::from(size), dtype)
    }

    fn rows<'a>(&self, rows: Source<'a>) -> Argument<'a> {
        if self.rows.is_some() { Argument::Read(rows) } else { Argument::Nothing }
    }
}
